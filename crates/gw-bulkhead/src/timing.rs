use std::any::Any;
use std::mem;
use std::time::Duration;

use gw_core::attempt::Failure;
use gw_core::context::Deadline;
use gw_core::on_reject::Caller;
use gw_core::record::Record;
use gw_core::{BoxError, Rejection};
use http::{Request, Response};
use tokio::time::Instant;

use crate::lanes::{LaneId, Lanes, Run};
use crate::limit::Outcome;

mod head;

/// Since when a request runs and until when it should, in a lane whose limit is found by that.
///
/// It travels with each request in every lane, so the times are one word: that of the start in units of 1024 ns, of which 40
/// bits go around in 13 days, above them what was left until the deadline then, in 23 bits of milliseconds, and in the last one
/// whether the caller speaks gRPC.
#[derive(Debug)]
pub(crate) struct Timing {
    times: u64,
    /// Who knows for how long the client was waited for, if somebody watches the request's body.
    record: Option<Record>,
    /// For how many nanoseconds it had been before the start, by a stage in front or for an attempt before this one.
    waited: u64,
}

/// A moment as the clock tells it, and in nanoseconds since the lanes were made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) at: Instant,
    pub(crate) nanos: u64,
}

/// For how long the client was waited for, in nanoseconds, and whether it still is.
#[derive(Debug, Clone, Copy, Default)]
struct Upload {
    waited: u64,
    goes_on: bool,
}

/// Nothing is measured, or not any more.
const NOT: u64 = u64::MAX;
const UNIT: u32 = 10;
const START_BITS: u32 = 40;
const START: u64 = (1 << START_BITS) - 1;
const LEFT: u64 = (1 << 23) - 1;
const GRPC: u64 = 1 << 63;
/// The deadline is so far off that it does not matter, or there is none. One less than what `NOT` has in its place.
const NEVER: u64 = LEFT - 1;
/// The deadline is the client's own, which says nothing about who serves it.
const CLIENTS: u64 = NEVER - 1;

impl Timing {
    /// Nothing is measured.
    pub(crate) const NONE: Self = Self {
        times: NOT,
        record: None,
        waited: 0,
    };

    /// From now on, if the lane's limit is found by it.
    #[inline]
    pub(crate) fn begin<B>(lanes: &Lanes, lane: LaneId, request: &Request<B>) -> Self {
        if lanes.is_measured(lane) {
            let (now, extensions) = (Instant::now(), request.extensions());
            let left = match extensions.get::<Deadline>() {
                None => NEVER,
                Some(deadline) if deadline.is_by_client() => CLIENTS,
                Some(deadline) => millis(deadline.remaining(now)),
            };
            let caller = Caller::of(request.method(), request.headers());
            let times = times(lanes.nanos(now), left, caller);
            Self::since(now, times, Record::of(extensions))
        } else {
            Self::NONE
        }
    }

    fn since(now: Instant, times: u64, record: Option<&Record>) -> Self {
        Self {
            times,
            record: record.cloned(),
            waited: record.map_or(0, |record| upload(record, now).waited),
        }
    }

    pub(crate) const fn is_running(&self) -> bool {
        self.times != NOT
    }

    /// Ends it; how long it ran until `now`, and how long of that without the time in which the client was waited for. An answer
    /// before the client has sent its request says little of how long such an answer takes.
    pub(crate) fn stop(&mut self, outcome: Outcome, now: Moment) -> Option<Run> {
        let timing = mem::replace(self, Self::NONE);
        if !timing.is_running() {
            return None;
        }
        let (upload, took) = (timing.upload(now), timing.took(now));
        let served = took.checked_sub(upload.waited);
        Some(Run {
            ended: now.nanos,
            took,
            served: served.filter(|_| outcome != Outcome::Answered || !upload.goes_on),
        })
    }

