//! The gateway as a reader of this project would build it: a lane for logins and one for logs, a limit for each device,
//! and log uploads that are answered as soon as they are on disk.

mod intake;
mod protections;

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use gw_pipeline::inbound::{IpFilterLayer, RequestIdLayer, Route, RouteResolveLayer, RouteTable};
use gw_pipeline::server::{Incoming, Server, ServerConfig};
use gw_pipeline::upstream::{Forward, Upstream};
use gw_pipeline::{BoxError, ConfigError, Pipeline, TrustedProxies};
use http::{Method, Request, Response};
use http_body::Body;
use tokio::net::TcpListener;
use tower_layer::Layer as _;
use tower_service::Service;

use self::intake::Intake;
use self::protections::{lanes, rate_limit};
use crate::gateway::{Ledger, Options, Protection};
use crate::scenario::{LOGIN_PATH, LOGS_PATH, UPSTREAM_TIMEOUT};

/// The running gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    intake: Option<Intake>,
}

impl Gateway {
    /// What became of the events that were accepted; `None` if there is no queue.
    pub(crate) fn ledger(&self) -> Option<Ledger> {
        self.intake.as_ref().map(Intake::ledger)
    }
}

/// Serves a listener from now on. The queue is kept in `directory`.
pub(crate) async fn start(
    listener: TcpListener,
    options: &Options,
    directory: &Path,
) -> io::Result<Gateway> {
    let pipeline = Pipeline::builder()
        .request_id(RequestIdLayer::new())
        .route_resolve(RouteResolveLayer::new(routes().map_err(io::Error::other)?))
        .ip_filter(IpFilterLayer::new(balancer()?))
        .pre_auth_limit(rate_limit(options.is_without(Protection::RateLimit))?)
        .admit(lanes(options.is_without(Protection::Lanes))?);
    let forward = Forward::new(upstreams(options)?).map_err(io::Error::other)?;
    if options.is_without(Protection::Queue) {
        serve(listener, pipeline.forward(forward).build())?;
        return Ok(Gateway { intake: None });
    }
    let intake = Intake::start(directory, options.sink)?;
    let local_or_upstream = intake.layer().layer(forward);
    serve(listener, pipeline.forward(local_or_upstream).build())?;
    Ok(Gateway {
        intake: Some(intake),
    })
}

fn serve<S, B>(listener: TcpListener, service: S) -> io::Result<()>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    // Every connection comes from the balancer, so one address may have all of them.
    let config = ServerConfig::builder()
        .max_connections_per_ip(10_000)
        .build()
        .map_err(io::Error::other)?;
    let server = Server::new(config);
    tokio::spawn(async move { server.serve(listener, service, pending()).await });
    Ok(())
}

/// The balancer in front of the gateway: the only one that is believed about a client's address.
fn balancer() -> io::Result<TrustedProxies> {
    let loopback = "127.0.0.0/8".parse().map_err(io::Error::other)?;
    Ok(TrustedProxies::new([loopback]))
}

fn routes() -> Result<RouteTable, ConfigError> {
    let route = |name: &str, path: &str| {
        Route::path(name, path)
            .methods([Method::POST])
            .upstream(name)
            .lane(name)
            .deadline(UPSTREAM_TIMEOUT)
    };
    RouteTable::builder()
        .route(route("auth", LOGIN_PATH))
        .route(route("logs", LOGS_PATH))
        .build()
}

/// The log backend is asked only if the queue is left out.
fn upstreams(options: &Options) -> io::Result<[Upstream; 2]> {
    let upstream = |name: &str, address: SocketAddr| {
        let endpoint = format!("http://{address}").parse();
        Upstream::builder(name)
            .endpoint(endpoint.map_err(io::Error::other)?)
            .build()
            .map_err(io::Error::other)
    };
    Ok([
        upstream("auth", options.auth)?,
        upstream("logs", options.logs)?,
    ])
}
