//! What a connection is doing, and until when: the pure part.

use std::time::Duration;

use tokio::time::Instant;

use super::closed::CloseReason;
use super::config::Timers;

/// How long a connection without a request, whose client says nothing, stays once the server wants it gone.
///
/// A client that has just connected may be about to send its request; on HTTP/2 the goodbye takes a round trip.
pub(super) const FAREWELL: Duration = Duration::from_secs(1);

/// What one connection is doing.
#[derive(Debug)]
pub(super) struct Activity {
    phase: Phase,
    /// HTTP/2: several requests at a time, and bytes between requests need not belong to a head.
    multiplexed: bool,
    /// Any byte has come.
    begun: bool,
    /// The last request had no body, so that the bytes after it can only be a head.
    bodiless: bool,
    /// A write has been waiting for the client since then.
    blocked: Option<Instant>,
}

/// The server wants the connection gone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaving {
    pub(super) since: Instant,
    pub(super) reason: CloseReason,
    /// The client has said something since then.
    pub(super) heard: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waiting for the rest of a head, or for the first request.
    Head { since: Instant },
    /// Between requests.
    Idle { since: Instant },
    /// So many requests are being served.
    Busy { open: u32 },
    /// No longer HTTP.
    Tunnel,
}

impl Activity {
    pub(super) const fn new(accepted: Instant) -> Self {
        Self {
            phase: Phase::Head { since: accepted },
            multiplexed: false,
            begun: false,
            bodiless: true,
            blocked: None,
        }
    }

    /// The connection speaks HTTP/2.
    pub(super) const fn multiplex(&mut self) {
        self.multiplexed = true;
    }

    /// Bytes came.
    ///
    /// Bytes that come while a request is served may hold the start of the next head; they are not told apart. Such
    /// a head gets the idle time on top, which a client can have anyway.
    pub(super) const fn received(&mut self, now: Instant) {
        self.begun = true;
        if matches!(self.phase, Phase::Idle { .. }) && !self.multiplexed {
            self.phase = Phase::Head { since: now };
        }
    }

    /// A request is handed to the service.
    pub(super) const fn started(&mut self, bodiless: bool) {
        self.begun = true;
        self.bodiless = bodiless;
        self.phase = match self.phase {
            Phase::Busy { open } => Phase::Busy {
                open: open.saturating_add(1),
            },
            _ => Phase::Busy { open: 1 },
        };
    }

    /// A request's answer has ended, or was given up.
    pub(super) const fn ended(&mut self, now: Instant) {
        match self.phase {
            Phase::Busy { open: 0 | 1 } => self.phase = Phase::Idle { since: now },
            Phase::Busy { open } => self.phase = Phase::Busy { open: open - 1 },
            // A tunnel's request ends with its head.
            Phase::Head { .. } | Phase::Idle { .. } | Phase::Tunnel => {}
        }
    }

    /// The connection has left HTTP.
    pub(super) const fn tunnel(&mut self) {
        self.phase = Phase::Tunnel;
    }

    /// A write has to wait for the client.
    pub(super) fn write_blocked(&mut self, now: Instant) {
        self.blocked.get_or_insert(now);
    }

    /// The client's side took bytes. The clock is only looked at where it matters, since each answer comes through here.
    pub(super) fn wrote(&mut self, now: impl FnOnce() -> Instant) {
        // What is left of an answer may be sent long after its body was handed over. Without a wait it is sent at once,
        // but for HTTP/2, where the client's windows are waited for as well.
        let late = self.blocked.take().is_some() || self.multiplexed;
        if late && matches!(self.phase, Phase::Idle { .. }) {
            self.phase = Phase::Idle { since: now() };
        }
    }

    /// Since when the connection has had no request, if it has none. Never goes back.
    pub(super) const fn quiet_since(&self) -> Option<Instant> {
        match self.phase {
            Phase::Head { since } | Phase::Idle { since } if self.blocked.is_none() => Some(since),
            _ => None,
        }
    }

    /// How many requests are being served.
    pub(super) const fn open(&self) -> u32 {
        match self.phase {
            Phase::Busy { open } => open,
            _ => 0,
        }
    }

    /// How many requests a cut would lose: what waits for the client without one is the end of an answer.
    pub(super) fn unfinished(&self) -> u32 {
        let sending = self.blocked.is_some() && !self.is_tunnel();
        self.open().max(sending.into())
    }

    pub(super) const fn is_tunnel(&self) -> bool {
        matches!(self.phase, Phase::Tunnel)
    }

    /// Whether a request may be under way that a goodbye would lose: HTTP/1 has no way to refuse it politely.
    pub(super) const fn awaits_head(&self) -> bool {
        matches!(self.phase, Phase::Head { .. }) && !self.multiplexed
    }