    /// Whether there was a time by which it was to have been answered, it is over at `now`, and those who serve the lane were
    /// waited for.
    ///
    /// Whoever stops waiting for an answer drops it, be it the client or a timer outside of here. If the request's
    /// deadline has passed it was the timer.
    pub(crate) fn is_late(&self, now: Moment) -> bool {
        let left = self.left();
        // What was lost by rounding is forgiven.
        let late = left < CLIENTS && self.took(now) + (1 << UNIT) >= left * 1_000_000;
        late && !self.was_spent_on_client(now)
    }

    /// Whether more of the time until `now` went by with waiting for the client than for those who serve the lane.
    pub(crate) fn was_spent_on_client(&self, now: Moment) -> bool {
        self.upload(now).waited > self.took(now) / 2
    }

    /// Since the start.
    fn upload(&self, now: Moment) -> Upload {
        let upload = self.record.as_ref().map(|record| upload(record, now.at));
        let Upload { waited, goes_on } = upload.unwrap_or_default();
        Upload {
            waited: waited.saturating_sub(self.waited),
            goes_on,
        }
    }

    const fn left(&self) -> u64 {
        self.times >> START_BITS & LEFT
    }

    /// As far as it matters here.
    const fn caller(&self) -> Caller {
        match self.times & GRPC {
            0 => Caller::Http,
            _ => Caller::Grpc,
        }
    }

    fn took(&self, now: Moment) -> u64 {
        ((now.nanos >> UNIT).wrapping_sub(self.times) & START) << UNIT
    }

    /// What an answer's head says about those who serve the lane; `None` if it says nothing. That time is over says nothing
    /// where the client gave it, since it may have been too little, or has used it up.
    pub(crate) fn outcome<B>(
        &self,
        response: &Response<B>,
        now: impl FnOnce() -> Option<Moment>,
    ) -> Option<Outcome> {
        let caller = self.caller();
        let says_so = || head::is_out_of_time(caller, response);
        head::outcome(caller, response).filter(|_| !(says_so() && self.is_clients(now)))
    }

    /// What a refusal in place of an answer says about those who serve the lane: that a timer of ours has ended the wait for
    /// them, or nothing. Where it is the client's time it says nothing either.
    pub(crate) fn outcome_of_refusal(
        &self,
        refused: &Rejection,
        now: impl FnOnce() -> Option<Moment>,
    ) -> Option<Outcome> {
        let is_theirs = !matches!(refused.failure(), Failure::Local | Failure::Refused);
        let is_drop = head::is_timeout(refused) && is_theirs && !self.is_clients(now);
        is_drop.then_some(Outcome::Dropped)
    }

    fn is_clients(&self, now: impl FnOnce() -> Option<Moment>) -> bool {
        self.left() == CLIENTS || now().is_some_and(|now| self.was_spent_on_client(now))
    }
}

/// Since the exchange began.
fn upload(record: &Record, now: Instant) -> Upload {
    let mut upload = Upload::default();
    record.update(|exchange| {
        let since = exchange.upload_since;
        let current = since.map(|since| now.saturating_duration_since(since));
        let waited = exchange
            .upload_wait
            .saturating_add(current.unwrap_or_default());
        upload = Upload {
            waited: u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX),
            goes_on: since.is_some(),
        };
    });
    upload
}

fn times(now: u64, left: u64, caller: Caller) -> u64 {
    let grpc = if caller == Caller::Grpc { GRPC } else { 0 };
    grpc | left << START_BITS | (now >> UNIT) & START
}

/// What is left until a deadline, as far as it matters.
fn millis(left: Duration) -> u64 {
    let left = u64::try_from(left.as_millis()).unwrap_or(NEVER);
    if left < CLIENTS { left } else { NEVER }
}

