//! The gateway and the upstreams behind it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use gw_tests::bench::Result;
use gw_tests::bench::connection::Connection;
use gw_tests::bench::footprint::Footprint;
use gw_tests::bench::gateway::Gateway;
use gw_tests::bench::ports;
use gw_tests::bench::process::{PATIENCE, Process};
use gw_tests::bench::roles::{Failure, Role};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

/// For everything to be given back once the clients are gone. Upstream connections may rest for a second, and a request
/// that hangs may take its three.
const REST: Duration = Duration::from_secs(15);

const POLL: Duration = Duration::from_millis(100);

/// Files that come and go at rest: a connection to the admin listener, a segment of the queue.
const SPARE_FILES: usize = 4;

/// What a large answer has, more than all buffers on its way.
const LARGE: usize = 4 << 20;

/// Where clients go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    pub(super) gateway: SocketAddr,
    pub(super) lane: SocketAddr,
}

#[derive(Debug)]
pub(super) struct Stage {
    pub(super) ports: Ports,
    admin: SocketAddr,
    gateway: Process,
    /// Killed with the stage.
    _upstreams: Vec<Process>,
    large: AbortHandle,
}

impl Stage {
    pub(super) async fn set(program: &Path, scratch: &Path) -> Result<Self> {
        let [well, hanging, resetting, half, large, lane] = ports::free()?;
        let roles = [
            ("well", Role::Upstream { listen: well }),
            ("hanging", Role::HangingUpstream { listen: hanging }),
            (
                "resetting",
                Role::FailingUpstream {
                    listen: resetting,
                    failure: Failure::Reset,
                },
            ),
            (
                "half",
                Role::FailingUpstream {
                    listen: half,
                    failure: Failure::Half,
                },
            ),
        ];
        let mut upstreams = Vec::with_capacity(roles.len());
        for (name, role) in roles {
            upstreams.push(role.start(name, scratch).await?);
        }
        let listener = TcpListener::bind(large).await?;
        let large_task = tokio::spawn(serve_large(listener)).abort_handle();
        let tables = tables([well, hanging, resetting, half, large], lane);
        let configured = Gateway::configured(program, scratch, 2, &tables)?;
        let gateway = configured.start(scratch, PATIENCE).await?;
        Ok(Self {
            ports: Ports {
                gateway: configured.addr,
                lane,
            },
            admin: configured.admin,
            gateway,
            _upstreams: upstreams,
            large: large_task,
        })
    }

    /// Waits until no place is taken, nobody waits, and no more files are open than at `idle`; what is held then.
    pub(super) async fn at_rest(&self, idle: Option<Footprint>) -> Result<Footprint> {
        let deadline = Instant::now() + REST;
        loop {
            let lanes = self.lanes().await?;
            let held = Footprint::of(self.gateway.pid())?;
            let files = idle.map_or(usize::MAX, |idle| idle.files + SPARE_FILES);
            // Without anything to compare with, the pools are given the time to let go.
            let in_time = Instant::now() < deadline;
            if empty(&lanes) && held.files <= files && (idle.is_some() || !in_time) {
                return Ok(held);
            }
            if !in_time {
                return Err(format!("not at rest after {REST:?}: {held:?}, {lanes}").into());
            }
            sleep(POLL).await;
        }
    }

    async fn lanes(&self) -> Result<Value> {
        let mut connection = Connection::open(self.admin).await?;
        // The admin listener answers to names of this machine alone.
        let request = format!("GET /lanes HTTP/1.1\r\nhost: {}\r\n\r\n", self.admin);
        let head = connection.exchange(request.as_bytes()).await?;
        Ok(serde_json::from_slice(connection.body(head))?)
    }

    /// Asks the gateway to end; whether it did so in order.
    pub(super) async fn end(self) -> Result<bool> {
        self.large.abort();
        Ok(self.gateway.terminate(PATIENCE).await?.success())
    }
}

fn empty(lanes: &Value) -> bool {
    let each = lanes.pointer("/lanes").and_then(Value::as_array);
    let idle = |lane: &Value| {
        let zero = |field| lane.pointer(field).and_then(Value::as_u64) == Some(0);
        zero("/in_flight") && zero("/queued")
    };
    each.is_some_and(|each| !each.is_empty() && each.iter().all(idle))
}

/// Answers whatever it is asked with a body that is longer than any client here reads.
async fn serve_large(listener: TcpListener) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        // It ends with the connection, and how that ends says nothing.
        tokio::spawn(async move { answer_at_length(stream).await.ok() });
    }
}

async fn answer_at_length(mut stream: TcpStream) -> Result<()> {
    let mut request = Vec::new();
    let piece = vec![b'x'; 64 << 10];
    while stream.read_buf(&mut request).await? > 0 {
        if !request.ends_with(b"\r\n\r\n") {
            continue;
        }
        request.clear();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        for _ in 0..LARGE / piece.len() {
            stream.write_all(&piece).await?;
        }
    }
    Ok(())
}

/// Each upstream has a route of its name; logs have a lane of their own thread and listener.
fn tables(upstreams: [SocketAddr; 5], lane: SocketAddr) -> String {
    let [well, hanging, resetting, half, large] = upstreams;
    let mut tables = format!(
        r#"
[lanes]
total = 128

[lanes.lane.core]
guaranteed = 0.35
queue      = 16

[lanes.lane.auth]
guaranteed    = 0.40
criticality   = "critical-plus"
queue         = 64
queue_timeout = "100ms"

[lanes.lane.logs]
guaranteed = 0.05
cap        = 0.15
queue      = 0
max_hold   = "2s"
per_key    = {{ key = "ip", max = 8 }}
threads    = 1
listen     = ["{lane}"]

[limits.per_ip]
key   = "ip"
rate  = "2000/s"
burst = 500

[upstreams.auth]
endpoints = ["http://{well}"]

[[routes]]
name     = "login"
match    = {{ prefix = "/api/auth" }}
upstream = "auth"
lane     = "auth"
public   = true

[[routes]]
name    = "logs"
match   = {{ path = "/api/logs" }}
service = "log-ingest"
lane    = "logs"
public  = true

[log_ingest]
queue      = {{ engine = "disk", dir = "queue", max_bytes = "64MiB" }}
sink       = {{ kind = "file", path = "events.ndjson" }}
per_client = {{ rate = "10000/s", burst = 10000 }}
"#
    );
    for (name, endpoint) in [
        ("hanging", hanging),
        ("resetting", resetting),
        ("half", half),
        ("large", large),
    ] {
        tables.push_str(&format!(
            r#"
[upstreams.{name}]
endpoints    = ["http://{endpoint}"]
pool         = {{ max_connections = 32, max_idle = 8, idle_timeout = "1s", queue = 16, queue_timeout = "200ms" }}
breaker      = {{ consecutive = 5, min_calls = 20, window = "10s", open = "200ms", open_max = "1s", probes = 1 }}
retry_budget = {{ ratio = 0.2, min_per_second = 10 }}

[[routes]]
name     = "{name}"
match    = {{ prefix = "/{name}" }}
upstream = "{name}"
limits   = ["per_ip"]
public   = true
timeouts = {{ request = "3s", attempt = "1s" }}
retry    = {{ max_attempts = 3, methods = ["GET", "HEAD"], backoff = {{ base = "10ms", max = "100ms" }} }}
hedge    = {{ percentile = 0.99, max_extra_load = 0.05 }}
"#
        ));
    }
    tables
}
