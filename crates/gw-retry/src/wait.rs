//! How long a retry waits, and until when.

use std::time::Duration;

use tokio::time::Instant;

use crate::info::Stopped;
/// The wait before a retry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) time: Duration,
    /// When it is over; none if there is nothing to wait for.
    pub(crate) due: Option<Instant>,
}

impl Wait {
    /// # Errors
    ///
    /// It is over at no instant that there is. An upstream alone asks for so much, and a policy may allow for anything.
    pub(crate) fn from(now: Instant, time: Duration) -> Result<Self, Stopped> {
        let due = match time {
            Duration::ZERO => None,
            _ => Some(now.checked_add(time).ok_or(Stopped::Pushback)?),
        };
        Ok(Self { time, due })
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_waited_for_is_not_sent_at_once() {
        // Story: an instant that would overflow was none, which is that of a retry that need not wait.
        let now = Instant::now();
        let wait = |time| Wait::from(now, time).map(|wait| wait.due);
        assert_eq!(wait(Duration::ZERO), Ok(None));
        let second = Duration::from_secs(1);
        assert_eq!(wait(second), Ok(Some(now + second)));
        assert_eq!(wait(Duration::MAX), Err(Stopped::Pushback));
    }
}
