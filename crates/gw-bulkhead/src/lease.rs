use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use gw_core::RejectContext;
use http::{Request, Response};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::Mode;
use crate::error::{self, Rejected};
use crate::lane::Hold;
use crate::lanes::{LaneId, Lanes, Permit, Reason, TimedPermit};
use crate::upgrade::Upgrade;

/// What a request has of its lane: moved from the future to the body, given back when dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    place: Place,
    hold: Hold,
    upgrade: Option<Upgrade>,
}

#[derive(Debug)]
enum Place {
    Unlimited(Owner),
    Timed(Box<Timed>),
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
    lanes: Lanes,
    lane: LaneId,
    /// Made when there is something to wait for.
    sleep: Option<Pin<Box<Sleep>>>,
    context: RejectContext,
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

    fn with<B>(lanes: &Lanes, lane: LaneId, owner: Owner, request: &mut Request<B>) -> Self {
        let config = lanes.config(lane);
        let upgrade = match config.hold {
            Hold::Body => Upgrade::asked(request),
            Hold::Head => None,
        };
        let until = config
            .max_hold
            .and_then(|limit| Instant::now().checked_add(limit));
        let place = match until {
            Some(until) if lanes.mode() == Mode::Enforce => Place::Timed(Box::new(Timed {
                permit: TimedPermit::new(owner.into_shared(), until),
                lanes: lanes.clone(),
                lane,
                sleep: None,
                context: RejectContext::of(request),
            })),
            _ if upgrade.is_some() => Place::Unlimited(Owner::Shared(owner.into_shared())),
            _ => Place::Unlimited(owner),
        };
        Self {
            place,
            hold: config.hold,
            upgrade,
        }
    }

    /// What the body of `response` goes on to hold; `ended` says that its head is all there is.
    pub(crate) fn at_head<B>(mut self, response: &mut Response<B>, ended: bool) -> Option<Self> {
        if self.hold == Hold::Head {
            return None;
        }
        if let Some(upgrade) = self.upgrade.take()
            && upgrade.is_granted(response)
        {
            let place = match self.place {
                Place::Timed(timed) => timed.permit.unlimited()?,
                Place::Unlimited(owner) => owner.into_shared(),
            };
            upgrade.hand_over(place, response.extensions_mut());
            return None;
        }
        (!ended).then_some(self)
    }

    /// Cuts the request if its time is over. A place without a limit asks no clock.
    pub(crate) fn cut_if_over(&mut self) -> Option<Rejected> {
        match &self.place {
            Place::Timed(timed) if timed.is_over() => Some(timed.cut()),
            Place::Timed(_) | Place::Unlimited(_) => None,
        }
    }

    /// Cuts the request when its time is over.
    pub(crate) fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<Rejected> {
        match &mut self.place {
            Place::Timed(timed) => timed.poll_over(cx).map(|()| timed.cut()),
            Place::Unlimited(_) => Poll::Pending,
        }
    }

    /// When the time is over.
    #[cfg(feature = "threads")]
    pub(crate) fn until(&self) -> Option<Instant> {
        match &self.place {
            Place::Timed(timed) => Some(timed.permit.until()),
            Place::Unlimited(_) => None,
        }
    }

    /// Until when the place is held.
    #[cfg(feature = "threads")]
    pub(crate) const fn hold(&self) -> Hold {
        self.hold
    }
}

impl Owner {
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
        let refusal = self
            .lanes
            .refuse(self.lane, Reason::MaxHold, Instant::now());
        Rejected {
            rejection: error::rejection(refusal),
            context: self.context.clone(),
        }
    }
}
