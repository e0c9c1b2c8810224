use std::fmt;
use std::sync::OnceLock;

/// A table that takes so many entries and never gives one up, read and filled without a lock.
///
/// What has no place in it is the caller's to count: that is how labels stay bounded.
pub(crate) struct Bounded<K, V> {
    slots: Box<[OnceLock<(K, V)>]>,
}

impl<K, V> Bounded<K, V> {
    pub(crate) fn new(capacity: usize) -> Self {
        let slots = (0..capacity).map(|_| OnceLock::new()).collect();
        Self { slots }
    }

    /// The value of the key that `is` says yes to, made by `make` if it is new and there is room.
    ///
    /// `hash` says where to look first, and must be the same for the same key.
    pub(crate) fn get_or_insert(
        &self,
        hash: usize,
        is: impl Fn(&K) -> bool,
        make: impl Fn() -> (K, V),
    ) -> Option<&V> {
        let first = hash.checked_rem(self.slots.len())?;
        let (before, from) = self.slots.split_at_checked(first)?;
        from.iter()
            .chain(before)
            .map(|slot| slot.get_or_init(&make))
            .find(|(key, _)| is(key))
            .map(|(_, value)| value)
    }
}

impl<K, V> fmt::Debug for Bounded<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filled = self.slots.iter().filter(|slot| slot.get().is_some());
        f.debug_struct("Bounded")
            .field("capacity", &self.slots.len())
            .field("filled", &filled.count())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_so_many_keys_and_no_more() {
        let table = Bounded::new(4);
        let value = |key: usize| {
            let value = table.get_or_insert(key / 2, |it| *it == key, || (key, key * 10));
            value.copied()
        };
        for round in 0..2 {
            for key in [3, 9, 2, 8] {
                assert_eq!(value(key), Some(key * 10), "{round}");
            }
            assert_eq!(value(1), None);
        }
        let none = Bounded::<u8, u8>::new(0);
        assert_eq!(none.get_or_insert(0, |_| true, || (0, 0)), None);
    }

    #[test]
    fn threads_agree_on_the_values() {
        let table = Bounded::new(64);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for key in 0..64usize {
                        let value = table.get_or_insert(key % 7, |it| *it == key, || (key, key));
                        assert_eq!(value, Some(&key));
                    }
                });
            }
        });
        assert_eq!(format!("{table:?}"), "Bounded { capacity: 64, filled: 64 }");
    }
}
