//! A gateway's life: listeners, traffic, the end.
//!
//! The traffic has the configured number of threads, each with a runtime of its own, and one runtime that accepts. A lane's
//! own listeners have the same once more, as many threads as the lane, so that its clients reach nothing that the others
//! use before they are admitted. The health listener, the admin listener and the delivery of logs have a thread and a runtime each,
//! so that they go on whatever the traffic does. They are there before the traffic begins, and end after it: first the delivery,
//! which nothing is added to then, and last the listeners, so that an operator sees all of it. The health listener answers before
//! all else is built: what is stored is read back then, which takes its time, and who watches would start the gateway anew.

mod front;
mod listeners;
mod metrics;
mod own_thread;
mod side;

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use gw_bulkhead::MemoryThresholds;
use gw_observe::{AccessLog, AccessLogHandle, ObserveLayer};
use gw_pipeline::server::{Drained, Server, ServerConfig, Workers};
use tokio::runtime::Builder;
use tokio::sync::oneshot;

use self::front::{Apart, Front};
pub use self::front::{Connections, Listening};
pub use self::listeners::Addresses;
use self::listeners::Listeners;
pub use self::metrics::Metrics;
use self::own_thread::OwnThread;
use crate::admin::{self, Admin, OwnThreads, Token};
use crate::assembly::{
    self, Controls, Fault, Gateway, Logs, Services, assemble, close_stores, connect_stores, observe,
};
use crate::config::{Config, KeyPath, table};
use crate::health;
use crate::readiness::{Phase, Readiness};

/// How long connecting to the stores of limits may hold up the start.
const CONNECT_STORES: Duration = Duration::from_secs(2);
/// How long giving back what limits have leased may hold up the end.
const CLOSE_STORES: Duration = Duration::from_millis(500);

/// A gateway that is built, and whose listeners are open, and of which only the health listener is served yet.
#[derive(Debug)]
pub struct Prepared<S> {
    config: Config,
    log: AccessLog,
    parts: Parts<S>,
    listeners: Listeners,
    readiness: Readiness,
    health: OwnThread,
}

/// All that a configuration describes, but for the access log and the listeners.
#[derive(Debug)]
struct Parts<S> {
    token: Option<Token>,
    server: ServerConfig,
    memory: Option<MemoryThresholds>,
    services: Services<S>,
    controls: Controls,
    logs: Option<Logs>,
}

/// Builds all that `config` describes and opens nothing: what it finds wrong, [`prepare`] finds wrong.
///
/// # Errors
///
/// The setting at fault.
pub fn check(config: &Config) -> Result<(), Fault> {
    observe::check(config)?;
    build(config, &observe::layer(config, None)?, Logs::plan(config)?).map(drop)
}

/// Builds a gateway: opens its listeners, serves the one for health, and opens its access log and the queue of its log intake.
///
/// # Errors
///
/// The setting at fault: an address that is taken, say.
pub fn prepare(config: Config) -> Result<Prepared<impl Gateway>, Fault> {
    // The queue's measures go to the registry that is there when it is opened.
    Metrics::installed();
    // Before the logs, so that a second instance by mistake does not touch them.
    let (listeners, health) = Listeners::open(&config)?;
    let readiness = Readiness::default();
    let router = health::router(readiness.clone(), assembly::respond(&config.response));
    let health = side::serve("gw-health", health, router, None);
    let health = health.map_err(|error| refused_by_system(&error))?;
    let log = observe::access_log(&config).start();
    let log = log.map_err(|error| observe::fault(&error))?;
    let logs = Logs::open(&config)?;
    let parts = build(&config, &observe::layer(&config, Some(&log))?, logs)?;
    Ok(Prepared {
        config,
        log,
        parts,
        listeners,
        readiness,
        health,
    })
}

fn build(
    config: &Config,
    observe: &ObserveLayer,
    logs: Option<Logs>,
) -> Result<Parts<impl Gateway + use<>>, Fault> {
    let token = match &config.admin.token_file {
        Some(path) => {
            Some(Token::read(path).map_err(|message| Fault::new("admin.token_file", message))?)
        }
        None => None,
    };
    let server = server_config(&config.server)?;
    let memory = assembly::memory(&config.server.memory)?;
    let (services, controls) = assemble(config, observe, logs.as_ref())?;
    Ok(Parts {
        token,
        server,
        memory,
        services,
        controls,
        logs,
    })
}

