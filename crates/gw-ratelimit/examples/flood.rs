//! What a flood of keys does to a limiter's memory, and to those who are in debt or come new while it lasts.
//!
//! `cargo run --release -p gw-ratelimit --example flood` sends 100,000,000 distinct keys through compact memory and
//! 10,000,000 through exact memory, both bounded to a million. It takes a minute or two, and all of it happens on a
//! clock of its own. A first argument divides the numbers: `-- 100` is over in a moment.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "an example that prints"
)]

use std::time::Duration;

use gw_ratelimit::{Limiter, Memory, PolicyId, Quota};
use tokio::time::Instant;

/// Of the quota that newcomers are measured under; then come some with less room.
const BURST: u32 = 20;
/// What one cell costs, in all quotas here.
const INTERVAL: Duration = Duration::from_millis(100);

fn main() {
    let divisor: usize = std::env::args()
        .nth(1)
        .map_or(1, |arg| arg.parse().expect("a number"));
    let bound = 1_000_000 / divisor;
    println!("bound: {bound} keys\n\nfloods:");
    for (name, memory, keys) in [
        ("compact", Memory::compact(bound), 100_000_000),
        ("exact", Memory::exact(bound), 10_000_000),
    ] {
        for all_in_debt in [false, true] {
            flood(name, memory, keys / divisor as u64, all_in_debt);
        }
    }
    let bound = bound / 10;
    println!("\nnewcomers refused, in percent, with a bound of {bound} keys:");
    println!("| burst | keys in debt, of the bound | requests of each | exact | compact |");
    println!("|---|---|---|---|---|");
    let below_the_bound: &[u64] = &[25, 50, 75, 90, 100];
    let and_beyond: &[u64] = &[50, 100, 200, 1_000];
    for (burst, cells, percents) in [
        (BURST, 1, and_beyond),
        (BURST, BURST / 2, and_beyond),
        (BURST, BURST, and_beyond),
        (1, 1, below_the_bound),
        (2, 1, below_the_bound),
        (5, 1, below_the_bound),
    ] {
        for percent in percents {
            let memories = [Memory::exact(bound), Memory::compact(bound)];
            let [exact, compact] =
                memories.map(|memory| refused(memory, bound as u64, *percent, burst, cells));
            println!("| {burst} | {percent} % | {cells} | {exact:.2} | {compact:.2} |");
        }
    }
}

struct Subject {
    limiter: Limiter,
    policy: PolicyId,
    start: Instant,
}

impl Subject {
    fn new(memory: Memory, burst: u32) -> Self {
        let limiter = Limiter::builder()
            .policy("flood", Quota::per(INTERVAL, 1).burst(burst))
            .memory(memory)
            .build()
            .unwrap();
        let policy = limiter.policy("flood").unwrap();
        let start = Instant::now();
        Self {
            limiter,
            policy,
            start,
        }
    }

    fn allows(&self, key: u64, cost: u32, at: Duration) -> bool {
        self.limiter
            .check(self.policy, &key, cost, self.start + at)
            .is_allowed()
    }
}

/// A thousand clients spend their burst, then the flood comes. In one kind its keys owe a cell each, and have run it off
/// long before the clients are free; in the other the clock stands still, and all stay in debt.
fn flood(name: &str, memory: Memory, keys: u64, all_in_debt: bool) {
    const CLIENTS: u64 = 1_000;
    let (burst, back) = if all_in_debt { (50, 0) } else { (1_000, 900) };
    let before = resident();
    let subject = Subject::new(memory, burst);
    let built = resident();
    let clients = u64::MAX - CLIENTS..u64::MAX;
    let in_debt = clients
        .clone()
        .filter(|client| subject.allows(*client, burst, Duration::ZERO))
        .count();
    // So many cells come back to the clients meanwhile.
    let until = INTERVAL * back;
    let step = until.as_nanos() as f64 / keys as f64;
    let (mut allowed, mut most) = (0u64, built);
    let began = Instant::now();
    for key in 0..keys {
        let at = Duration::from_nanos((key as f64 * step) as u64);
        allowed += u64::from(subject.allows(key, 1, at));
        if key % (keys / 8).max(1) == 0 {
            most = resident().max(most);
        }
    }
    let took = began.elapsed().as_nanos() as f64 / keys as f64;
    // None may spend more than what came back, and no flood should keep them from that.
    let still_limited = clients
        .clone()
        .filter(|client| !subject.allows(*client, back + 1, until))
        .count();
    let served = clients
        .filter(|client| back > 0 && subject.allows(*client, back, until))
        .count();
    println!(
        "{name}, {keys} keys, {}: {took:.0} ns a check, {:.1} % allowed; resident MB: {before:.1} before, {built:.1} built, \
         {most:.1} during, {:.1} after; of {in_debt} clients in debt {still_limited} are still limited, {served} got what \
         had come back",
        if all_in_debt {
            "all in debt"
        } else {
            "debts run off"
        },
        allowed as f64 * 100.0 / keys as f64,
        resident(),
    );
}

/// The share of honest newcomers that are refused their first request, while keys come at a rate that keeps so many of
/// them in debt at a time, if all are allowed. One request in ten keys' time is honest.
fn refused(memory: Memory, bound: u64, percent: u64, burst: u32, cells: u32) -> f64 {
    let subject = Subject::new(memory, burst);
    let in_debt = bound * percent / 100;
    let every = (INTERVAL * cells).as_nanos() as f64 / in_debt as f64;
    // Twice the time in which the longest debt runs off, to get there, and as long again to measure.
    let in_a_window = in_debt * u64::from(burst) / u64::from(cells);
    let (mut asked, mut refused) = (0u64, 0u64);
    for key in 0..in_a_window * 3 {
        let at = Duration::from_nanos((key as f64 * every) as u64);
        for _ in 0..cells {
            subject.allows(key, 1, at);
        }
        if key >= in_a_window * 2 && key % 10 == 0 {
            asked += 1;
            refused += u64::from(!subject.allows(key | 1 << 63, 1, at));
        }
    }
    refused as f64 * 100.0 / asked as f64
}

/// Resident memory of this process in megabytes; 0 where the system does not tell.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes: Option<f64> =
        line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    kilobytes.unwrap_or(0.0) / 1024.0
}
