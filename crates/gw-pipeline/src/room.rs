//! Extensions that need not grow, and that serve one request after the other.
//!
//! There is no way to ask for room, but entries that are removed leave theirs behind. Without it the extensions of nearly each
//! request would grow on the way, twice: an allocation, and a move of all entries. And to make room for each request anew, and
//! to free it, is three allocations' worth of work.

use std::cell::RefCell;
use std::sync::LazyLock;

use http::Extensions;

/// So many entries have room.
#[cfg(any(feature = "upstream", test))]
const ROOM: usize = 14;

/// So many extensions are kept by a thread. It has hardly ever more requests between two that end.
#[cfg(feature = "upstream")]
const SPARE: usize = 64;

thread_local! {
    static EMPTY: RefCell<Vec<Extensions>> = const { RefCell::new(Vec::new()) };
}

/// Empty extensions with room for 14 entries.
pub(crate) fn roomy() -> Extensions {
    // A thread that ends has none left.
    let spare = EMPTY.try_with(|empty| empty.borrow_mut().pop());
    spare.ok().flatten().unwrap_or_else(|| FRESH.clone())
}

/// Takes what is left of a request, for the next one on this thread.
#[cfg(feature = "upstream")]
pub(crate) fn give_back(mut extensions: Extensions) {
    // A map with half as many entries may have half the room.
    if extensions.len() <= ROOM / 2 {
        return;
    }
    // Before the list is borrowed: what is dropped may give others back.
    extensions.clear();
    _ = EMPTY.try_with(|empty| {
        let mut empty = empty.borrow_mut();
        if empty.len() < SPARE {
            empty.push(extensions);
        }
    });
}

static FRESH: LazyLock<Extensions> = LazyLock::new(|| {
    #[derive(Clone)]
    struct Room<const N: u8>;
    let mut extensions = Extensions::new();
    macro_rules! fill {
        ($($n:literal)*) => { $( extensions.insert(Room::<$n>); )* };
    }
    fill!(0 1 2 3 4 5 6 7 8 9 10 11 12 13);
    // A clone has as much room.
    extensions.clear();
    extensions
});

#[cfg(test)]
mod tests {
    use super::*;

    /// Without a size, so that nothing but the room for it can be allocated.
    #[derive(Clone)]
    struct Entry<const N: u8>;

    fn fill(extensions: &mut Extensions) {
        macro_rules! fill {
            ($($n:literal)*) => { $( extensions.insert(Entry::<$n>); )* };
        }
        fill!(0 1 2 3 4 5 6 7 8 9 10 11 12 13);
        assert_eq!(extensions.len(), ROOM);
    }

    #[test]
    fn there_is_room_for_as_many_entries_without_growing() {
        let mut extensions = roomy();
        let used = allocation_counter::measure(|| fill(&mut extensions));
        assert_eq!(used.count_total, 0);
    }

    #[cfg(feature = "upstream")]
    #[test]
    fn what_was_given_back_is_empty_and_serves_the_next_request() {
        let mut extensions = roomy();
        fill(&mut extensions);
        // The list itself.
        give_back(extensions);
        let used = allocation_counter::measure(|| {
            let mut extensions = roomy();
            assert!(extensions.is_empty());
            fill(&mut extensions);
            give_back(extensions);
        });
        assert_eq!(used.count_total, 0);
    }

    #[cfg(feature = "upstream")]
    #[test]
    fn what_may_have_little_room_is_not_kept_nor_are_too_many() {
        let mut small = Extensions::new();
        small.insert(Entry::<0>);
        give_back(small);
        assert!(EMPTY.with_borrow(Vec::is_empty));
        let many: Vec<_> = (0..=SPARE).map(|_| FRESH.clone()).collect();
        for mut extensions in many {
            fill(&mut extensions);
            give_back(extensions);
        }
        assert_eq!(EMPTY.with_borrow(Vec::len), SPARE);
    }

    #[cfg(feature = "upstream")]
    #[test]
    fn an_entry_may_give_others_back_when_it_goes() {
        #[derive(Clone)]
        struct Nested;
        impl Drop for Nested {
            fn drop(&mut self) {
                let mut extensions = FRESH.clone();
                fill(&mut extensions);
                give_back(extensions);
            }
        }
        let mut extensions = roomy();
        fill(&mut extensions);
        extensions.insert(Nested);
        give_back(extensions);
        assert_eq!(EMPTY.with_borrow(Vec::len), 2);
    }
}