    /// Whether a connection whose time is up is told so, and has its [`FAREWELL`]: on HTTP/2 a request may cross the goodbye, and is
    /// served, or refused in a way that tells the client to send it elsewhere.
    pub(super) const fn takes_leave(&self, reason: CloseReason) -> bool {
        let idle = matches!(
            reason,
            CloseReason::HeaderTimeout | CloseReason::KeepAliveTimeout
        );
        self.multiplexed && idle
    }

    /// Whether the bytes that came since the last answer are a head for certain, so that an answer fits.
    pub(super) const fn owes_head(&self) -> bool {
        self.awaits_head() && self.begun && self.bodiless
    }

    /// Whether the client may still be sending the body of a request that has been answered.
    pub(super) const fn may_be_uploading(&self) -> bool {
        !self.bodiless
    }

    /// When the connection must end if nothing changes, and why.
    pub(super) fn due(
        &self,
        timers: &Timers,
        leaving: Option<Leaving>,
    ) -> Option<(Instant, CloseReason)> {
        let stall = self
            .blocked
            .map(|since| (since + timers.write_stall, CloseReason::WriteStall));
        let phase = match self.phase {
            Phase::Head { since } => Some((since + timers.header, CloseReason::HeaderTimeout)),
            Phase::Idle { since } if self.blocked.is_none() => {
                Some((since + timers.keep_alive, CloseReason::KeepAliveTimeout))
            }
            Phase::Idle { .. } | Phase::Busy { .. } | Phase::Tunnel => None,
        };
        let quiet = match (leaving, self.quiet_since()) {
            (Some(leaving), Some(since)) if self.multiplexed || !self.begun => {
                let (wait, reason) = match self.phase {
                    // hyper ends what has been answered and taken. So the client has no room for the rest of an answer.
                    Phase::Idle { .. } if leaving.heard => {
                        (timers.write_stall.max(FAREWELL), CloseReason::WriteStall)
                    }
                    _ => (FAREWELL, leaving.reason),
                };
                Some((leaving.since.max(since) + wait, reason))
            }
            _ => phase,
        };
        [stall, quiet]
            .into_iter()
            .flatten()
            .min_by_key(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMERS: Timers = Timers {
        header: Duration::from_secs(10),
        keep_alive: Duration::from_secs(60),
        write_stall: Duration::from_secs(15),
    };

    struct Clock(Instant);

    impl Clock {
        fn at(&self, seconds: u64) -> Instant {
            self.0 + Duration::from_secs(seconds)
        }
    }

    fn start() -> (Clock, Activity) {
        let clock = Clock(Instant::now());
        let activity = Activity::new(clock.0);
        (clock, activity)
    }

    fn due(clock: &Clock, activity: &Activity) -> Option<(u64, CloseReason)> {
        let due = activity.due(&TIMERS, None);
        due.map(|(at, reason)| ((at - clock.0).as_secs(), reason))
    }

    /// The same on a server that wants it gone since `since`.
    fn leave(
        clock: &Clock,
        activity: &Activity,
        since: u64,
        heard: bool,
    ) -> Option<(u64, CloseReason)> {
        let leaving = Leaving {
            since: clock.at(since),
            reason: CloseReason::Shutdown,
            heard,
        };
        let due = activity.due(&TIMERS, Some(leaving));
        due.map(|(at, reason)| ((at - clock.0).as_secs(), reason))
    }

    #[test]
    fn the_first_head_is_timed_from_accept_and_later_bytes_do_not_extend_it() {
        let (clock, mut activity) = start();
        assert_eq!(
            due(&clock, &activity),
            Some((10, CloseReason::HeaderTimeout))
        );
        activity.received(clock.at(4));
        activity.received(clock.at(8));
        assert_eq!(
            due(&clock, &activity),
            Some((10, CloseReason::HeaderTimeout))
        );
    }

    #[test]
    fn later_heads_are_timed_from_their_first_byte() {
        let (clock, mut activity) = start();
        activity.started(true);
        assert_eq!(due(&clock, &activity), None);
        activity.ended(clock.at(5));
        assert_eq!(
            due(&clock, &activity),
            Some((65, CloseReason::KeepAliveTimeout))
        );
        activity.received(clock.at(30));
        assert_eq!(
            due(&clock, &activity),
            Some((40, CloseReason::HeaderTimeout))
        );
        activity.received(clock.at(39));
        assert_eq!(
            due(&clock, &activity),
            Some((40, CloseReason::HeaderTimeout))
        );
    }

    #[test]
    fn a_multiplexed_connection_is_idle_once_all_streams_have_ended() {
        let (clock, mut activity) = start();
        activity.multiplex();
        activity.started(true);
        activity.started(false);
        activity.ended(clock.at(3));
        assert_eq!((activity.open(), due(&clock, &activity)), (1, None));
        activity.ended(clock.at(4));
        // A ping is no head.
        activity.received(clock.at(5));
        assert_eq!(
            due(&clock, &activity),
            Some((64, CloseReason::KeepAliveTimeout))
        );
    }

    #[test]
    fn a_stalled_write_counts_from_the_first_refused_byte() {
        let (clock, mut activity) = start();
        activity.started(true);
        activity.write_blocked(clock.at(1));
        activity.write_blocked(clock.at(9));
        assert_eq!(due(&clock, &activity), Some((16, CloseReason::WriteStall)));
        activity.wrote(|| clock.at(12));
        assert_eq!(due(&clock, &activity), None);
        activity.write_blocked(clock.at(12));
        assert_eq!(due(&clock, &activity), Some((27, CloseReason::WriteStall)));
    }

    /// Story: a body of one large piece is handed over at once, and the connection counts as idle while the piece is
    /// still on its way to a slow client.
    #[test]
    fn sending_the_rest_of_an_answer_is_not_idleness() {
        let (clock, mut activity) = start();
        activity.started(true);
        activity.write_blocked(clock.at(1));
        activity.ended(clock.at(1));
        assert_eq!(activity.quiet_since(), None);
        assert_eq!((activity.open(), activity.unfinished()), (0, 1));
        assert_eq!(due(&clock, &activity), Some((16, CloseReason::WriteStall)));
        activity.wrote(|| clock.at(15));
        assert_eq!(activity.unfinished(), 0);
        assert_eq!(
            due(&clock, &activity),
            Some((75, CloseReason::KeepAliveTimeout))
        );
        activity.wrote(|| unreachable!("nothing waited"));
        activity.multiplex();
        activity.wrote(|| clock.at(16));
        assert_eq!(
            due(&clock, &activity),
            Some((76, CloseReason::KeepAliveTimeout))
        );
    }

    #[test]
    fn leaving_is_quick_only_where_nothing_can_be_lost() {
        let (clock, mut activity) = start();
        let leave = |activity: &Activity| leave(&clock, activity, 2, false);
        assert_eq!(leave(&activity), Some((3, CloseReason::Shutdown)));
        activity.received(clock.at(2));
        assert!(activity.awaits_head());
        assert_eq!(leave(&activity), Some((10, CloseReason::HeaderTimeout)));
        activity.started(true);
        assert_eq!(leave(&activity), None);
        assert!(!activity.awaits_head());
    }

    #[test]
    fn leaving_http2_waits_for_the_last_stream() {
        let (clock, mut activity) = start();
        activity.multiplex();
        let leave = |activity: &Activity, heard| leave(&clock, activity, 1, heard);
        let gone = |at| Some((at, CloseReason::Shutdown));
        // Who has had no answer has nothing left to take.
        assert_eq!(
            (leave(&activity, false), leave(&activity, true)),
            (gone(2), gone(2))
        );
        activity.started(true);
        assert_eq!(
            (leave(&activity, false), leave(&activity, true)),
            (None, None)
        );
        activity.ended(clock.at(20));
        assert_eq!(leave(&activity, false), gone(21));
        let stalled = |at| Some((at, CloseReason::WriteStall));
        assert_eq!(leave(&activity, true), stalled(35));
        activity.wrote(|| clock.at(30));
        assert_eq!(leave(&activity, true), stalled(45));
    }

    /// Story: a connection whose time was up was closed with the goodbye, and a call that crossed it was lost.
    #[test]
    fn http2_has_its_farewell_when_its_time_is_up() {
        let (clock, mut activity) = start();
        assert!(!activity.takes_leave(CloseReason::HeaderTimeout));
        activity.multiplex();
        assert!(activity.takes_leave(CloseReason::HeaderTimeout));
        assert!(!activity.takes_leave(CloseReason::WriteStall));
        let gone = |at| Some((at, CloseReason::Shutdown));
        assert_eq!(leave(&clock, &activity, 10, false), gone(11));
        activity.started(true);
        activity.ended(clock.at(12));
        assert_eq!(leave(&clock, &activity, 72, false), gone(73));
    }

    #[test]
    fn an_answer_fits_only_after_bytes_that_must_be_a_head() {
        let (clock, mut activity) = start();
        assert!(!activity.owes_head());
        activity.received(clock.at(1));
        assert!(activity.owes_head());
        activity.started(false);
        activity.ended(clock.at(2));
        activity.received(clock.at(3));
        // These bytes may be the rest of the upload.
        assert!(!activity.owes_head());
    }

    #[test]
    fn a_tunnel_is_timed_by_its_writes_only() {
        let (clock, mut activity) = start();
        activity.started(true);
        activity.ended(clock.at(1));
        activity.tunnel();
        assert_eq!(
            (due(&clock, &activity), activity.quiet_since()),
            (None, None)
        );
        activity.write_blocked(clock.at(5));
        assert_eq!(due(&clock, &activity), Some((20, CloseReason::WriteStall)));
        assert_eq!(activity.unfinished(), 0);
    }
}
