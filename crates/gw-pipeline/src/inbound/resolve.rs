use std::task::{Context, Poll};

use gw_core::call::call_into;
use gw_core::classify;
use gw_core::context::{Deadline, Lane};
use gw_core::key::{TrustedProxies, peer_addr};
use gw_core::record::Record;
use gw_core::stage::{FactSet, Stage};
use gw_core::{BoxError, ConfigError, OnReject, Rejection, Respond};
use http::header::ALLOW;
use http::request::Parts;
use http::{Extensions, HeaderValue, Method, Request, Response, Version};
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::client_fault::Fault;
use super::head::{HeadLimits, ambiguous_path, normalize_head};
use super::path::EncodedSlash;
use super::request_body::{BodyTimers, RequestBody};
use super::route::{Found, RouteEntry, RouteTable};
use crate::codes;
use crate::decided::Decided;
use crate::pipeline::slot;
use crate::timeouts::{PassErrorBodies, Timeouts};

/// Brings the request's head into its one form, finds its route, and stamps what holds for it.
///
/// The route's [`RouteMatch`](gw_core::context::RouteMatch), lane, criticality, upstream, deadline and timers go into
/// the request's extensions, and its body gets the route's limit. Finding the route is a look-up in memory; a request
/// without a route, or whose path may be taken for another route's, is refused at once or after all other stages, as [`NotFound`]
/// says.
///
/// Refuses with 400, 405, 413, 414, 417, 431 what no upstream should see: see [`HeadLimits`] and [`EncodedSlash`].
///
/// It stands around a router, never behind its routing, as in `axum::Router::layer`: a handler that is chosen by the path as it
/// came may be another route's. With the feature `axum` or `tonic` a path that is not in its normal form is 400 there.
#[derive(Debug, Clone)]
pub struct RouteResolveLayer<R = Respond> {
    table: RouteTable,
    limits: HeadLimits,
    encoded_slash: EncodedSlash,
    max_body_bytes: u64,
    body_timers: BodyTimers,
    not_found: NotFound,
    only_lane: Option<Lane>,
    proxies: TrustedProxies,
    // Whether a terminal stands behind, which answers late refusals.
    in_pipeline: bool,
    on_reject: R,
}

/// When a request is refused that has no route, or more than one, as its path is read, or declares a body larger than its route takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotFound {
    /// After limits and authentication: a scanner meets the limiter first, and does not learn which paths exist.
    /// Only in a typed pipeline, whose end refuses what is left; elsewhere it is as [`NotFound::Early`].
    #[default]
    AfterAuth,
    /// At once, which is cheapest.
    Early,
}

/// A refusal that waits until the request has passed all other stages.
#[derive(Debug, Clone)]
pub(crate) struct LateRefusal(pub(crate) Rejection);

impl RouteResolveLayer {
    /// Resolves by `table`: limits of [`HeadLimits::default`], bodies up to 2 MiB, encoded slashes refused.
    pub fn new(table: RouteTable) -> Self {
        Self {
            table,
            limits: HeadLimits::default(),
            encoded_slash: EncodedSlash::default(),
            max_body_bytes: 2 * 1024 * 1024,
            body_timers: BodyTimers::default(),
            not_found: NotFound::default(),
            only_lane: None,
            proxies: TrustedProxies::none(),
            in_pipeline: false,
            on_reject: Respond::new(),
        }
    }
}

impl<R> RouteResolveLayer<R> {
    /// Limits heads.
    ///
    /// # Errors
    ///
    /// If a limit is zero: no request would keep it.
    pub fn head_limits(mut self, limits: HeadLimits) -> Result<Self, ConfigError> {
        for (field, limit) in [
            ("head_limits.uri_bytes", limits.uri_bytes),
            ("head_limits.fields", limits.fields),
            ("head_limits.field_bytes", limits.field_bytes),
        ] {
            if limit == 0 {
                return Err(ConfigError::new(field, "must be at least 1"));
            }
        }
        self.limits = limits;
        Ok(self)
    }

    /// Says what to do with `%2F` in paths.
    #[must_use]
    pub const fn encoded_slash(mut self, rule: EncodedSlash) -> Self {
        self.encoded_slash = rule;
        self
    }

    /// The largest request body, in bytes, on routes that do not say.
    #[must_use]
    pub const fn max_body_bytes(mut self, limit: u64) -> Self {
        self.max_body_bytes = limit;
        self
    }

    /// Limits how slowly a request's body may come; [`Route::grpc_streams`](super::Route::grpc_streams) exempts the gRPC calls of
    /// a route.
    ///
    /// # Errors
    ///
    /// If the longest gap is zero: a body that is not there with its head would be too slow.
    pub fn body_timers(mut self, timers: BodyTimers) -> Result<Self, ConfigError> {
        if timers.idle.is_zero() {
            return Err(ConfigError::new(
                "body_timers.idle",
                "must be longer than zero",
            ));
        }
        self.body_timers = timers;
        Ok(self)
    }

