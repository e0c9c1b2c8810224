//! Extensions that need not grow.

use http::Extensions;

/// Empty extensions with room for 14 entries, and so are their clones.
///
/// There is no way to ask for room, but entries that are removed leave theirs behind, and a clone has as much. Without it the
/// extensions of nearly each request would grow on the way, twice: an allocation, and a move of all entries.
pub(crate) fn roomy() -> Extensions {
    #[derive(Clone)]
    struct Room<const N: u8>;
    let mut extensions = Extensions::new();
    macro_rules! fill {
        ($($n:literal)*) => { $( extensions.insert(Room::<$n>); )* };
    }
    fill!(0 1 2 3 4 5 6 7 8 9 10 11 12 13);
    extensions.clear();
    extensions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_takes_as_many_entries_without_growing() {
        let mut clone = roomy().clone();
        // Without a size, so that nothing but the room for it can be allocated.
        #[derive(Clone)]
        struct Entry<const N: u8>;
        macro_rules! fill {
            ($($n:literal)*) => { $( clone.insert(Entry::<$n>); )* };
        }
        let used = allocation_counter::measure(|| {
            fill!(0 1 2 3 4 5 6 7 8 9 10 11 12 13);
        });
        assert_eq!((clone.len(), used.count_total), (14, 0));
    }
}
