use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use gw_core::RejectContext;
use gw_core::record::Record;
use http::{Extensions, Request, Response};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::Mode;
use crate::error::Rejected;
use crate::lane::{Hold, Sample};
use crate::lanes::{LaneId, Lanes, Permit, TimedPermit};
use crate::limit::Outcome;
use crate::timing::{self, Timing};
use crate::upgrade::Upgrade;

/// What a request has of its lane: moved from the future to the body, given back when dropped.
#[derive(Debug)]
pub struct Lease {
    place: Place,
    hold: Hold,
    sample: Sample,
    upgrade: Option<Upgrade>,
    /// Runs until it is known how the request ended.
    timing: Timing,
}

#[derive(Debug)]
enum Place {
    Unlimited(Owner),
    Timed(Box<Timed>),
    /// It was handed over to an upgraded connection.
    Gone,
}

#[derive(Debug)]
enum Owner {
    Sole(Permit),
    /// With the task on the lane's own thread, or with the connection if the upgrade is granted.
    Shared(Arc<Permit>),
}

/// A place for a limited time.
#[derive(Debug)]
struct Timed {
    permit: TimedPermit,
    lane: LaneId,
    /// Made when there is something to wait for.
    sleep: Option<Pin<Box<Sleep>>>,
    context: RejectContext,
    record: Option<Record>,
}

impl Lease {
    /// For a request that has just been admitted. Does not allocate unless the lane limits the time or the request
    /// asks for an upgrade.
    pub(crate) fn new<B>(lanes: &Lanes, permit: Permit, request: &mut Request<B>) -> Self {
        let lane = permit.lane();
        Self::with(lanes, lane, Owner::Sole(permit), request)
    }

    /// For a request that shares its place: it is free when both have given it back.
    #[cfg(feature = "threads")]
    pub(crate) fn shared<B>(lanes: &Lanes, permit: Arc<Permit>, request: &mut Request<B>) -> Self {
        let lane = permit.lane();
        Self::with(lanes, lane, Owner::Shared(permit), request)
    }

    #[inline]
    fn with<B>(lanes: &Lanes, lane: LaneId, owner: Owner, request: &mut Request<B>) -> Self {
        let config = lanes.config(lane);
        let hold = config.hold;
        let timing = Timing::begin(lanes, lane, request.extensions());
        let upgrade = match hold {
            Hold::Body => Upgrade::asked(request),
            Hold::Head => None,
        };
        let place = match config.max_hold {
            None if upgrade.is_some() => Place::Unlimited(Owner::Shared(owner.into_shared())),
            None => Place::Unlimited(owner),
            Some(limit) => Place::limited(lanes, lane, owner, limit, request),
        };
        Self {
            place,
            hold,
            sample: config.sample,
            upgrade,
            timing,
        }
    }

    /// Whether the body of `response` goes on to hold it; `ended` says that its head is all there is.
    #[inline]
    pub(crate) fn outlasts_head<B>(&mut self, response: &mut Response<B>, ended: bool) -> bool {
        if self.timing.is_running() {
            self.judge_head(response, ended);
        }
        match self.upgrade.take() {
            Some(upgrade) if upgrade.is_granted(response) => {
                self.hand_over(upgrade, response.extensions_mut());
                false
            }
            Some(_) | None => self.hold == Hold::Body && !ended,
        }
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
        let granted = |upgrade: &Upgrade| upgrade.is_granted(response);
        let upgraded = self.upgrade.as_ref().is_some_and(granted);
        let outlasts = !upgraded && self.hold == Hold::Body && !ended;
        match timing::outcome(response) {
            Some(Outcome::Answered) if outlasts && self.sample == Sample::Body => {}
            Some(outcome) => self.ended(outcome),
            None => self.timing = Timing::NONE,
        }
    }

