//! Whether a client of HTTP/2 gives up more than it takes: the pure part.

use std::time::Duration;

use tokio::time::Instant;

/// So many requests a client of HTTP/2 may give up before their answers begin, unless as many are answered meanwhile, and so many
/// hyper resets for its faults. Each was work begun for nothing (rapid reset, CVE-2023-44487; MadeYouReset, CVE-2025-8671).
pub(super) const GIVEN_UP: u16 = 900;

/// Who has waited for so long may be weary of waiting. A flood of such requests is no faster than the streams of its
/// connection allow.
const RAPID: Duration = Duration::from_secs(1);

/// What happens within so long is counted together.
const PERIOD: Duration = Duration::from_secs(30);

/// What has become of the requests of one connection.
#[derive(Debug)]
pub(super) struct Resets {
    /// When the first of them ended.
    since: Option<Instant>,
    answered: u16,
    given_up: u16,
}

impl Resets {
    pub(super) const fn new() -> Self {
        Self {
            since: None,
            answered: 0,
            given_up: 0,
        }
    }

    /// Whether the client has given up too many requests, with one that began at `started` and has ended now, `answered` or not.
    pub(super) fn too_many(&mut self, started: Instant, now: Instant, answered: bool) -> bool {
        if self
            .since
            .is_none_or(|since| now.saturating_duration_since(since) > PERIOD)
        {
            *self = Self::new();
            self.since = Some(now);
        }
        if answered {
            self.answered += 1;
        } else if now.saturating_duration_since(started) < RAPID {
            self.given_up = self.given_up.saturating_add(1);
        }
        if self.answered >= GIVEN_UP {
            (self.answered, self.given_up) = (0, 0);
        }
        self.given_up > GIVEN_UP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether any of `count` requests is one too many: one each `every`, each given up after `lived`.
    fn are_too_many(count: u32, every: Duration, lived: Duration) -> bool {
        let (mut resets, start) = (Resets::new(), Instant::now());
        let mut ends = (0..count).map(|n| start + every * n);
        ends.any(|started| resets.too_many(started, started + lived, false))
    }

    /// Story: a proxy that gave up what a stalled upstream did not answer was cut, with all its other clients.
    #[test]
    fn who_has_waited_may_give_up() {
        const JUST_BEFORE: Duration = Duration::from_millis(999);
        assert!(!are_too_many(1000, Duration::ZERO, RAPID));
        assert!(are_too_many(1000, Duration::ZERO, JUST_BEFORE));
    }

    /// Story: long connections were cut for what was given up over days.
    #[test]
    fn what_is_given_up_now_and_then_may_be() {
        let every = PERIOD / u32::from(GIVEN_UP);
        assert!(are_too_many(u32::from(GIVEN_UP) + 1, every, Duration::ZERO));
        assert!(!are_too_many(10_000, every * 2, Duration::ZERO));
    }

    #[test]
    fn as_many_as_are_answered_may_be_given_up() {
        let (mut resets, now) = (Resets::new(), Instant::now());
        for n in 0..10_000 {
            assert!(!resets.too_many(now, now, n % 2 == 0));
        }
        assert!((0..=GIVEN_UP).any(|_| resets.too_many(now, now, false)));
    }
}
