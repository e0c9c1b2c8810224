//! The timers of one exchange: pure arithmetic, no clock of its own.

use std::time::Duration;

use gw_core::context::Deadline;
use tokio::time::Instant;

use super::error::ErrorKind;
use super::upload::Progress;
use crate::timeouts::Timeouts;

/// The instants and gaps that bound one exchange.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The head of the answer must be there.
    pub(super) attempt_end: Instant,
    /// Which timer that is.
    pub(super) attempt_kind: ErrorKind,
    /// What that is called while the client is waited for as well.
    upload_kind: ErrorKind,
    /// The end of the answer must be there.
    pub(super) deadline: Option<Instant>,
    /// What it is that has passed then.
    pub(super) deadline_kind: ErrorKind,
    first_byte: Duration,
    send: Duration,
    idle: Duration,
}

impl Limits {
    pub(super) fn new(
        now: Instant,
        timeouts: Timeouts,
        deadline: Option<Deadline>,
        send: Duration,
    ) -> Self {
        let attempt_end = later(now, timeouts.attempt);
        let deadline_kind = match deadline {
            Some(deadline) if deadline.is_by_client() => ErrorKind::ClientDeadline,
            _ => ErrorKind::DeadlinePassed,
        };
        let deadline = deadline.map(Deadline::instant);
        let (attempt_end, attempt_kind) = match deadline {
            Some(deadline) if deadline < attempt_end => (deadline, deadline_kind),
            _ => (attempt_end, ErrorKind::AttemptTimeout),
        };
        let upload_kind = match attempt_kind {
            // The client itself has said so.
            ErrorKind::ClientDeadline => ErrorKind::ClientDeadline,
            _ => ErrorKind::UploadTimeout,
        };
        Self {
            attempt_end,
            attempt_kind,
            upload_kind,
            deadline,
            deadline_kind,
            first_byte: timeouts.first_byte,
            send,
            idle: timeouts.idle,
        }
    }

    /// Those of a gRPC call. Its client may have said what it had to, and wait for the other side.
    pub(super) fn of_a_call(mut self) -> Self {
        if self.upload_kind == ErrorKind::UploadTimeout {
            self.upload_kind = ErrorKind::CallTimeout;
        }
        self
    }

    /// Whether the end of the answer is due when the client says.
    pub(super) fn deadline_is_by_client(&self) -> bool {
        self.deadline_kind == ErrorKind::ClientDeadline
    }

    /// When the wait for a slot is over that may last until `queue_end`, and why.
    pub(super) fn queue_due(&self, queue_end: Instant) -> (Instant, ErrorKind) {
        match self.attempt_kind {
            // The time is the client's: there is no use in its coming back with the same.
            ErrorKind::DeadlinePassed | ErrorKind::ClientDeadline
                if self.attempt_end <= queue_end =>
            {
                (self.attempt_end, ErrorKind::QueueDeadline)
            }
            // No attempt has been made yet, so nothing is said about the upstream.
            _ => (self.attempt_end.min(queue_end), ErrorKind::QueueTimeout),
        }
    }

    /// What it is called that the time is over before there is a connection. Nothing has been sent by then.
    pub(super) fn connect_kind(&self) -> ErrorKind {
        match self.attempt_kind {
            ErrorKind::AttemptTimeout => ErrorKind::ConnectTimeout,
            kind => kind,
        }
    }

    /// When the wait for the head must be looked at again, and what has happened if it is that late already.
    pub(super) fn head_due(&self, progress: Progress, now: Instant) -> (Instant, ErrorKind) {
        let (due, kind) = match progress {
            Progress::Sent(at) => (later(at, self.first_byte), ErrorKind::FirstByteTimeout),
            Progress::Unread(since) => (later(since, self.send), ErrorKind::SendTimeout),
            // Nothing is overdue. A piece handed over from now on is not before that instant.
            Progress::Waiting(_) => (later(now, self.send), ErrorKind::SendTimeout),
        };
        match progress {
            _ if due < self.attempt_end => (due, kind),
            // The upstream waits for the client as well.
            Progress::Waiting(_) => (self.attempt_end, self.upload_kind),
            Progress::Sent(_) | Progress::Unread(_) => (self.attempt_end, self.attempt_kind),
        }
    }