    /// Notes how the request ended, if that was not known yet. It must still have its place.
    #[inline(never)]
    fn ended(&mut self, outcome: Outcome) {
        match &self.place {
            Place::Unlimited(owner) => {
                let permit = owner.permit();
                if let Some(run) = self.timing.stop(|| permit.nanos(Instant::now())) {
                    permit.ended(run, outcome);
                }
            }
            Place::Timed(timed) => {
                let permit = &timed.permit;
                if let Some(run) = self.timing.stop(|| permit.nanos(Instant::now())) {
                    permit.ended(timed.lane, run, outcome);
                }
            }
            Place::Gone => {}
        }
    }

    /// Gives the place to the upgraded connection.
    #[cold]
    fn hand_over(&mut self, upgrade: Upgrade, extensions: &mut Extensions) {
        let place = match std::mem::replace(&mut self.place, Place::Gone) {
            Place::Timed(timed) => timed.permit.unlimited(),
            Place::Unlimited(owner) => Some(owner.into_shared()),
            Place::Gone => None,
        };
        if let Some(place) = place {
            upgrade.hand_over(place, extensions);
        }
    }

    /// Cuts the request if its time is over. A place without a limit asks no clock.
    pub(crate) fn cut_if_over(&mut self) -> Option<Rejected> {
        let rejected = match &self.place {
            Place::Timed(timed) if timed.is_over() => Some(timed.cut()),
            Place::Timed(_) | Place::Unlimited(_) | Place::Gone => None,
        };
        if rejected.is_some() {
            self.ended(Outcome::Dropped);
        }
        rejected
    }

    /// Cuts the request when its time is over.
    pub(crate) fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<Rejected> {
        let rejected = match &mut self.place {
            Place::Timed(timed) => ready!(timed.poll_over(cx).map(|()| timed.cut())),
            Place::Unlimited(_) | Place::Gone => return Poll::Pending,
        };
        self.ended(Outcome::Dropped);
        Poll::Ready(rejected)
    }

    /// Notes that nobody waits for the end any more.
    #[cold]
    fn abandon(&mut self) {
        let late = match &self.place {
            Place::Unlimited(owner) => {
                let permit = owner.permit();
                self.timing.is_late(|| permit.nanos(Instant::now()))
            }
            Place::Timed(timed) => self.timing.is_late(|| timed.permit.nanos(Instant::now())),
            Place::Gone => false,
        };
        if late {
            self.ended(Outcome::Dropped);
        }
    }

    /// When the time is over.
    #[cfg(feature = "threads")]
    pub(crate) fn until(&self) -> Option<Instant> {
        match &self.place {
            Place::Timed(timed) => Some(timed.permit.until()),
            Place::Unlimited(_) | Place::Gone => None,
        }
    }

    /// Until when the place is held.
    #[cfg(feature = "threads")]
    pub(crate) const fn hold(&self) -> Hold {
        self.hold
    }
}

impl Place {
    /// The place of a request in a lane that limits the time.
    fn limited<B>(
        lanes: &Lanes,
        lane: LaneId,
        owner: Owner,
        limit: Duration,
        request: &Request<B>,
    ) -> Self {
        match Instant::now().checked_add(limit) {
            Some(until) if lanes.mode_of(lane) == Mode::Enforce => Self::Timed(Box::new(Timed {
                permit: TimedPermit::new(owner.into_shared(), until),
                lane,
                sleep: None,
                context: RejectContext::of(request),
                record: Record::of(request.extensions()).cloned(),
            })),
            _ => Self::Unlimited(owner),
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

impl Owner {
    fn permit(&self) -> &Permit {
        match self {
            Self::Sole(permit) => permit,
            Self::Shared(permit) => permit,
        }
    }

    fn into_shared(self) -> Arc<Permit> {
        match self {
            Self::Sole(permit) => Arc::new(permit),
            Self::Shared(permit) => permit,
        }
    }
}

impl Timed {
    fn is_over(&self) -> bool {
        self.permit.is_over(Instant::now())
    }

    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = self.permit.until();
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(sleep_until(until)));
        // A timer that has fired must not be polled again, and need not: what says no then is the mode.
        if !sleep.is_elapsed() && sleep.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        if self.is_over() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn cut(&self) -> Rejected {
        let refusal = self.permit.cut(self.lane, Instant::now());
        Rejected::new(refusal, self.record.as_ref(), self.context.clone())
    }
}
