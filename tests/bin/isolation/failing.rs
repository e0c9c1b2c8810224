//! An upstream that fails, with the protections of the configuration's contract in front of it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use gw_tests::bench::gateway::Gateway;
use gw_tests::bench::hang::{Answers, Hang};
use gw_tests::bench::load::{self, Load, WARM_UP};
use gw_tests::bench::process::{PATIENCE, Process};
use gw_tests::bench::roles::{Failure, Role};
use gw_tests::bench::{Result, ports};
use tokio::time::{Instant, sleep};

use super::pair::{self, Pair, SLICE};
use super::{Args, CONNECTIONS, POLL};

/// Clients of the failing upstream.
const CLIENTS: usize = 200;

/// From the start of these clients to the measurement: opening two hundred connections is not what is measured.
const SETTLE: Duration = Duration::from_millis(100);

/// One target with the template of the contract's reads.
const READ: &str = "/api/v1/orders/4711";

#[derive(Debug, Clone, Copy)]
enum Kind {
    Fails(Failure),
    /// Nobody listens.
    Refuses,
    /// It has failed until its breaker opened, and works again.
    Recovers,
}

const SCENARIOS: [(&str, &str, Kind); 5] = [
    ("a: it hangs", "hang", Kind::Fails(Failure::Hang)),
    ("b: it refuses connections", "refusals", Kind::Refuses),
    (
        "c: it resets connections",
        "resets",
        Kind::Fails(Failure::Reset),
    ),
    (
        "d: it answers every other request with 500",
        "500s",
        Kind::Fails(Failure::Half),
    ),
    ("e: it has failed, and recovers", "recovery", Kind::Recovers),
];

/// A gateway whose breaker has seen nothing yet, and the open connections to the other route.
#[derive(Debug)]
struct Stage {
    gateway: SocketAddr,
    load: Load,
    /// Killed with the stage.
    _processes: Vec<Process>,
}

pub(super) async fn measure(args: &Args, program: &Path) -> Result<bool> {
    let mut holds = true;
    for (title, name, kind) in SCENARIOS {
        let mut pairs = Vec::with_capacity(args.pairs.get());
        for _ in 0..args.pairs.get() {
            let scratch = tempfile::tempdir()?;
            let mut stage = Stage::set(args, program, scratch.path(), kind).await?;
            let pair = stage.pair(args).await?;
            check(title, kind, pair.answers)?;
            pairs.push(pair);
        }
        holds &= print(title, name, &pairs);
    }
    Ok(holds)
}

/// The measurement is worth something only if the upstream did what it is said to have done.
fn check(title: &str, kind: Kind, answers: Answers) -> Result<()> {
    // In each of the ways the breaker opens. What failed before may have been tried again until then, so that it shows as
    // a refusal too.
    let as_said = match kind {
        Kind::Fails(Failure::Half) => answers.answered > 0 && answers.refused > 0,
        Kind::Fails(_) | Kind::Refuses => answers.answered == 0 && answers.refused > 0,
        Kind::Recovers => answers.answered > 0,
    };
    if as_said && answers.unexpected == 0 {
        return Ok(());
    }
    Err(format!("{title}: its clients saw {answers:?}").into())
}

impl Stage {
    async fn set(args: &Args, program: &Path, scratch: &Path, kind: Kind) -> Result<Self> {
        let [well_addr, failing_addr] = ports::free()?;
        let well = Role::Upstream { listen: well_addr };
        let well = well.start("well", scratch).await?;
        let mut processes = vec![well];
        let first = match kind {
            Kind::Fails(failure) => Some(failure),
            Kind::Refuses => None,
            Kind::Recovers => Some(Failure::Reset),
        };
        if let Some(failure) = first {
            processes.push(fails(failing_addr, failure, scratch).await?);
        }

        let tables = tables(well_addr, failing_addr);
        let configured = Gateway::configured(program, scratch, args.threads()?, &tables)?;
        let gateway = configured.start(scratch, PATIENCE).await?;

        if matches!(kind, Kind::Recovers) {
            // Dropped, the one that fails is gone; its address is taken by one that works.
            let failing = processes.pop();
            wait_for(args, configured.addr, |answers| answers.refused > 0).await?;
            drop(failing);
            let recovered = Role::Upstream {
                listen: failing_addr,
            };
            processes.push(recovered.start("recovered", scratch).await?);
            // Until the first one is let through to see.
            wait_for(args, configured.addr, |answers| answers.answered > 0).await?;
        }
        processes.push(gateway);
        let request = load::get("/api/auth/login");
        let mut load = Load::open(configured.addr, CONNECTIONS, request).await?;
        load.run(WARM_UP).await?;
        Ok(Self {
            gateway: configured.addr,
            load,
            _processes: processes,
        })
    }