    /// Says when a request without a route is refused.
    #[must_use]
    pub const fn not_found(mut self, rule: NotFound) -> Self {
        self.not_found = rule;
        self
    }

    /// Serves the routes of this lane only, as a listener of the lane's own does: a request for a route of another lane, or
    /// of none, has no route here. What has no route is in this lane too, unless an earlier stage has chosen one.
    ///
    /// The route is found among all routes: one that another lane's more specific route covers does not become this one's.
    #[must_use]
    pub fn only_lane(mut self, lane: impl Into<Lane>) -> Self {
        self.only_lane = Some(lane.into());
        self
    }

    /// Believes `proxies`, as [`IpFilterLayer`](super::IpFilterLayer) does behind this stage, of who sent a request that is refused here:
    /// the observer gets the client's address, and not that of a proxy.
    #[must_use]
    pub fn trusted_proxies(mut self, proxies: TrustedProxies) -> Self {
        self.proxies = proxies;
        self
    }

    /// Renders refusals with `on_reject`.
    #[must_use]
    pub fn on_reject<R2>(self, on_reject: R2) -> RouteResolveLayer<R2> {
        RouteResolveLayer {
            table: self.table,
            limits: self.limits,
            encoded_slash: self.encoded_slash,
            max_body_bytes: self.max_body_bytes,
            body_timers: self.body_timers,
            not_found: self.not_found,
            only_lane: self.only_lane,
            proxies: self.proxies,
            in_pipeline: self.in_pipeline,
            on_reject,
        }
    }

    /// The limit and the timers of the request's body.
    fn resolve(&self, parts: &mut Parts) -> Result<(u64, BodyTimers), Rejection> {
        let head = normalize_head(parts, self.limits, self.encoded_slash)?;
        let late = self.not_found == NotFound::AfterAuth && self.in_pipeline;
        let mut timers = self.body_timers;
        let lane = self.only_lane.as_ref();
        let (route_match, limit, time) = match self.table.find(parts, &head.other_paths, lane) {
            Found::Route(route) => {
                let limit = route.policy.max_body_bytes.unwrap_or(self.max_body_bytes);
                let call = route.policy.grpc_streams.as_ref();
                let call = call.filter(|_| is_grpc_call(parts));
                if call.is_some() {
                    timers = BodyTimers::NONE;
                }
                let timeouts = call.or(route.policy.timeouts.as_ref());
                stamp(&mut parts.extensions, route, timeouts);
                (&route.route_match, limit, route.policy.deadline)
            }
            missing => {
                let refused = no_route(missing);
                if !late {
                    return Err(refused);
                }
                parts.extensions.insert(LateRefusal(refused));
                if let Some(lane) = lane {
                    parts.extensions.get_or_insert_with(|| lane.clone());
                }
                let unmatched = self.table.unmatched();
                parts.extensions.insert(unmatched.clone());
                (unmatched, self.max_body_bytes, None)
            }
        };
        let mut began = None;
        if let Some(record) = Record::of(&parts.extensions) {
            record.update(|exchange| {
                exchange.route = Some(route_match.clone());
                began = exchange.began;
            });
        }
        // The clock is looked at where no observer has.
        let deadline =
            time.and_then(|time| Deadline::after(began.unwrap_or_else(Instant::now), time));
        if let Some(deadline) = deadline {
            parts.extensions.insert(deadline);
        }
        // A declared length is refused before a byte is read; the body's own count is kept all the same. The answer tells
        // that there is such a route, so it comes no earlier than a 404.
        if head.length.is_some_and(|length| length > limit) {
            let refused = Fault::TooLarge { limit_bytes: limit }.refusal();
            if !late {
                return Err(refused);
            }
            // What was refused before it, for another reason, stays.
            if parts.extensions.get::<LateRefusal>().is_none() {
                parts.extensions.insert(LateRefusal(refused));
            }
        }
        Ok((limit, timers))
    }

    /// Notes who called, for the observer: the stage that does so otherwise never sees the request.
    #[cold]
    fn note_client(&self, parts: &Parts) {
        if let Some(record) = Record::of(&parts.extensions)
            && let Ok(peer) = peer_addr(&parts.extensions)
        {
            let client = self.proxies.client(peer.ip(), &parts.headers);
            record.update(|exchange| _ = exchange.client.get_or_insert(client));
        }
    }
}

/// Whether the request is a gRPC call as far as a head can tell. A content type alone could be on any slow body.
fn is_grpc_call(parts: &Parts) -> bool {
    parts.version == Version::HTTP_2 && classify::is_grpc_call(&parts.method, &parts.headers)
}