impl<S: Gateway> Prepared<S> {
    /// Where it listens.
    pub const fn addresses(&self) -> &Addresses {
        self.listeners.addresses()
    }

    /// What an operator reads and does about the access log.
    pub fn log(&self) -> AccessLogHandle {
        self.log.handle()
    }

    /// Serves until `stop` has come and everything has ended, or the grace is over.
    ///
    /// `stop` runs on the runtime that accepts. When it ends, readiness fails; after the drain delay the listeners
    /// close, and requests in flight have the grace to end.
    ///
    /// # Errors
    ///
    /// If the system refuses threads or sockets.
    pub fn serve(self, stop: impl Future<Output = ()>) -> Result<Drained, Fault> {
        let Self {
            config,
            log,
            parts,
            listeners,
            readiness,
            // Dropped at the end, after the traffic: readiness can be read while requests drain.
            health: _health,
        } = self;
        let Parts {
            token,
            server,
            memory,
            services,
            controls,
            logs,
        } = parts;
        let metrics = Metrics::installed();
        let addresses = listeners.addresses().clone();
        let system = |error: io::Error| refused_by_system(&error);
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(system)?;
        if let Some(thresholds) = memory {
            // Here and not on the traffic's threads: they may be what has no time to look.
            runtime.spawn(controls.lanes.pressure().watch_memory(thresholds));
        }
        let limits = controls.limits.clone();
        let workers = Workers::start("gw-traffic", config.server.thread_count());
        let workers = workers.map_err(system)?;
        let shared = self::server(&config, &server, workers);
        let shared = Front::new(shared, services.all, listeners.traffic);
        let lanes = of_lanes(&config, &server, services.lanes, listeners.lanes)?;
        let threads = front::threads(&shared, &lanes);
        let connections = Connections::of(&shared, &lanes);
        let admin = Admin {
            readiness: readiness.clone(),
            metrics: metrics.clone(),
            log: log.handle(),
            controls,
            connections: connections.clone(),
            addresses,
            lane_threads: Arc::new(lane_threads(&config)),
        };
        // Dropped at the end as well.
        let admin = admin::router(admin, token, assembly::respond(&config.response));
        let _admin =
            side::serve("gw-admin", listeners.admin, admin, Some(metrics)).map_err(system)?;
        let grace = config.server.shutdown_grace;
        let delivery = logs.map(|logs| {
            OwnThread::start("gw-logs", |stopped| {
                Ok(logs.deliver(async { drop(stopped.await) }, grace))
            })
        });
        let delivery = delivery.transpose().map_err(system)?;

        // Before anybody asks: connecting takes longer than a request may wait. And here, where nothing blocks, and not on a
        // lane's thread, which may be busy when others ask.
        let mut stop = pin!(stop);
        let stopped = runtime.block_on(async {
            tokio::select! {
                () = &mut stop => true,
                () = connect_stores(&limits, CONNECT_STORES) => false,
            }
        });
        if stopped {
            readiness.enter(Phase::Draining);
        }
        let stop = async {
            if !stopped {
                stop.await;
            }
        };
        let lanes = lanes.into_iter().map(|(name, front)| {
            let apart = front.serve_apart(&format!("gw-listen-{name}"));
            apart.map_err(|error| refused_threads(&name, &error))
        });
        let lanes: Vec<Apart> = lanes.collect::<Result<_, _>>()?;
        let traffic = traffic(&config, shared, lanes, &connections, &readiness, stop);
        let drained = runtime.block_on(traffic);
        // Here, where their connections are.
        runtime.block_on(close_stores(&limits, CLOSE_STORES));
        // Tasks that outlived the grace are not waited for.
        runtime.shutdown_background();
        drop(threads);
        // Waits until what was taken is stored, and the queue's directory is free.
        drop(delivery);
        // Writes what is left of the access log, and waits for it, but not for long.
        drop(log);
        drained.map_err(|error| Fault::new("server.listen", error.to_string()))
    }
}