    /// Without and with clients of the failing upstream in turns, in slices too short for the machine to change under them.
    async fn pair(&mut self, args: &Args) -> Result<Pair> {
        let mut pair = Pair::default();
        let mut left = args.requests.get();
        while left > 0 {
            let slice = left.min(SLICE);
            pair.idle.append(self.load.run(slice).await?);
            let clients = clients(args, self.gateway)?;
            sleep(SETTLE).await;
            pair.failing.append(self.load.run(slice).await?);
            let answers = clients.answers();
            pair.answers.answered += answers.answered;
            pair.answers.refused += answers.refused;
            pair.answers.failed += answers.failed;
            pair.answers.unexpected += answers.unexpected;
            drop(clients);
            left -= slice;
        }
        Ok(pair)
    }
}

fn clients(args: &Args, gateway: SocketAddr) -> Result<Hang> {
    let pause = Duration::from_millis(args.pause);
    Hang::start(gateway, CLIENTS, &load::get(READ), pause)
}

/// Asks as the clients do until they have seen what is waited for.
async fn wait_for(args: &Args, gateway: SocketAddr, seen: impl Fn(Answers) -> bool) -> Result<()> {
    let clients = clients(args, gateway)?;
    let deadline = Instant::now() + PATIENCE;
    while !seen(clients.answers()) {
        if Instant::now() >= deadline {
            return Err(format!("the clients saw {:?}", clients.answers()).into());
        }
        sleep(POLL).await;
    }
    Ok(())
}

async fn fails(addr: SocketAddr, failure: Failure, scratch: &Path) -> Result<Process> {
    let role = Role::FailingUpstream {
        listen: addr,
        failure,
    };
    role.start("failing", scratch).await
}

/// Lanes, upstream and route as in the configuration's contract (`orders`, `orders-read`, `login`), without limits and
/// authentication. Attempts have 150 ms instead of 3 s, so that those that hang end within the measurement.
fn tables(well: SocketAddr, failing: SocketAddr) -> String {
    format!(
        r#"
[lanes]
total = 512

[lanes.lane.core]
guaranteed = 0.35

[lanes.lane.auth]
guaranteed    = 0.40
criticality   = "critical-plus"
queue         = 64
queue_timeout = "100ms"

[upstreams.orders]
endpoints       = ["http://{failing}"]
balance         = "least-request"
connect_timeout = "3s"
send_timeout    = "10s"
pool            = {{ max_connections = 256, max_idle = 64, idle_timeout = "60s", queue = 128, queue_timeout = "1s" }}
eject           = {{ consecutive = 5, base = "30s", max_percent = 50, panic_below = 0.5 }}
breaker         = {{ consecutive = 5, failure_rate = 0.5, slow_over = "2s", slow_rate = 0.8, min_calls = 20, window = "10s", open = "5s", open_max = "5m", probes = 1 }}
retry_budget    = {{ ratio = 0.2, min_per_second = 10 }}

[upstreams.auth]
endpoints = ["http://{well}"]

[[routes]]
name     = "login"
match    = {{ prefix = "/api/auth" }}
upstream = "auth"
lane     = "auth"
public   = true
timeouts = {{ request = "5s" }}

[[routes]]
name     = "orders-read"
match    = {{ path = "/api/v1/orders/{{id}}", methods = ["GET", "HEAD"] }}
upstream = "orders"
public   = true
timeouts = {{ request = "10s", attempt = "150ms" }}
retry    = {{ max_attempts = 3, methods = ["GET", "HEAD", "OPTIONS"], backoff = {{ base = "100ms", max = "2s" }}, replay_max = "64KiB" }}
hedge    = {{ percentile = 0.99, max_extra_load = 0.01 }}
"#
    )
}

fn print(title: &str, name: &str, pairs: &[Pair]) -> bool {
    let others = ["answered", "failed", "refused"];
    pair::print(title, name, &others, pairs, |pair| {
        let Answers {
            answered,
            failed,
            refused,
            ..
        } = pair.answers;
        [answered, failed, refused]
            .map(|count| count.to_string())
            .into()
    })
}
