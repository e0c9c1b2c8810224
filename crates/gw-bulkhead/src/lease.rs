use std::any::Any;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use gw_core::RejectContext;
use gw_core::record::Record;
use http::{Request, Response};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::error::{Observer, Rejected};
use crate::lane::{Hold, Sample};
use crate::lanes::{LOOK_AGAIN, Permit, Run, TimedPermit};
use crate::layer::Shared;
use crate::limit::Outcome;
use crate::timing::{self, Moment, Timing};
use crate::upgrade::Upgrade;

/// What a request has of its lane: moved from the future to the body, given back when dropped.
#[derive(Debug)]
pub struct Lease {
    place: Place,
    /// Runs until it is known how the request ended.
    timing: Timing,
}

#[derive(Debug)]
enum Place {
    /// What most requests have, and all that they have.
    Sole(Permit),
    /// Boxed, so that the others' are small: each is moved several times.
    Special(Box<Special>),
}

/// What a request has that shares its place, may not keep it for as long as it likes, or asks for an upgrade.
#[derive(Debug)]
struct Special {
    place: Kept,
    upgrade: Option<Upgrade>,
    hold: Hold,
    sample: Sample,
}

#[derive(Debug)]
enum Kept {
    /// With the task on the lane's own thread, or with the connection if the upgrade is granted.
    Unlimited(Arc<Permit>),
    Timed(Timed),
    /// The connection was upgraded: it was handed over, or given back where no place is held for one.
    Gone,
}

/// A place for a limited time.
#[derive(Debug)]
struct Timed {
    permit: TimedPermit,
    /// Made when there is something to wait for.
    sleep: Option<Pin<Box<Sleep>>>,
    context: RejectContext,
    record: Option<Record>,
    slot: &'static str,
}

impl Lease {
    /// For a request that has just been admitted. Does not allocate unless the lane limits the time or the request
    /// asks for an upgrade.
    #[inline]
    pub(crate) fn new<B>(shared: &Shared, permit: Permit, request: &mut Request<B>) -> Self {
        if !permit.minds_time() && !Upgrade::is_asked(request) {
            return Self {
                place: Place::Sole(permit),
                timing: Timing::NONE,
            };
        }
        Self::looked_after(shared, permit, request)
    }

    /// For a request that shares its place: it is free when both have given it back.
    #[cfg(feature = "threads")]
    pub(crate) fn shared<B>(
        shared: &Shared,
        permit: Arc<Permit>,
        request: &mut Request<B>,
    ) -> Self {
        let lane = permit.lane();
        let timing = Timing::begin(&shared.lanes, lane, request);
        // Without a place to hold, too: there are the threads.
        let upgrade = Upgrade::asked(request);
        Self {
            place: Place::special(shared, permit, upgrade, request),
            timing,
        }
    }

    /// The upgrade that its request asks for.
    #[cfg(feature = "threads")]
    pub(crate) const fn upgrade(&mut self) -> Option<&mut Upgrade> {
        match &mut self.place {
            Place::Sole(_) => None,
            Place::Special(special) => special.upgrade.as_mut(),
        }
    }

    /// For a request that is measured, limited, or wants more than an answer.
    #[inline(never)]
    fn looked_after<B>(shared: &Shared, permit: Permit, request: &mut Request<B>) -> Self {
        let (lanes, lane) = (&shared.lanes, permit.lane());
        let timing = Timing::begin(lanes, lane, request);
        let upgrade = upgrade(permit.hold(), request);
        let place = if upgrade.is_none() && lanes.config(lane).max_hold.is_none() {
            Place::Sole(permit)
        } else {
            Place::special(shared, Arc::new(permit), upgrade, request)
        };
        Self { place, timing }
    }

    /// Whether the body of `response` goes on to hold it; `ended` says that its head is all there is.
    #[inline]
    pub(crate) fn outlasts_head<B>(&mut self, response: &mut Response<B>, ended: bool) -> bool {
        if self.timing.is_running() {
            self.judge_head(response, ended);
        }
        let hold = match &mut self.place {
            Place::Sole(permit) => permit.hold(),
            Place::Special(special) => {
                if special.hand_over(response) {
                    return false;
                }
                special.hold
            }
        };
        hold == Hold::Body && !ended
    }

    /// Whether it is to be known how the request ends.
    #[inline]
    pub(crate) const fn is_measured(&self) -> bool {
        self.timing.is_running()
    }