/// Serves all listeners until `stop`, then through delay and grace.
async fn traffic<S: Gateway>(
    config: &Config,
    shared: Front<S>,
    mut lanes: Vec<Apart>,
    connections: &Connections,
    readiness: &Readiness,
    stop: impl Future<Output = ()>,
) -> io::Result<Drained> {
    let (close, closed) = oneshot::channel::<()>();
    let shared = tokio::spawn(shared.serve(async { drop(closed.await) }));
    readiness.enter(Phase::Ready);
    stop.await;
    // Clients that keep their connections come back over new ones, elsewhere once the balancer knows: all who send anything
    // within the delay. A connection that is idle all the while is told nothing until it is closed.
    for listening in connections.iter() {
        listening.handle.announce_close();
    }
    readiness.enter(Phase::Draining);
    tokio::time::sleep(config.server.drain_delay).await;
    drop(close);
    lanes.iter_mut().for_each(Apart::close);
    let mut all = shared.await.map_err(io::Error::other)??;
    for lane in lanes {
        front::add(&mut all, lane.drained().await?);
    }
    Ok(all)
}

/// The fronts of lanes that have listeners, by the lane's name.
fn of_lanes<S: Gateway>(
    config: &Config,
    server: &ServerConfig,
    mut services: BTreeMap<String, S>,
    mut listeners: BTreeMap<String, Vec<TcpListener>>,
) -> Result<Vec<(String, Front<S>)>, Fault> {
    let mut fronts = Vec::new();
    for (name, lane) in config.lanes.own_listeners() {
        let (Some(service), Some(listeners)) = (services.remove(name), listeners.remove(name))
        else {
            continue;
        };
        let thread = format!("gw-conn-{name}");
        let workers = Workers::start_nice(&thread, lane.thread_count(), lane.niceness());
        let workers = workers.map_err(|error| refused_threads(name, &error))?;
        let front = Front::new(self::server(config, server, workers), service, listeners);
        fronts.push((name.to_owned(), front));
    }
    Ok(fronts)
}

fn lane_threads(config: &Config) -> BTreeMap<String, OwnThreads> {
    let threads = |lane: &table::Lane| {
        Some(OwnThreads {
            number: lane.threads?,
            nice: lane.niceness(),
        })
    };
    let lanes = config.lanes.lane.iter();
    lanes
        .filter_map(|(name, lane)| Some((name.clone(), threads(lane)?)))
        .collect()
}

fn refused_by_system(error: &io::Error) -> Fault {
    Fault::new("server.threads", format!("the system refuses: {error}"))
}

fn refused_threads(lane: &str, error: &io::Error) -> Fault {
    let message = format!("the system refuses: {error}");
    Fault::new(
        KeyPath::from("lanes.lane").key(lane).key("threads"),
        message,
    )
}

/// A server for the listeners of the traffic.
fn server(config: &Config, limits: &ServerConfig, workers: Workers) -> Server {
    Server::new(limits.clone())
        .workers(workers)
        .on_slow_head(assembly::slow_head(config))
}

fn server_config(server: &table::Server) -> Result<ServerConfig, Fault> {
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let bytes = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let http2 = &server.http2;
    ServerConfig::builder()
        .max_connections(count(server.max_connections.get()))
        .max_connections_per_ip(count(server.max_connections_per_ip.get()))
        .header_timeout(server.header_timeout)
        .keep_alive_timeout(server.keep_alive_timeout)
        .write_stall_timeout(server.write_stall_timeout)
        .shutdown_grace(server.shutdown_grace)
        .max_header_bytes(bytes(parser_limit(server)))
        .max_headers(count(server.max_headers.get()))
        .http2_max_concurrent_streams(http2.max_concurrent_streams.get())
        .http2_max_header_list_bytes(u32::try_from(http2.max_header_list_bytes).unwrap_or(u32::MAX))
        .http2_max_pending_resets(count(http2.max_pending_resets.get()))
        .build()
        .map_err(|error| Fault::new(KeyPath::of("server").below(error.field()), error.rule()))
}

/// What the parser takes, target and fields together: more than the pipeline lets pass, so that a head over a limit is refused by
/// the pipeline, with the envelope. What is far over it is the parser's to refuse.
fn parser_limit(server: &table::Server) -> u64 {
    /// No parser takes more.
    const MOST: u64 = 1 << 20;
    let fields = server.max_header_bytes.saturating_mul(2);
    fields.saturating_add(server.max_uri_bytes).min(MOST)
}
