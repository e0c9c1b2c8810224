//! Pieces of text, one behind the other.

use std::mem;

/// Pieces of text, the first of them without an allocation of their own.
pub(super) struct Text {
    place: [u8; PLACE],
    used: usize,
    /// What had no room in its place.
    more: Vec<u8>,
}

/// As much as the heads of most requests of services have.
const PLACE: usize = 448;

impl Text {
    #[inline]
    pub(super) const fn new() -> Self {
        Self {
            place: [0; PLACE],
            used: 0,
            more: Vec::new(),
        }
    }

    /// Keeps a piece.
    #[inline]
    pub(super) fn push(&mut self, piece: &[u8]) {
        let end = self.used + piece.len();
        match self.place.get_mut(self.used..end) {
            Some(place) => {
                place.copy_from_slice(piece);
                self.used = end;
            }
            None => self.push_more(piece),
        }
    }

    #[cold]
    fn push_more(&mut self, piece: &[u8]) {
        if self.more.is_empty() {
            // For all that is likely to follow.
            self.more.reserve_exact(piece.len() + 2 * PLACE);
        }
        self.more.extend_from_slice(piece);
    }

    /// The pieces, to be taken in the order in which they came.
    pub(super) fn pieces(&self) -> Pieces<'_> {
        Pieces {
            place: &self.place,
            more: &self.more,
        }
    }
}

/// What is left of the pieces.
pub(super) struct Pieces<'a> {
    place: &'a [u8],
    more: &'a [u8],
}

impl<'a> Pieces<'a> {
    /// The next one, of which its length is known. None only if it is not that of a piece.
    pub(super) fn next(&mut self, length: usize) -> Option<&'a [u8]> {
        // As it was kept: in its place if there is room for it.
        let from = match length <= self.place.len() {
            true => &mut self.place,
            false => &mut self.more,
        };
        let (piece, rest) = mem::take(from).split_at_checked(length)?;
        *from = rest;
        Some(piece)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_come_back_in_their_order(pieces in vec("[a-z]{0,200}", 0..12)) {
            let mut text = Text::new();
            for piece in &pieces {
                text.push(piece.as_bytes());
            }
            let mut again = text.pieces();
            for piece in &pieces {
                prop_assert_eq!(again.next(piece.len()), Some(piece.as_bytes()));
            }
        }
    }
}
