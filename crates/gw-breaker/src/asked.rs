use crate::sync::{AtomicU64, Ordering};
use crate::word::LATEST;

/// For how long the upstream has asked to be left alone, by the failures of a closed breaker: the one that opens it may not be
/// the one that said so.
///
/// One word: the time at which that was heard, in the 40 bits that a generation has, above 16 bits of seconds. Written only by
/// failures that ask for something. Of two that do so at the same time one may be lost, which makes the wait a little shorter.
#[derive(Debug, Default)]
pub(crate) struct Asked(AtomicU64);

const SECONDS_BITS: u32 = u16::BITS;
const _: () = assert!(
    LATEST >> (u64::BITS - SECONDS_BITS) == 0,
    "a time fits above the seconds"
);

impl Asked {
    /// A failure of `generation` asks for so much at `now`. What is over sooner than what is known is nothing new; as many seconds
    /// as are left are over later, since those are rounded up.
    pub(crate) fn hear(&self, generation: u64, now: u64, seconds: u16) {
        if seconds > 0 && seconds >= self.left(generation, now) {
            let heard = now << SECONDS_BITS | u64::from(seconds);
            self.0.store(heard, Ordering::Relaxed);
        }
    }

    /// The seconds that are left at `now` of what was asked for in `generation`, rounded up.
    pub(crate) fn left(&self, generation: u64, now: u64) -> u16 {
        let heard = self.0.load(Ordering::Relaxed);
        let (at, seconds) = (heard >> SECONDS_BITS, heard as u16);
        // A generation is above whatever was put down before it.
        if at < generation {
            return 0;
        }
        let passed = now.saturating_sub(at) / 1000;
        seconds.saturating_sub(passed.try_into().unwrap_or(u16::MAX))
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_last_until_then_is_kept_while_it_is_the_same_generation() {
        let asked = Asked::default();
        assert_eq!(asked.left(1, 1), 0);
        asked.hear(5, 5, 30);
        asked.hear(5, 1_005, 3);
        let left = |now| asked.left(5, now);
        assert_eq!(
            [5, 1_004, 1_005, 29_005, 30_005].map(left),
            [30, 30, 29, 1, 0]
        );
        assert_eq!([LATEST, 0].map(left), [0, 30]);
        assert_eq!(asked.left(6, 10), 0);
        asked.hear(5, 1_005, u16::MAX);
        assert_eq!(left(1_005), u16::MAX);
        asked.hear(1_006, 1_006, 1);
        assert_eq!(asked.left(1_006, 1_006), 1);
        asked.hear(1_006, 1_506, 1);
        assert_eq!(asked.left(1_006, 2_105), 1);
    }
}