/// The refusal that an error is, or that stands behind a boxed one. Asked of its type, so that services may have errors of
/// all types: a bound would shut out those that know nothing of refusals.
pub(crate) fn refusal(error: &dyn Any) -> Option<&Rejection> {
    match error.downcast_ref::<BoxError>() {
        Some(boxed) => Rejection::find(&**boxed),
        None => error.downcast_ref(),
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::head::tests::{LATE, answer, refused};
    use super::*;
    use crate::LaneConfig;
    use crate::limit::{Aimd, Limit};
    use http::HeaderValue;

    fn since(start: u64, left: u64) -> Timing {
        Timing {
            times: times(start, left, Caller::Grpc),
            ..Timing::NONE
        }
    }

    fn moment(nanos: u64) -> Moment {
        let at = Instant::now();
        Moment { at, nanos }
    }

    fn nanos(time: Duration) -> u64 {
        time.as_nanos() as u64
    }

    fn seconds(nanos: u64) -> u32 {
        (nanos as f64 / 1e9).round() as u32
    }

    #[test]
    fn times_fit_into_a_word() {
        let hour = Duration::from_secs(3600);
        // Also where the bits of the start go around.
        for start in [0, nanos(hour), (1 << 50) - 1, (1 << 50) + 5, u64::MAX / 2] {
            let mut timing = since(start, millis(hour));
            assert!(timing.is_running());
            assert!(!timing.is_late(moment(start + nanos(hour) - 2_000_000)));
            assert!(timing.is_late(moment(start + nanos(hour) + 1_000)));
            let now = moment(start + 5_000_000);
            let run = timing.stop(Outcome::Answered, now).unwrap();
            assert_eq!(run.ended, start + 5_000_000);
            assert!(run.took.abs_diff(5_000_000) <= 1_024, "{run:?}");
            assert!(!timing.is_running());
            assert!(timing.stop(Outcome::Answered, now).is_none());
        }
        for left in [NEVER, CLIENTS, millis(100 * hour), millis(Duration::MAX)] {
            let timing = since(7, left);
            assert!(timing.is_running());
            assert!(!timing.is_late(moment(7 + nanos(200 * hour))));
        }
        for left in [0, NEVER, CLIENTS] {
            for caller in [Caller::Http, Caller::Grpc] {
                let timing = Timing {
                    times: times(u64::MAX, left, caller),
                    ..Timing::NONE
                };
                assert!(timing.is_running());
                assert_eq!((timing.left(), timing.caller()), (left, caller));
            }
        }
        assert!(!Timing::NONE.is_late(moment(u64::MAX)));
    }

    #[test]
    fn knows_who_called() {
        let limit = Limit::adaptive(Aimd::default());
        let lanes = Lanes::new(limit, [LaneConfig::new("core")]).unwrap();
        for (method, content, caller) in [
            ("POST", "application/grpc+proto", Caller::Grpc),
            ("GET", "application/grpc", Caller::Http),
            ("POST", "application/grpc-web", Caller::Http),
        ] {
            let request = Request::builder().method(method);
            let request = request.header("content-type", content).body(()).unwrap();
            let timing = Timing::begin(&lanes, LaneId::FIRST, &request);
            assert!(timing.is_running());
            assert_eq!(timing.caller(), caller, "{method} {content}");
        }
    }

    /// Story: one client that sent its request for ten seconds was a fifth of a second more for each of fifty answers, and the
    /// limit of all went down.
    #[test]
    fn the_time_in_which_the_client_is_waited_for_is_not_counted() {
        let second = Duration::from_secs(1);
        let began = Instant::now();
        // When the client was waited for, of ten seconds with a deadline after them; the sample, and whether they were too many.
        for (from, until, took, late) in [
            (0, 0, Some(10), true),
            (1, 4, Some(7), true),
            (0, 9, Some(1), false),
            // It still is.
            (1, 11, None, false),
            (9, 11, None, true),
        ] {
            let record = Record::begun(began);
            record.update(|exchange| {
                exchange.upload_wait_begins(began + from * second);
                if until <= 10 {
                    exchange.upload_wait_ends(began + until * second);
                }
            });
            let timing = || Timing {
                times: times(0, millis(10 * second), Caller::Grpc),
                record: Some(record.clone()),
                waited: 0,
            };
            let now = Moment {
                at: began + 10 * second,
                nanos: nanos(10 * second),
            };
            let answered = timing().stop(Outcome::Answered, now).unwrap();
            assert_eq!(answered.served.map(seconds), took, "{from} {until}");
            // It is an answer all the same.
            assert_eq!(seconds(answered.took), 10, "{from} {until}");
            assert_eq!(timing().is_late(now), late, "{from} {until}");
            let dropped = late.then_some(Outcome::Dropped);
            for late in refused(&LATE) {
                assert_eq!(timing().outcome(&late, || Some(now)), dropped);
            }
            let refused = Rejection::new(&LATE).failed(Failure::Unknown);
            let outcome = timing().outcome_of_refusal(&refused, || Some(now));
            assert_eq!(outcome, dropped, "{from} {until}");
            // Whatever else says that it is too much has nothing to do with the time.
            let outcome = timing().outcome(&answer(503), || Some(now));
            assert_eq!(outcome, Some(Outcome::Dropped));
            assert!(timing().stop(Outcome::Dropped, now).is_some());
        }
    }

    /// Story: what a stage in front had read for seconds, or the attempt before this one, was taken off the time of a service
    /// that hung, and it was the client that was blamed.
    #[test]
    fn what_the_client_took_before_the_start_is_not_taken_off() {
        let second = Duration::from_secs(1);
        let at = |seconds| Instant::now() + seconds * second;
        // When the client was waited for, from ten seconds before the start to ten after it; the sample, and whether they
        // were too many.
        for (from, until, served, late) in [
            (0, 10, Some(10), true),
            (0, 9, Some(10), true),
            (9, 12, Some(8), true),
            (12, 15, Some(7), true),
            (9, 19, Some(1), false),
            // It still is.
            (9, 21, None, false),
            (16, 21, None, true),
        ] {
            let began = at(0);
            let record = Record::begun(began);
            let waits = |after, before| {
                record.update(|exchange| {
                    if (after..before).contains(&from) {
                        exchange.upload_wait_begins(began + from * second);
                    }
                    if (after + 1..=before).contains(&until) {
                        exchange.upload_wait_ends(began + until * second);
                    }
                });
            };
            waits(0, 10);
            let times = times(0, millis(10 * second), Caller::Http);
            let timing = || Timing::since(began + 10 * second, times, Some(&record));
            let (mut answered, unanswered) = (timing(), timing());
            waits(10, 20);
            let now = Moment {
                at: began + 20 * second,
                nanos: nanos(10 * second),
            };
            assert_eq!(unanswered.is_late(now), late, "{from} {until}");
            let run = answered.stop(Outcome::Answered, now).unwrap();
            assert_eq!(run.served.map(seconds), served, "{from} {until}");
        }
    }

    /// Story: with `grpc-timeout: 1m` on each call a few clients had the limit of a lane fall to its least.
    #[test]
    fn time_that_the_client_gave_too_little_of_says_nothing() {
        let ours = since(7, millis(Duration::from_secs(1)));
        let clients = since(7, CLIENTS);
        let judge = |timing: &Timing, response: Response<()>| timing.outcome(&response, || None);
        let mut grpc = answer(200);
        grpc.headers_mut()
            .insert("grpc-status", HeaderValue::from_static("4"));
        let [refused, refused_grpc] = refused(&LATE);
        for late in [answer(504), grpc, refused, refused_grpc] {
            assert_eq!(judge(&ours, late.clone()), Some(Outcome::Dropped));
            assert_eq!(judge(&clients, late), None);
        }
        assert_eq!(judge(&clients, answer(503)), Some(Outcome::Dropped));
        assert_eq!(judge(&clients, answer(200)), Some(Outcome::Answered));
    }
}