    /// When a body that has been waited for since `since` is overdue, and why.
    ///
    /// An upstream that answers while it reads cannot go on before the client does. So a request that is still on its way
    /// breaks the gap with each piece, and while the client is waited for it is the client that is late. That an upstream
    /// could have answered without the rest cannot be told from here: it gets the benefit of the doubt.
    pub(super) fn body_due(&self, since: Instant, progress: Progress) -> (Instant, ErrorKind) {
        let (moved, blamed) = match progress {
            Progress::Waiting(at) => (at, Some(ErrorKind::UploadTimeout)),
            Progress::Sent(at) | Progress::Unread(at) => (at, None),
        };
        let due = later(since.max(moved), self.idle);
        match self.deadline {
            Some(deadline) if deadline <= due => (deadline, blamed.unwrap_or(self.deadline_kind)),
            _ => (due, blamed.unwrap_or(ErrorKind::IdleTimeout)),
        }
    }
}

/// What it is called that the deadline has passed within an answer: whoever was waited for longer has used up the time.
pub(super) fn deadline_kind(upstream: Duration, client: Duration) -> ErrorKind {
    match client > upstream {
        true => ErrorKind::DownloadTimeout,
        false => ErrorKind::DeadlinePassed,
    }
}

/// As good as never, and no point in time that is computed from it is beyond what a clock can tell.
pub(super) const DECADES: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// `wait` after `now`, or some decades for a wait that no instant can tell.
pub(super) fn later(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait).unwrap_or_else(|| now + DECADES)
}

#[cfg(test)]
mod tests {
    use gw_core::attempt::Failure;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits(now: Instant, deadline: Option<Duration>) -> Limits {
        let timeouts = Timeouts::new()
            .attempt(10 * SECOND)
            .first_byte(4 * SECOND)
            .idle(3 * SECOND);
        let deadline = deadline.map(|after| Deadline::at(now + after));
        Limits::new(now, timeouts, deadline, 2 * SECOND)
    }

    #[test]
    fn the_attempt_ends_with_the_deadline_if_that_is_nearer() {
        let now = Instant::now();
        let limits = limits(now, Some(6 * SECOND));
        assert_eq!(limits.attempt_end, now + 6 * SECOND);
        assert_eq!(limits.attempt_kind, ErrorKind::DeadlinePassed);
        assert_eq!(limits.connect_kind(), ErrorKind::DeadlinePassed);
        let limits = self::limits(now, Some(60 * SECOND));
        assert_eq!(limits.attempt_kind, ErrorKind::AttemptTimeout);
        assert_eq!(limits.connect_kind(), ErrorKind::ConnectTimeout);
    }

    #[test]
    fn a_client_that_gives_little_time_does_not_blame_the_upstream() {
        let now = Instant::now();
        let timeouts = Timeouts::new()
            .attempt(10 * SECOND)
            .first_byte(8 * SECOND)
            .idle(9 * SECOND);
        let deadline = Deadline::at(now + SECOND).by_client();
        let limits = Limits::new(now, timeouts, Some(deadline), 2 * SECOND);
        let due = (now + SECOND, ErrorKind::ClientDeadline);
        assert_eq!(limits.head_due(Progress::Sent(now), now), due);
        assert_eq!(limits.body_due(now, Progress::Sent(now)), due);
        // Nor does it blame itself.
        assert_eq!(limits.head_due(Progress::Waiting(now), now), due);
        assert_eq!(due.1.failure(), Failure::Local);
        let queued = limits.queue_due(now + 2 * SECOND);
        assert_eq!(queued.1, ErrorKind::QueueDeadline);
    }

