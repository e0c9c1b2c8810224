//! Whose turn it is when a slot comes free.

use std::collections::VecDeque;

/// So many slots, and who waits for one of them: a `W` to be told, on a runtime of so many `R`.
#[derive(Debug)]
pub(super) struct Turns<R, W> {
    free: usize,
    /// In order of arrival. Nobody waits while a slot is free.
    waiting: VecDeque<Waiting<R, W>>,
    /// So many turns in a row have not been the oldest one's.
    past_the_oldest: usize,
    /// The next one's.
    number: u64,
}

#[derive(Debug)]
struct Waiting<R, W> {
    number: u64,
    runtime: Option<R>,
    who: W,
}

/// One turn of so many is the oldest one's, whatever connection it finds.
///
/// So no more than that share of all exchanges makes connections for want of turns, and slots find their way to a runtime that has
/// more to do than before.
const OF_THE_OLDEST: usize = 8;

/// What becomes of who comes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// It has a slot.
    Free,
    /// It waits under this number.
    Waits(u64),
    /// The queue is full.
    Refused,
}

impl<R: Copy + PartialEq, W> Turns<R, W> {
    /// With `slots` that are free.
    pub(super) const fn new(slots: usize) -> Self {
        Self {
            free: slots,
            waiting: VecDeque::new(),
            past_the_oldest: 0,
            number: 0,
        }
    }

    pub(super) const fn free(&self) -> usize {
        self.free
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes a slot, if one is free.
    pub(super) fn take(&mut self) -> bool {
        let left = self.free.checked_sub(1);
        self.free = left.unwrap_or_default();
        left.is_some()
    }

    /// Somebody comes who takes a slot if one is free, and else waits, if there are no more than so many then.
    pub(super) fn join(&mut self, most: usize, runtime: Option<R>, who: W) -> Entry {
        if self.take() {
            return Entry::Free;
        }
        if self.waiting.len() >= most {
            return Entry::Refused;
        }
        let number = self.number;
        self.number = number.wrapping_add(1);
        self.waiting.push_back(Waiting {
            number,
            runtime,
            who,
        });
        Entry::Waits(number)
    }

    /// Who waits under this number waits no longer. None if it did not: it has been given a slot.
    pub(super) fn leave(&mut self, number: u64) -> Option<W> {
        let index = self.waiting.iter().position(|it| it.number == number)?;
        self.waiting.remove(index).map(|it| it.who)
    }

    /// A slot comes free, whose exchange has `left` an idle connection to that runtime. Whose the slot is now, if anybody waits.
    ///
    /// On another runtime that connection would have to be closed, and another one made. So it is the oldest one's of the same runtime,
    /// if there is one, but now and then that of the oldest of all.
    pub(super) fn release(&mut self, left: Option<R>) -> Option<W> {
        if self.waiting.is_empty() {
            self.free += 1;
            return None;
        }
        let fits = |it: &Waiting<R, W>| left.is_some() && it.runtime == left;
        let index = match self.past_the_oldest + 1 < OF_THE_OLDEST {
            true => self.waiting.iter().position(fits).unwrap_or_default(),
            false => 0,
        };
        self.past_the_oldest = match index {
            0 => 0,
            _ => self.past_the_oldest + 1,
        };
        self.waiting.remove(index).map(|it| it.who)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many slots, all of them taken, and who waits for one on which runtime.
    fn taken(slots: usize, waiting: &[(char, &'static str)]) -> Turns<char, &'static str> {
        let mut turns = Turns::new(slots);
        while turns.take() {}
        for (runtime, who) in waiting {
            assert!(matches!(
                turns.join(100, Some(*runtime), *who),
                Entry::Waits(_)
            ));
        }
        turns
    }

    #[test]
    fn who_comes_takes_a_slot_or_waits_or_is_refused() {
        let mut turns = Turns::new(1);
        assert_eq!(turns.join(1, Some('a'), "first"), Entry::Free);
        assert!(!turns.take());
        assert_eq!(turns.join(1, Some('a'), "second"), Entry::Waits(0));
        assert_eq!(turns.join(1, Some('a'), "third"), Entry::Refused);
        assert_eq!(turns.release(None), Some("second"));
        assert_eq!((turns.free(), turns.waiting()), (0, 0));
        assert_eq!(turns.release(None), None);
        assert_eq!(turns.free(), 1);
    }

    #[test]
    fn who_leaves_is_passed_over_and_learns_if_it_had_its_turn() {
        let mut turns = taken(8, &[('a', "first"), ('a', "second"), ('a', "third")]);
        assert_eq!(turns.release(None), Some("first"));
        assert_eq!(turns.leave(0), None);
        assert_eq!(turns.leave(1), Some("second"));
        assert_eq!(turns.leave(1), None);
        assert_eq!(turns.release(None), Some("third"));
    }

    /// Story: a slot went to whoever had waited for the longest. With two threads that was one of the other thread every second time,
    /// which closed the connection that the slot's exchange had left, and made one of its own.
    #[test]
    fn a_slot_stays_with_the_connection_that_is_left() {
        let waiting = [('a', "a1"), ('b', "b1"), ('a', "a2"), ('b', "b2")];
        let mut turns = taken(8, &waiting);
        assert_eq!(turns.release(Some('b')), Some("b1"));
        assert_eq!(turns.release(Some('b')), Some("b2"));
        // Nobody waits there any more.
        assert_eq!(turns.release(Some('b')), Some("a1"));
        let mut turns = taken(8, &waiting);
        // No connection is left: one has to be made for whoever it is.
        assert_eq!(turns.release(None), Some("a1"));
        assert_eq!(turns.release(None), Some("b1"));
    }

    #[test]
    fn one_turn_of_some_is_the_oldest_ones() {
        let mut turns = taken(8, &[('a', "a1"), ('a', "a2")]);
        let mut had = Vec::new();
        for _ in 0..2 * OF_THE_OLDEST {
            turns.join(100, Some('b'), "b");
            had.extend(turns.release(Some('b')));
        }
        let others = ["b"; OF_THE_OLDEST - 1];
        let expected = [&others[..], &["a1"], &others, &["a2"]];
        assert_eq!(had, expected.concat());
    }
}
