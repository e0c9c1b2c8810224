//! When what is in a queue was received. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How many batches were received in each second: each request asks for the oldest, and an hour of batches is 3600 entries.
#[derive(Debug, Default)]
pub(super) struct Ages(BTreeMap<Second, u32>);

/// Seconds since 1970, as far as they fit; times before are 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Second(u32);

impl Ages {
    pub(super) fn add(&mut self, received: Second) {
        *self.0.entry(received).or_default() += 1;
    }

    pub(super) fn remove(&mut self, received: Second) {
        if let Some(batches) = self.0.get_mut(&received) {
            *batches -= 1;
            if *batches == 0 {
                self.0.remove(&received);
            }
        }
    }

    /// When the oldest was received, up to a second too early.
    pub(super) fn oldest(&self) -> Option<SystemTime> {
        self.0.keys().next().map(|second| second.start())
    }
}

impl Second {
    pub(super) fn of(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u32::try_from(since.as_secs()).unwrap_or(u32::MAX))
    }

    fn start(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(u64::from(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_known_until_all_of_its_second_are_gone() {
        let at = |millis| Second::of(UNIX_EPOCH + Duration::from_millis(millis));
        let oldest =
            |ages: &Ages| Some(ages.oldest()?.duration_since(UNIX_EPOCH).unwrap().as_secs());
        let mut ages = Ages::default();
        assert_eq!(oldest(&ages), None);
        for millis in [7_100, 5_900, 5_100] {
            ages.add(at(millis));
        }
        assert_eq!(oldest(&ages), Some(5));
        ages.remove(at(5_100));
        assert_eq!(oldest(&ages), Some(5));
        ages.remove(at(5_900));
        assert_eq!(oldest(&ages), Some(7));
        ages.remove(at(7_100));
        assert_eq!(oldest(&ages), None);
        // Nothing of such a second is there.
        ages.remove(at(7_100));
        ages.add(Second::of(UNIX_EPOCH - Duration::from_secs(9)));
        assert_eq!(oldest(&ages), Some(0));
    }
}
