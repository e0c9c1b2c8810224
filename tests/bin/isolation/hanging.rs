//! An upstream that holds 200 requests: as many of them as its lane lets in.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use gw_tests::bench::closed_loop::Run;
use gw_tests::bench::gateway::Gateway;
use gw_tests::bench::hang::Hang;
use gw_tests::bench::load::{self, Load, WARM_UP};
use gw_tests::bench::process::{PATIENCE, Process};
use gw_tests::bench::roles::{Role, held};
use gw_tests::bench::{Result, ports};
use tokio::time::{Instant, sleep};

use super::pair::{self, Pair, SLICE};
use super::{Args, CONNECTIONS, POLL};

/// Requests that ask the slow route at the same time.
const HANGING: usize = 200;

/// Places of all lanes together.
const PLACES: usize = 1024;

/// After the last of the hanging requests has come: opening two hundred connections is not what is measured.
const SETTLE: Duration = Duration::from_millis(100);

/// How many of the hanging requests the slow lane lets in.
#[derive(Debug, Clone, Copy)]
struct Scenario {
    title: &'static str,
    /// The slow lane's share of all places.
    cap: f64,
    /// Requests that the slow upstream then holds.
    held: usize,
}

const SCENARIOS: [Scenario; 2] = [
    Scenario {
        title: "a: the slow lane holds all of them (cap 0.5)",
        cap: 0.5,
        held: HANGING,
    },
    // 0.05 of 1024, rounded up as the configuration's contract says.
    Scenario {
        title: "b: the slow lane is full, the others ask again and again (cap 0.05)",
        cap: 0.05,
        held: 52,
    },
];

/// The processes of a scenario, and the open connections to the fast route.
#[derive(Debug)]
struct Stage {
    slow_addr: SocketAddr,
    gateway_addr: SocketAddr,
    load: Load,
    /// Killed when the scenario is over.
    _processes: [Process; 3],
}

pub(super) async fn measure(args: &Args, program: &Path) -> Result<bool> {
    let mut holds = true;
    for scenario in SCENARIOS {
        let scratch = tempfile::tempdir()?;
        let mut stage = Stage::set(args, program, scratch.path(), scenario).await?;
        let mut pairs = Vec::with_capacity(args.pairs.get());
        for _ in 0..args.pairs.get() {
            pairs.push(stage.pair(args, scenario).await?);
        }
        holds &= print(scenario, &pairs);
    }
    Ok(holds)
}

impl Stage {
    async fn set(args: &Args, program: &Path, scratch: &Path, scenario: Scenario) -> Result<Self> {
        let [fast_addr, slow_addr] = ports::free()?;
        let fast = Role::Upstream { listen: fast_addr };
        let fast = fast.start("fast-upstream", scratch).await?;
        let slow = Role::HangingUpstream { listen: slow_addr };
        let slow = slow.start("slow-upstream", scratch).await?;

        let tables = tables(fast_addr, slow_addr, scenario.cap);
        let configured = Gateway::configured(program, scratch, args.threads()?, &tables)?;
        let gateway_addr = configured.addr;
        let gateway = configured.start(scratch, PATIENCE).await?;

        let mut load = Load::open(gateway_addr, CONNECTIONS, load::get("/fast")).await?;
        load.run(WARM_UP).await?;
        Ok(Self {
            slow_addr,
            gateway_addr,
            load,
            _processes: [fast, slow, gateway],
        })
    }

    /// Without and with the hang in turns, in slices too short for the machine to change under them: the tail of a
    /// latency says more about what else runs on a machine than about anything, and that must touch both alike.
    async fn pair(&mut self, args: &Args, scenario: Scenario) -> Result<Pair> {
        let mut pair = Pair::default();
        let mut left = args.requests.get();
        while left > 0 {
            let slice = left.min(SLICE);
            pair.idle.append(self.load.run(slice).await?);
            let (run, refused) = self.hanging(args, scenario, slice).await?;
            pair.failing.append(run);
            pair.answers.refused += refused;
            left -= slice;
        }
        Ok(pair)
    }

    async fn hanging(
        &mut self,
        args: &Args,
        scenario: Scenario,
        requests: usize,
    ) -> Result<(Run, usize)> {
        let pause = Duration::from_millis(args.pause);
        let hang = Hang::start(self.gateway_addr, HANGING, &load::get("/slow"), pause)?;
        self.wait_until_held(scenario.held).await?;
        sleep(SETTLE).await;
        let refused_before = hang.answers().refused;
        let run = self.load.run(requests).await?;
        let refused = hang.answers().refused - refused_before;

        // The measurement is worth something only if the hang was there all the time.
        let still = held(self.slow_addr).await?;
        let answers = hang.answers();
        if still != scenario.held || answers.all() != answers.refused {
            return Err(format!("{still} requests still held, {answers:?} on /slow").into());
        }
        if (scenario.held < HANGING) != (refused > 0) {
            return Err(format!("{refused} requests refused with {} held", scenario.held).into());
        }
        drop(hang);
        self.wait_until_held(0).await?;
        Ok((run, refused))
    }

    async fn wait_until_held(&self, wanted: usize) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let held = held(self.slow_addr).await?;
            if held == wanted {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(
                    format!("the slow upstream holds {held} requests, not {wanted}").into(),
                );
            }
            sleep(POLL).await;
        }
    }
}

/// Two routes with an upstream each. The timers of the slow one are longer than any measurement: what hangs, hangs.
fn tables(fast: SocketAddr, slow: SocketAddr, cap: f64) -> String {
    format!(
        "[lanes]\ntotal = {PLACES}\n\n\
         [lanes.lane.core]\nguaranteed = 0.35\n\n\
         [lanes.lane.slow]\nguaranteed = 0.05\ncap = {cap}\ncriticality = \"sheddable\"\nqueue = 0\n\n\
         [upstreams.fast]\nendpoints = [\"http://{fast}\"]\n\n\
         [upstreams.slow]\nendpoints = [\"http://{slow}\"]\n\n\
         [[routes]]\nname = \"fast\"\nmatch = {{ prefix = \"/fast\" }}\nupstream = \"fast\"\npublic = true\n\n\
         [[routes]]\nname = \"slow\"\nmatch = {{ prefix = \"/slow\" }}\nupstream = \"slow\"\npublic = true\n\
         lane = \"slow\"\ntimeouts = {{ request = \"10m\", first_byte = \"10m\" }}\n"
    )
}

fn print(scenario: Scenario, pairs: &[Pair]) -> bool {
    pair::print(
        scenario.title,
        "hang",
        &["held", "refused/s"],
        pairs,
        |pair| {
            let refused = pair.answers.refused as f64 / pair.failing.elapsed().as_secs_f64();
            vec![scenario.held.to_string(), format!("{refused:.0}")]
        },
    )
}
