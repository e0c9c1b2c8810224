//! The `Retry-After` field (RFC 9110 section 10.2.3): reading it and printing it.

use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use http::{Extensions, HeaderValue};

/// When to come back, in whole seconds: rounded up and at least 1, so a client never returns too early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RetryAfter(NonZeroU32);

impl RetryAfter {
    /// A fifth.
    const JITTER_PART: u32 = 5;

    /// The first whole second that is not before `wait`; one second for a wait of zero.
    pub fn at_least(wait: Duration) -> Self {
        let seconds = wait
            .as_secs()
            .saturating_add(u64::from(wait.subsec_nanos() > 0));
        let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
        Self(NonZeroU32::new(seconds).unwrap_or(NonZeroU32::MIN))
    }

    /// Adds up to a fifth to [`RetryAfter::at_least`] and never less than up to a second, so that clients refused
    /// together do not come back together.
    ///
    /// Each of the whole seconds that it can come to is equally likely: a wait of 1 becomes 1 or 2, one of 10 becomes
    /// 10, 11 or 12. The random part is drawn in whole seconds, since what is drawn in parts of one and rounded up
    /// afterwards would move a wait of whole seconds on without spreading it.
    pub fn jittered(wait: Duration) -> Self {
        let least = Self::at_least(wait).0;
        let spread = (least.get() / Self::JITTER_PART).max(1);
        Self(least.saturating_add(fastrand::u32(0..=spread)))
    }

    /// The number of seconds, at least 1.
    pub const fn seconds(self) -> u32 {
        self.0.get()
    }

    /// The same as a [`Duration`].
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.0.get() as u64)
    }

    /// The value of the field.
    pub fn header_value(self) -> HeaderValue {
        HeaderValue::from(self.seconds())
    }

    /// Reads a field value: seconds, or an HTTP date seen from `now`. A date in the past is a wait of zero.
    ///
    /// `None` for anything else; a caller that trusts a peer's wait must clamp it.
    pub fn parse(value: &HeaderValue, now: SystemTime) -> Option<Duration> {
        let text = value.to_str().ok()?.trim();
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            // More than fits: as far away as we can say.
            let seconds: u32 = text.parse().unwrap_or(u32::MAX);
            return Some(Duration::from_secs(seconds.into()));
        }
        let date = httpdate::parse_http_date(text).ok()?;
        Some(date.duration_since(now).unwrap_or(Duration::ZERO))
    }
}

/// Left in an answer's extensions by a layer that lets nobody pass before: whoever writes `Retry-After` further out names no
/// earlier time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotBefore(RetryAfter);

impl NotBefore {
    /// The latest time that layers further in have left.
    pub fn of(extensions: &Extensions) -> Option<RetryAfter> {
        extensions.get().map(|Self(after)| *after)
    }

    /// Leaves `after`, unless a later time is there.
    pub fn leave(after: RetryAfter, extensions: &mut Extensions) {
        let Self(latest) = extensions.get_or_insert(Self(after));
        *latest = after.max(*latest);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rounds_up_and_is_at_least_one() {
        for (millis, seconds) in [(0, 1), (1, 1), (999, 1), (1000, 1), (1001, 2), (59_999, 60)] {
            assert_eq!(
                RetryAfter::at_least(Duration::from_millis(millis)).seconds(),
                seconds
            );
        }
        assert_eq!(RetryAfter::at_least(Duration::MAX).seconds(), u32::MAX);
    }

    #[test]
    fn reads_seconds_and_dates() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let parse = |text: &'static str| RetryAfter::parse(&HeaderValue::from_static(text), now);
        assert_eq!(parse("120"), Some(Duration::from_secs(120)));
        assert_eq!(parse("0"), Some(Duration::ZERO));
        // Story: what did not fit into 64 bits was a wait of 136 years, and what just did one of 584 billion.
        for longest in [
            "4294967295",
            "4294967296",
            "18446744073709551615",
            "18446744073709551616",
            "99999999999999999999999",
        ] {
            let seconds = Duration::from_secs(u32::MAX.into());
            assert_eq!(parse(longest), Some(seconds), "{longest}");
        }
        assert_eq!(
            parse("0000000000000000000000120"),
            Some(Duration::from_secs(120))
        );
        assert_eq!(
            parse("Sun, 09 Sep 2001 01:47:10 GMT"),
            Some(Duration::from_secs(30))
        );
        assert_eq!(parse("Sat, 09 Sep 2000 01:47:10 GMT"), Some(Duration::ZERO));
        for garbage in ["", "-1", "+1", "1.5", "soon", "0x10"] {
            assert_eq!(parse(garbage), None, "{garbage:?}");
        }
    }

    #[test]
    fn whole_seconds_spread_as_well() {
        // Story: a part of a second was added before rounding up, so all who were told to wait for exactly 1 second
        // came back together after 2.
        fastrand::seed(7);
        for (seconds, all) in [
            (0, 1..=2),
            (1, 1..=2),
            (5, 5..=6),
            (10, 10..=12),
            (25, 25..=30),
        ] {
            let wait = Duration::from_secs(seconds);
            let drawn: BTreeSet<u32> = (0..200)
                .map(|_| RetryAfter::jittered(wait).seconds())
                .collect();
            assert_eq!(drawn, all.collect());
        }
        let last = RetryAfter::jittered(Duration::MAX);
        assert_eq!(last.seconds(), u32::MAX);
    }

    #[test]
    fn of_several_times_the_latest_stays() {
        let mut answer = Extensions::new();
        assert_eq!(NotBefore::of(&answer), None);
        for (left, latest) in [(5, 5), (9, 9), (7, 9)] {
            let [left, latest] =
                [left, latest].map(|seconds| RetryAfter::at_least(Duration::from_secs(seconds)));
            NotBefore::leave(left, &mut answer);
            assert_eq!(NotBefore::of(&answer), Some(latest));
        }
    }

    proptest! {
        #[test]
        fn jitter_never_comes_back_early(nanos in 0..u64::MAX / 2, seed: u64) {
            let wait = Duration::from_nanos(nanos);
            let exact = RetryAfter::at_least(wait);
            fastrand::seed(seed);
            let jittered = RetryAfter::jittered(wait);
            prop_assert!(jittered >= exact);
            prop_assert!(jittered.duration() <= wait.mul_f64(1.2) + Duration::from_secs(2));
        }
    }
}