    #[test]
    fn the_wait_for_the_head_is_bounded_by_what_is_going_on() {
        let start = Instant::now();
        let limits = limits(start, None);
        let now = start + SECOND;
        let due = |progress| limits.head_due(progress, now);
        assert_eq!(
            due(Progress::Sent(now)),
            (now + 4 * SECOND, ErrorKind::FirstByteTimeout)
        );
        assert_eq!(
            due(Progress::Unread(start)),
            (start + 2 * SECOND, ErrorKind::SendTimeout)
        );
        assert_eq!(due(Progress::Waiting(start)).0, now + 2 * SECOND);
        assert_eq!(
            limits.head_due(Progress::Waiting(start), start + 9 * SECOND),
            (start + 10 * SECOND, ErrorKind::UploadTimeout)
        );
        // Sent late: what is left of the attempt is less than the wait for the first byte.
        assert_eq!(
            due(Progress::Sent(start + 8 * SECOND)),
            (start + 10 * SECOND, ErrorKind::AttemptTimeout)
        );
    }

    #[test]
    fn the_wait_for_a_slot_ends_with_the_queues_time_or_the_deadline() {
        let now = Instant::now();
        let queue_end = now + 5 * SECOND;
        let due = |deadline| limits(now, deadline).queue_due(queue_end);
        assert_eq!(due(None), (queue_end, ErrorKind::QueueTimeout));
        assert_eq!(due(Some(6 * SECOND)).1, ErrorKind::QueueTimeout);
        let deadline = (now + 2 * SECOND, ErrorKind::QueueDeadline);
        assert_eq!(due(Some(2 * SECOND)), deadline);
        let attempt = limits(now, None).queue_due(now + 60 * SECOND);
        assert_eq!(attempt, (now + 10 * SECOND, ErrorKind::QueueTimeout));
    }

    #[test]
    fn a_body_ends_with_its_exchange() {
        let now = Instant::now();
        let limits = limits(now, Some(5 * SECOND));
        let due = |since| limits.body_due(since, Progress::Sent(now));
        assert_eq!(due(now), (now + 3 * SECOND, ErrorKind::IdleTimeout));
        let end = (now + 5 * SECOND, ErrorKind::DeadlinePassed);
        assert_eq!(due(now + 4 * SECOND), end);
    }

    #[test]
    fn a_gap_while_the_request_comes_is_not_the_upstreams() {
        let now = Instant::now();
        let limits = limits(now, Some(20 * SECOND));
        let due = |progress| limits.body_due(now + SECOND, progress);
        let idle = |after| (now + after * SECOND, ErrorKind::IdleTimeout);
        assert_eq!(due(Progress::Unread(now)), idle(4));
        // Each piece of the request breaks the gap,
        assert_eq!(due(Progress::Unread(now + 6 * SECOND)), idle(9));
        assert_eq!(due(Progress::Sent(now + 7 * SECOND)), idle(10));
        // and what is missing is the client's.
        let upload = |after| (now + after * SECOND, ErrorKind::UploadTimeout);
        assert_eq!(due(Progress::Waiting(now)), upload(4));
        assert_eq!(due(Progress::Waiting(now + 6 * SECOND)), upload(9));
        assert_eq!(due(Progress::Waiting(now + 19 * SECOND)), upload(20));
    }

    #[test]
    fn who_took_longer_has_used_up_the_time() {
        let kind = |upstream, client| deadline_kind(upstream * SECOND, client * SECOND);
        assert_eq!(kind(1, 29), ErrorKind::DownloadTimeout);
        assert_eq!(kind(29, 1), ErrorKind::DeadlinePassed);
        assert_eq!(kind(15, 15), ErrorKind::DeadlinePassed);
    }

    #[test]
    fn no_wait_is_too_long() {
        let now = Instant::now();
        assert!(later(now, Duration::MAX) > now + Duration::from_secs(1_000_000));
    }
}