/// What the route says counts. Of two pipelines, one behind the other, so does what the inner one's leaves open.
fn stamp(extensions: &mut Extensions, route: &RouteEntry, timeouts: Option<&Timeouts>) {
    let policy = &route.policy;
    let nested = extensions.insert(route.route_match.clone()).is_some();
    put(extensions, policy.lane.as_ref(), nested);
    put(extensions, policy.upstream.as_ref(), nested);
    put_unless_common(extensions, timeouts, nested);
    put_unless_common(extensions, policy.criticality.as_ref(), nested);
    let pass = policy.pass_error_bodies.then_some(&PassErrorBodies);
    put(extensions, pass, nested);
    if !policy.extensions.is_empty() {
        extensions.extend(policy.extensions.clone());
    }
}

/// Stamps a fact, or removes an earlier one if the fact says what holds without any.
fn put_unless_common<T>(extensions: &mut Extensions, fact: Option<&T>, replaced: bool)
where
    T: Clone + Default + PartialEq + Send + Sync + 'static,
{
    let rare = fact.filter(|fact| **fact != T::default());
    put(extensions, rare, replaced || fact.is_some());
}

/// Stamps a fact. If there is none, an earlier one stays unless it is `replaced` all the same.
fn put<T>(extensions: &mut Extensions, fact: Option<&T>, replaced: bool)
where
    T: Clone + Send + Sync + 'static,
{
    match fact {
        Some(fact) => _ = extensions.insert(fact.clone()),
        None if replaced => _ = extensions.remove::<T>(),
        None => {}
    }
}

fn no_route(found: Found<'_>) -> Rejection {
    let methods = match found {
        Found::OtherMethods(methods) => methods,
        Found::Several => return ambiguous_path(),
        Found::Nothing | Found::Route(_) => return Rejection::new(&codes::ROUTE_NOT_FOUND),
    };
    let allow = methods
        .iter()
        .map(Method::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    // Methods are tokens, and so is their list.
    let allow = HeaderValue::try_from(allow).unwrap_or(HeaderValue::from_static(""));
    Rejection::new(&codes::METHOD_NOT_ALLOWED).field(ALLOW, allow)
}

impl<F: FactSet, R> Stage<F> for RouteResolveLayer<R> {
    type Facts = F::WithRoute;
    type Layer = Self;

    fn into_layer(mut self) -> Self {
        self.in_pipeline = true;
        self
    }
}

impl<S, R: Clone> Layer<S> for RouteResolveLayer<R> {
    type Service = RouteResolve<S, R>;

    fn layer(&self, inner: S) -> RouteResolve<S, R> {
        RouteResolve {
            inner,
            layer: self.clone(),
        }
    }
}

/// The service of [`RouteResolveLayer`].
#[derive(Debug, Clone)]
pub struct RouteResolve<S, R = Respond> {
    inner: S,
    layer: RouteResolveLayer<R>,
}

impl<S, R, B, ResB> Service<Request<B>> for RouteResolve<S, R>
where
    S: Service<Request<RequestBody<B>>, Response = Response<ResB>>,
    B: http_body::Body,
    B::Error: Into<BoxError>,
    R: OnReject<Response<ResB>, S::Error> + Clone,
{
    type Response = Response<ResB>;
    type Error = R::Error;
    type Future = Decided<S::Future, R, ResB, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), R::Error>> {
        self.inner.poll_ready(cx).map_err(R::inner)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        match self.layer.resolve(&mut parts) {
            Ok((limit, timers)) => {
                let body = match body.is_end_stream() {
                    true => RequestBody::ended(body),
                    false => RequestBody::new(body, limit, timers, &mut parts.extensions),
                };
                let request = Request::from_parts(parts, body);
                call_into(&mut self.inner, request, Decided::inner)
            }
            Err(refused) => {
                self.layer.note_client(&parts);
                Decided::refuse::<slot::RouteResolve>(&self.layer.on_reject, refused, &parts)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn limits_that_no_request_keeps_are_refused() {
        let layer = || RouteResolveLayer::new(RouteTable::builder().build().unwrap());
        for (limits, field) in [
            (HeadLimits::new(0, 1, 1), "head_limits.uri_bytes"),
            (HeadLimits::new(1, 0, 1), "head_limits.fields"),
            (HeadLimits::new(1, 1, 0), "head_limits.field_bytes"),
        ] {
            assert_eq!(layer().head_limits(limits).unwrap_err().field(), field);
        }
        assert!(layer().head_limits(HeadLimits::new(1, 1, 1)).is_ok());
        let timers = |idle| layer().body_timers(BodyTimers::new(idle, 0));
        assert_eq!(
            timers(Duration::ZERO).unwrap_err().field(),
            "body_timers.idle"
        );
        assert!(timers(Duration::from_nanos(1)).is_ok());
    }
}
