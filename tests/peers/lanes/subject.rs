//! The servers that are compared, each as processes.

use std::env;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use clap::ValueEnum as _;
use gw_tests::bench::gateway::Gateway;
use gw_tests::bench::process::{PATIENCE, Process};
use gw_tests::bench::{Result, callgrind, ports};

use super::protection::{Protection, SHARE, TOTAL};
use super::saturation::Way;

/// A server that is protected in one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// The reference gateway, with a listener of the lane's own.
    Gateway,
    /// The reference gateway with one listener for all.
    GatewayOneListener,
    /// An application with this in front of its handlers.
    App(Protection),
}

/// All of them, in the order of the table.
pub const SUBJECTS: [Subject; 5] = [
    Subject::Gateway,
    Subject::GatewayOneListener,
    Subject::App(Protection::Gw),
    Subject::App(Protection::Tower),
    Subject::App(Protection::TowerResilience),
];

/// A subject that serves.
#[derive(Debug)]
pub struct Running {
    /// Where logins go.
    pub auth: SocketAddr,
    /// Where logs go.
    pub logs: SocketAddr,
    /// The server; what it sends requests to is behind it.
    pub server: Process,
    _upstreams: Vec<Process>,
}

/// How a subject is started.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// The gateway's program.
    pub gateway: &'a Path,
    /// Where processes run and log.
    pub directory: &'a Path,
    /// Threads for what has none of its own.
    pub threads: usize,
    /// Where callgrind puts what it counts, if it is to count.
    pub profile: Option<&'a Path>,
    /// For a server to come up.
    pub patience: Duration,
}

impl Subject {
    /// Its name in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway, own listener",
            Self::GatewayOneListener => "gateway, one listener",
            Self::App(Protection::Gw) => "axum, gw-bulkhead",
            Self::App(Protection::Tower) => "axum, tower",
            Self::App(Protection::TowerResilience) => "axum, tower-resilience",
            Self::App(Protection::Nothing) => "axum",
        }
    }

    /// Whether a promise is made about it.
    pub const fn is_promised(self) -> bool {
        matches!(self, Self::Gateway | Self::App(Protection::Gw))
    }

    /// Whether saturating it in this way tells anything.
    pub const fn can_be(self, way: Way) -> bool {
        match (self, way) {
            // Nothing in the gateway blocks a thread: what does is in an upstream.
            (Self::Gateway | Self::GatewayOneListener, Way::BlockingHandlers) => false,
            // It is there for what comes before a request is in its lane.
            (Self::GatewayOneListener, way) => matches!(way, Way::Flood | Way::IdleConnections),
            _ => true,
        }
    }

    /// Starts it.
    ///
    /// # Errors
    ///
    /// If a process does not come up.
    pub async fn start(self, start: Start<'_>) -> Result<Running> {
        match self {
            Self::App(protection) => {
                let [listen] = ports::free()?;
                let server = app("app", listen, protection, start).await?;
                Ok(Running {
                    auth: listen,
                    logs: listen,
                    server,
                    _upstreams: Vec::new(),
                })
            }
            Self::Gateway => gateway(start, true).await,
            Self::GatewayOneListener => gateway(start, false).await,
        }
    }
}

async fn app(
    name: &'static str,
    listen: SocketAddr,
    protection: Protection,
    start: Start<'_>,
) -> Result<Process> {
    let protection = protection.to_possible_value().ok_or("no such protection")?;
    let mut words = vec![env::current_exe()?.into_os_string()];
    let arguments = format!(
        "app --listen {listen} --threads {} --protection {}",
        start.threads,
        protection.get_name()
    );
    words.extend(arguments.split(' ').map(OsString::from));
    let mut process = Process::start(name, &words, start.directory)?;
    process.accepts(listen, PATIENCE).await?;
    Ok(process)
}

async fn gateway(start: Start<'_>, own_listener: bool) -> Result<Running> {
    let [auth, logs, lane] = ports::free()?;
    let upstreams = vec![
        app("auth", auth, Protection::Nothing, start).await?,
        app("logs", logs, Protection::Nothing, start).await?,
    ];
    let listen = match own_listener {
        true => format!("listen = [\"{lane}\"]\n"),
        false => String::new(),
    };
    let tables = tables(auth, logs, &listen);
    let configured = Gateway::configured(start.gateway, start.directory, start.threads, &tables)?;
    let words = match start.profile {
        Some(profile) => callgrind::by_thread(&configured.words, profile),
        None => configured.words,
    };
    let mut server = Process::start("gateway", &words, start.directory)?;
    server.accepts(configured.addr, start.patience).await?;
    Ok(Running {
        auth: configured.addr,
        logs: if own_listener { lane } else { configured.addr },
        server,
        _upstreams: upstreams,
    })
}

/// The timers of the route for logs are longer than any measurement: what hangs, hangs.
fn tables(auth: SocketAddr, logs: SocketAddr, listen: &str) -> String {
    format!(
        "[lanes]\ntotal = {TOTAL}\n\n\
         [lanes.lane.auth]\nguaranteed = 0.4\ncriticality = \"critical-plus\"\n\n\
         [lanes.lane.logs]\nguaranteed = {SHARE}\ncap = {SHARE}\ncriticality = \"sheddable\"\nqueue = 0\nthreads = 1\n\
         {listen}\n\
         [upstreams.auth]\nendpoints = [\"http://{auth}\"]\n\n\
         [upstreams.logs]\nendpoints = [\"http://{logs}\"]\n\n\
         [[routes]]\nname = \"login\"\nmatch = {{ prefix = \"/auth\" }}\nupstream = \"auth\"\npublic = true\n\
         lane = \"auth\"\n\n\
         [[routes]]\nname = \"logs\"\nmatch = {{ prefix = \"/logs\" }}\nupstream = \"logs\"\npublic = true\n\
         lane = \"logs\"\ntimeouts = {{ request = \"10m\", first_byte = \"10m\" }}\n"
    )
}
