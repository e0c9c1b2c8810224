use std::sync::Arc;
use std::task::{Context, Poll};

use gw_core::context::ClientAddr;
use gw_core::key::peer_addr;
use gw_core::record::Record;
use http::{Request, Response, header};
use http_body::Body;
use tokio::time::Instant;
use tower_service::Service;

use crate::body::ResponseBody;
use crate::future::ResponseFuture;
use crate::layer::Shared;
use crate::observation::{Asked, Observation};
use crate::request_body::RequestBody;
use crate::trace;

/// Observes requests. Made by an [`ObserveLayer`](crate::ObserveLayer).
#[derive(Debug, Clone)]
pub struct Observe<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Observe<S> {
    pub(crate) const fn new(inner: S, shared: Arc<Shared>) -> Self {
        Self { inner, shared }
    }

    /// The inner service.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }

    /// Puts trace and record into the request, and begins to observe it.
    fn begin<B>(&self, request: &mut Request<B>) -> (Record, Box<Observation>) {
        let start = Instant::now();
        let shared = &self.shared;
        let trusted = shared.trusts(request.extensions());
        let trace = trace::receive(request.headers_mut(), trusted, shared.sample);
        let record = Record::begun(start);
        let asked = shared.log.is_some().then(|| Asked {
            path: request.uri().path_and_query().cloned(),
            user_agent: request.headers().get(header::USER_AGENT).cloned(),
            peer: peer_addr(request.extensions())
                .ok()
                .map(|peer| ClientAddr::new(peer.ip())),
        });
        let extensions = request.extensions_mut();
        extensions.insert(trace);
        extensions.insert(record.clone());
        let observation = Observation::new(
            Arc::clone(shared),
            start,
            record.clone(),
            trace,
            request,
            asked,
        );
        (record, Box::new(observation))
    }
}

impl<S, B, ResB> Service<Request<B>> for Observe<S>
where
    S: Service<Request<RequestBody<B>>, Response = Response<ResB>>,
    ResB: Body,
{
    type Response = Response<ResponseBody<ResB>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let (record, mut observation) = self.begin(&mut request);
        let request = request.map(|body| RequestBody::new(body, record));
        let inner = observation.run(|| self.inner.call(request));
        observation.called();
        ResponseFuture::new(inner, observation)
    }
}
