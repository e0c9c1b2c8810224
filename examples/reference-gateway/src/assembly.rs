//! A configuration as layers, in the order that the compiler checks.

mod asked;
mod authenticate;
mod dispatch;
mod fault;
mod lanes;
mod limits;
pub(crate) mod log_ingest;
pub mod observe;
mod paths;
mod resolve;
mod routes;
mod upstreams;

use std::collections::BTreeMap;
use std::convert::Infallible;

use bytes::Bytes;
use gw_bulkhead::BulkheadHandle;
use gw_core::key::TrustedProxies;
use gw_core::{Mode, OnReject, RejectContext, Rejection, Respond};
use gw_observe::{ObserveLayer, ResponseBody};
use gw_pipeline::inbound::{
    AcceptId, BodyTimers, EncodedSlash, HeadLimits, IpFilterLayer, NotFound, RequestIdLayer,
    RouteResolveLayer,
};
use gw_pipeline::outbound::{AnswerLayer, ResponseHeaders};
use gw_pipeline::server::Incoming;
use gw_pipeline::{Body, Description, Pipeline, codes};
use http::header::{
    HeaderName, HeaderValue, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{Request, Response};
use tower_service::Service;

pub use self::fault::Fault;
pub(crate) use self::lanes::memory;
pub use self::limits::{LimitControls, StoreControls};
pub(crate) use self::limits::{close_stores, connect_stores, is_asked};
pub use self::log_ingest::{Engine, LogControls, Logs};
use self::resolve::ResolveStage;
pub use self::upstreams::UpstreamControls;
use crate::config::{Config, table};

/// What an operator reads and changes while the gateway serves.
#[derive(Debug, Clone)]
pub struct Controls {
    /// What the pipeline is made of.
    pub pipeline: Description,
    pub lanes: BulkheadHandle,
    /// Those that are asked before authentication, and those behind it.
    pub limits: [LimitControls; 2],
    pub upstreams: Vec<UpstreamControls>,
    /// None if no route ends in the log intake.
    pub logs: Option<LogControls>,
}

/// What serves the listeners of a gateway. They are instances of one pipeline, with the same limits, lanes and upstreams.
#[derive(Debug)]
pub struct Services<S> {
    /// For those of `[server]`: all routes.
    pub all: S,
    /// For those of lanes, by the lane's name: the lane's routes.
    pub lanes: BTreeMap<String, S>,
}

/// A gateway's service: cheap to clone, once for each connection.
pub trait Gateway:
    Service<
        Request<Incoming>,
        Response = Response<ResponseBody<Body>>,
        Error = Infallible,
        Future: Send,
    > + Clone
    + Send
    + 'static
{
}

impl<S> Gateway for S where
    S: Service<
            Request<Incoming>,
            Response = Response<ResponseBody<Body>>,
            Error = Infallible,
            Future: Send,
        > + Clone
        + Send
        + 'static
{
}

/// The services, with `observe` outermost, and their controls; `logs` is what routes with that service end in. Threads of
/// lanes are running when it returns.
///
/// # Errors
///
/// If the configuration asks for what cannot be built, or for what must not be left out silently.
pub fn assemble(
    config: &Config,
    observe: &ObserveLayer,
    logs: Option<&Logs>,
) -> Result<(Services<impl Gateway + use<>>, Controls), Fault> {
    fault::refuse_unsupported(config)?;
    let server = &config.server;
    let proxies = TrustedProxies::new(server.trusted_proxies.iter().copied());
    let respond = respond(&config.response);

    let routes = routes::routes(config)?;
    let limits = limits::before_authentication(config, &respond)?;
    let consumer_limits = limits::after_authentication(config, &respond)?;
    limits::check_unasked(config, &respond)?;
    let lanes = lanes::lanes(config)
        .map_err(|error| Fault::of_lanes(&error))?
        .on_reject(respond.clone());
    let upstreams = upstreams::upstreams(config)?;
    let forward = upstreams::forward(config, &upstreams, proxies.clone())?;
    let authenticate = authenticate::authenticate(config)?.on_reject(respond.clone());
    let authorize = authenticate::authorize(config, &routes)?.on_reject(respond.clone());
    let body_timers = BodyTimers::new(server.body_idle_timeout, server.min_body_rate);
    let resolve = RouteResolveLayer::new(routes)
        .head_limits(head_limits(server))
        .and_then(|resolve| resolve.body_timers(body_timers))
        .map_err(|error| Fault::new("server", error.to_string()))?
        .encoded_slash(encoded_slash(server.encoded_slash))
        .max_body_bytes(server.max_body_bytes)
        .not_found(not_found(server.not_found))
        .trusted_proxies(proxies.clone())
        .on_reject(respond.clone());
    // Layers keep their state when they are cloned, so what one service counts all of them know.
    let service = |resolve| {
        Pipeline::builder()
            .observe(observe.clone())
            .answer(
                AnswerLayer::new()
                    .on_reject(respond.clone())
                    .headers(response_headers(&config.response)),
            )
            .request_id(request_id(&server.request_id, &proxies))
            .route_resolve(ResolveStage(resolve))
            .ip_filter(ip_filter(config, proxies.clone()).on_reject(respond.clone()))
            .pre_auth_limit(limits.clone())
            .admit(lanes.clone())
            .authenticate(authenticate.clone())
            .post_auth_limit(consumer_limits.clone())
            .authorize(authorize.clone())
            .transform(config.auth.identity_headers.layer())
            .upstreams(forward.describe())
            .forward_keeping_deadline(dispatch::Dispatch::new(
                forward.clone(),
                logs.map(|logs| logs.intake(respond.clone())),
                config.auth.forward_credentials,
            ))
            .build()
    };
    let of_lane = |name: &str| service(resolve.clone().only_lane(name));
    let own_listeners = config.lanes.own_listeners();
    let services = Services {
        lanes: own_listeners
            .map(|(name, _)| (name.to_owned(), of_lane(name)))
            .collect(),
        all: service(resolve),
    };
    let controls = Controls {
        pipeline: services.all.describe().clone(),
        lanes: lanes.handle(),
        limits: [limits.controls(), consumer_limits.controls()],
        upstreams,
        logs: logs.map(Logs::controls),
    };
    Ok((services, controls))
}

/// What makes the answer to a head that took too long, which no service sees: it has all that the others have.
pub(crate) fn slow_head(config: &Config) -> impl Fn() -> Response<Bytes> + use<> {
    let respond = respond(&config.response);
    let headers = response_headers(&config.response);
    let id_header = config.server.request_id.header.clone();
    move || {
        let id = RequestIdLayer::new_id();
        let mut asked = Request::new(());
        asked.extensions_mut().insert(id.clone());
        let late = Rejection::new(&codes::CLIENT_TIMEOUT);
        let context = RejectContext::of(&asked);
        let Ok(mut answer) = OnReject::<_, Infallible>::reject(&respond, late, &context);
        headers.apply(answer.headers_mut());
        let id = id.header_value().clone();
        answer.headers_mut().insert(&id_header, id);
        answer
    }
}

/// What renders the refusals of all listeners.
pub(crate) fn respond(response: &table::Response) -> Respond {
    match &response.documentation_url {
        Some(url) => Respond::new().documentation_url(url.uri().to_string()),
        None => Respond::new(),
    }
}

fn response_headers(response: &table::Response) -> ResponseHeaders {
    let security = &response.security_headers;
    let frame_options = security.frame_options.map(|options| {
        HeaderValue::from_static(match options {
            table::FrameOptions::Deny => "DENY",
            table::FrameOptions::SameOrigin => "SAMEORIGIN",
        })
    });
    let nosniff = security
        .content_type_options
        .then(|| HeaderValue::from_static("nosniff"));
    let added: [(HeaderName, Option<HeaderValue>); 3] = [
        (X_CONTENT_TYPE_OPTIONS, nosniff),
        (X_FRAME_OPTIONS, frame_options),
        (STRICT_TRANSPORT_SECURITY, security.hsts.clone()),
    ];
    let headers = response
        .remove_headers
        .iter()
        .cloned()
        .fold(ResponseHeaders::none(), ResponseHeaders::remove);
    added
        .into_iter()
        .fold(headers, |headers, (name, value)| match value {
            Some(value) => headers.add(name, value),
            None => headers,
        })
}

fn request_id(written: &table::RequestId, proxies: &TrustedProxies) -> RequestIdLayer {
    let accept = match written.accept {
        table::Accept::Trusted => AcceptId::Trusted(proxies.clone()),
        table::Accept::Always => AcceptId::Always,
        table::Accept::Never => AcceptId::Never,
    };
    RequestIdLayer::new()
        .header(written.header.clone())
        .accept(accept)
}

fn head_limits(server: &table::Server) -> HeadLimits {
    HeadLimits::new(
        usize::try_from(server.max_uri_bytes).unwrap_or(usize::MAX),
        usize::try_from(server.max_headers.get()).unwrap_or(usize::MAX),
        usize::try_from(server.max_header_bytes).unwrap_or(usize::MAX),
    )
}

const fn encoded_slash(written: table::EncodedSlash) -> EncodedSlash {
    match written {
        table::EncodedSlash::Reject => EncodedSlash::Reject,
        table::EncodedSlash::Keep => EncodedSlash::Keep,
    }
}

const fn not_found(written: table::NotFound) -> NotFound {
    match written {
        table::NotFound::AfterAuth => NotFound::AfterAuth,
        table::NotFound::Early => NotFound::Early,
    }
}

fn ip_filter(config: &Config, proxies: TrustedProxies) -> IpFilterLayer {
    let filter = IpFilterLayer::new(proxies);
    match config.ip.mode {
        Mode::Enforce => filter
            .allow(config.ip.allow.iter().copied())
            .deny(config.ip.deny.iter().copied()),
        Mode::Shadow | Mode::Off => filter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pipeline_lacks_nothing() {
        let text = "[upstreams.a]\nendpoints = [\"http://h:1\", \"http://h:2\"]\n[[routes]]\nname = \"all\"\n\
                    match = { prefix = \"/\" }\nupstream = \"a\"\npublic = true\n";
        let config = Config::parse("gateway.toml", text, "".as_ref(), &|_| None).unwrap();
        let observe = observe::layer(&config, None).unwrap();
        let (_, controls) = assemble(&config, &observe, None).unwrap();
        let pipeline = &controls.pipeline;
        assert_eq!(pipeline.lint(), [], "{pipeline}");
        assert_eq!(pipeline.stages().len(), 12, "{pipeline}");
        assert_eq!(pipeline.upstreams().len(), 1, "{pipeline}");
    }
}
