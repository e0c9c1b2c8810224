//! What retries make of load, in virtual time: the real layers, with simulated clients and a simulated upstream. Everything
//! random is seeded, so a run with the same input is the same run.
#![allow(clippy::unwrap_used, reason = "shared by a test and an example")]

pub(crate) mod amplification;
pub(crate) mod figures;
pub(crate) mod outage;

use std::time::Duration;

use bytes::Bytes;
use gw_retry::{
    AttemptError, Budget, BudgetBuilder, Failure, ReplayBody, ResponseBody, RetryBuilder,
    RetryLayer,
};
use http::{Request, Response};
use http_body_util::Empty;
use tower::util::BoxCloneService;
use tower::{Layer as _, Service, ServiceExt};

pub(crate) type Body = Empty<Bytes>;
pub(crate) type Gateway = BoxCloneService<Request<Body>, Response<Body>, Lost>;

/// An attempt that brought no answer in time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lost;

impl AttemptError for Lost {
    fn failure(&self) -> Failure {
        Failure::Unknown
    }
}

/// The extra load that is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// A fifth of the requests, and a few a second in any case.
    Ratio,
    /// A fifth of what is on its way, and three in any case.
    ShareOfActive,
    /// More than three attempts can ever be.
    Anything,
    Nothing,
}

pub(crate) const RATIO: f64 = 0.2;
pub(crate) const SHARE: f64 = 0.2;
pub(crate) const SHARE_MIN: u32 = 3;

impl Allowed {
    fn budget(self, min_per_second: u32) -> Budget {
        let of_ratio = |builder: BudgetBuilder, ratio| builder.ratio(ratio);
        let builder = Budget::builder("simulated");
        let builder = match self {
            Self::Ratio => of_ratio(builder, RATIO).min_per_second(min_per_second),
            Self::ShareOfActive => builder.share_of_active(SHARE, SHARE_MIN),
            Self::Anything => of_ratio(builder, 10.0),
            Self::Nothing => of_ratio(builder, 0.0).min_per_second(0),
        };
        builder.build().unwrap()
    }
}

/// A gateway that retries, in front of what `inner` is.
pub(crate) fn gateway<S>(layer: RetryBuilder, inner: S) -> Gateway
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Lost> + Clone + Send + 'static,
    S::Future: Send,
{
    let again = |request: Request<ReplayBody<Body>>| request.map(|_| Empty::new());
    let layer: RetryLayer = layer.build();
    let answer = |response: Response<ResponseBody<Body>>| response.map(|_| Empty::new());
    let retried = layer.layer(inner.map_request(again));
    BoxCloneService::new(ServiceExt::<Request<Body>>::map_response(retried, answer))
}

pub(crate) fn get() -> Request<Body> {
    Request::new(Empty::new())
}

/// Runs `simulation` with a clock that goes on when nobody has anything to do.
pub(crate) fn in_virtual_time<F: Future>(simulation: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(simulation)
}

/// The time between requests of so many a second.
pub(crate) fn every(rate: u32) -> Duration {
    Duration::from_secs(1) / rate
}