    /// Notes that all the data of an answer was handed out. The place is held until the stream has ended all the same.
    #[cold]
    pub(crate) fn answered(&mut self) {
        self.ended(Outcome::Answered);
    }

    /// Gives the place back after a body that has ended as it should.
    #[inline]
    pub(crate) fn end(lease: &mut Option<Self>) {
        if let Some(lease) = lease
            && lease.timing.is_running()
        {
            lease.ended(Outcome::Answered);
        }
        *lease = None;
    }

    /// Takes the head for the end, unless the body is what is measured.
    #[cold]
    fn judge_head<B>(&mut self, response: &Response<B>, ended: bool) {
        let (hold, sample, upgraded) = match &self.place {
            Place::Sole(permit) => (permit.hold(), permit.sample(), false),
            Place::Special(special) => (special.hold, special.sample, special.grants(response)),
        };
        let outlasts = !upgraded && hold == Hold::Body && !ended;
        match self.timing.outcome(response, || self.place.now()) {
            Some(Outcome::Answered) if outlasts && sample == Sample::Body => {}
            outcome => self.judged(outcome),
        }
    }

    /// Notes what an error in place of an answer says. A refusal says all there is to say: by the time that it comes a deadline
    /// may have passed, for which it was the client that was waited for. Of other errors being given back may tell, see
    /// [`Lease::abandon`].
    #[cold]
    pub(crate) fn failed(&mut self, error: &dyn Any) {
        if self.is_measured()
            && let Some(refused) = timing::refusal(error)
        {
            let outcome = self.timing.outcome_of_refusal(refused, || self.place.now());
            self.judged(outcome);
        }
    }

    /// Notes what is known of how the request ended, and that it is known.
    fn judged(&mut self, outcome: Option<Outcome>) {
        match outcome {
            Some(outcome) => self.ended(outcome),
            None => self.timing = Timing::NONE,
        }
    }

    /// Notes how the request ended, if that was not known yet. It must still have its place.
    #[inline(never)]
    fn ended(&mut self, outcome: Outcome) {
        if self.timing.is_running()
            && let Some(now) = self.place.now()
            && let Some(run) = self.timing.stop(outcome, now)
        {
            self.place.ended(run, outcome);
        }
    }

    /// Notes that the lane's own limit of time has ended the request.
    #[cold]
    fn overdue(&mut self) {
        let now = self.place.now();
        let clients = now.is_some_and(|now| self.timing.was_spent_on_client(now));
        self.judged((!clients).then_some(Outcome::Dropped));
    }

    /// Cuts the request if its time is over. A place without a limit asks no clock.
    #[inline]
    pub(crate) fn cut_if_over(&mut self) -> Option<Rejected> {
        let rejected = match &mut self.place {
            Place::Sole(_) => return None,
            Place::Special(special) => {
                let timed = special.timed()?;
                if !timed.is_over() {
                    return None;
                }
                timed.cut()
            }
        };
        self.overdue();
        Some(rejected)
    }

    /// Cuts an answer that is under way if its time is over; whether it is.
    #[inline]
    pub(crate) fn is_cut(lease: &mut Option<Self>) -> bool {
        lease
            .as_mut()
            .is_some_and(|lease| lease.cut_if_over().is_some())
    }

    /// Cuts the request when its time is over.
    #[inline]
    pub(crate) fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<Rejected> {
        let rejected = match &mut self.place {
            Place::Sole(_) => return Poll::Pending,
            Place::Special(special) => match special.timed() {
                Some(timed) => ready!(timed.poll_over(cx).map(|()| timed.cut())),
                None => return Poll::Pending,
            },
        };
        self.overdue();
        Poll::Ready(rejected)
    }

    /// Notes that nobody waits for the end any more.
    #[cold]
    fn abandon(&mut self) {
        if self.place.now().is_some_and(|now| self.timing.is_late(now)) {
            self.ended(Outcome::Dropped);
        }
    }

    /// When the time is over, if the request may be cut then.
    #[cfg(feature = "threads")]
    pub(crate) fn until(&self) -> Option<Instant> {
        match &self.place {
            Place::Sole(_) => None,
            Place::Special(special) => match &special.place {
                Kept::Timed(Timed { permit, .. }) => permit.is_bounded().then(|| permit.until()),
                Kept::Unlimited(_) | Kept::Gone => None,
            },
        }
    }

    /// Until when the place is held.
    #[cfg(feature = "threads")]
    pub(crate) const fn hold(&self) -> Hold {
        match &self.place {
            Place::Sole(permit) => permit.hold(),
            Place::Special(special) => special.hold,
        }
    }
}

/// What a request asks for beside an answer, where it holds its place for long enough to get it.
fn upgrade<B>(hold: Hold, request: &mut Request<B>) -> Option<Upgrade> {
    match hold {
        Hold::Body => Upgrade::asked(request),
        Hold::Head => {
            Upgrade::held_for_by_none(request);
            None
        }
    }
}

impl Place {
    /// The place of a request that shares it, may keep it for a limited time only, or asks for an upgrade.
    fn special<B>(
        shared: &Shared,
        permit: Arc<Permit>,
        upgrade: Option<Upgrade>,
        request: &Request<B>,
    ) -> Self {
        let (lanes, lane) = (&shared.lanes, permit.lane());
        let (hold, sample) = (permit.hold(), permit.sample());
        let limit = lanes.config(lane).max_hold;
        let until = limit.and_then(|limit| Instant::now().checked_add(limit));
        let place = match until {
            Some(until) => Kept::Timed(Timed {
                permit: TimedPermit::new(permit, until),
                sleep: None,
                context: RejectContext::of(request),
                record: Record::of(request.extensions()).cloned(),
                slot: shared.slot,
            }),
            None => Kept::Unlimited(permit),
        };
        Self::Special(Box::new(Special {
            place,
            upgrade,
            hold,
            sample,
        }))
    }

    /// The time; none once there is no place any more.
    fn now(&self) -> Option<Moment> {
        let at = Instant::now();
        let nanos = match self {
            Self::Sole(permit) => permit.nanos(at),
            Self::Special(special) => match &special.place {
                Kept::Unlimited(permit) => permit.nanos(at),
                Kept::Timed(Timed { permit, .. }) => permit.nanos(at),
                Kept::Gone => return None,
            },
        };
        Some(Moment { at, nanos })
    }

    /// Tells the lane how its request ended.
    fn ended(&self, run: Run, outcome: Outcome) {
        match self {
            Self::Sole(permit) => permit.ended(run, outcome),
            Self::Special(special) => match &special.place {
                Kept::Unlimited(permit) => permit.ended(run, outcome),
                Kept::Timed(Timed { permit, .. }) => permit.ended(run, outcome),
                Kept::Gone => {}
            },
        }
    }
}

impl Special {
    fn grants<B>(&self, response: &Response<B>) -> bool {
        let granted = |upgrade: &Upgrade| upgrade.is_granted(response);
        self.upgrade.as_ref().is_some_and(granted)
    }

    /// Gives what it has to the upgraded connection, if `response` grants one; whether it does.
    #[inline(never)]
    fn hand_over<B>(&mut self, response: &mut Response<B>) -> bool {
        let granted = |upgrade: &mut Upgrade| upgrade.is_granted(response);
        let Some(upgrade) = self.upgrade.take_if(granted) else {
            return false;
        };
        let place = match std::mem::replace(&mut self.place, Kept::Gone) {
            Kept::Timed(timed) => timed.permit.unlimited(),
            Kept::Unlimited(permit) => Some(permit),
            Kept::Gone => None,
        };
        let place = place.filter(|_| self.hold == Hold::Body);
        upgrade.hand_over(place, response.extensions_mut());
        true
    }

    /// The place, if its time is limited.
    const fn timed(&mut self) -> Option<&mut Timed> {
        match &mut self.place {
            Kept::Timed(timed) => Some(timed),
            Kept::Unlimited(_) | Kept::Gone => None,
        }
    }
}

/// Without an answer, so it was given up: by the client, which says nothing, or by the timer of the request's deadline.
impl Drop for Lease {
    #[inline]
    fn drop(&mut self) {
        if self.timing.is_running() {
            self.abandon();
        }
    }
}

impl Timed {
    fn is_over(&mut self) -> bool {
        self.permit.is_over(Instant::now())
    }

    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = self.permit.until();
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(sleep_until(until)));
        loop {
            ready!(sleep.as_mut().poll(cx));
            let now = Instant::now();
            if self.permit.is_over(now) {
                return Poll::Ready(());
            }
            if self.permit.is_settled() {
                return Poll::Pending;
            }
            sleep.as_mut().reset(now + LOOK_AGAIN);
        }
    }

    fn cut(&self) -> Rejected {
        let refusal = self.permit.cut(Instant::now());
        let observer = Observer {
            record: self.record.as_ref(),
            slot: self.slot,
        };
        Rejected::new(refusal, observer, self.context.clone())
    }
}
