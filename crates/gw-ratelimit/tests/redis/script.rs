//! The script against the same in Rust.

use std::time::Duration;

use gw_ratelimit::gcra::Gcra;
use gw_ratelimit::redis::lease::grant;
use gw_ratelimit::window::Window;
use gw_ratelimit::{Quota, Verdict};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::server::Server;

macro_rules! script {
    ($name:literal) => {
        redis::Script::new(concat!(
            include_str!("../../src/redis/script/state.lua"),
            include_str!(concat!("../../src/redis/script/", $name))
        ))
    };
}

#[derive(Debug, Clone)]
struct Case {
    gcra: Gcra,
    /// The debt before, in tolerances.
    debt: f64,
    cost: u32,
    extra: u32,
    enforced: bool,
}

fn case() -> impl Strategy<Value = Case> {
    let quota = (1..1_000_000u64, 1..1_000u32, 1..300u32);
    let debt = prop_oneof![Just(0.0), 0.0..1.0f64, 0.9..1.2f64];
    (quota, debt, 0..310u32, 0..400u32, any::<bool>()).prop_map(
        |((micros, cells, burst), debt, cost, extra, enforced)| {
            let period = Duration::from_micros(micros * u64::from(cells));
            // Rarely above the burst.
            let cost = if cost < 300 { cost % (burst + 1) } else { cost };
            Case {
                gcra: Gcra::new(Quota::per(period, cells).burst(burst)).unwrap(),
                debt,
                cost,
                extra,
                enforced,
            }
        },
    )
}

fn time(nanos: u64) -> String {
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

#[tokio::test]
async fn the_script_decides_as_the_model_does() {
    let server = Server::start();
    let mut connection = server.connect().await;
    let script = script!("decide.lua");
    let mut runner = TestRunner::deterministic();
    let strategy = prop::collection::vec(case(), 1..5);
    let (mut granted, mut refused) = (0, 0);
    for _ in 0..400 {
        let cases = strategy.new_tree(&mut runner).unwrap().current();
        let (seconds, micros): (u64, u64) = redis::cmd("TIME")
            .query_async(&mut connection)
            .await
            .unwrap();
        let before = (seconds * 1_000_000 + micros) * 1_000;
        let mut call = script.prepare_invoke();
        let mut tats = Vec::new();
        for (index, case) in cases.iter().enumerate() {
            let key = format!("key{index}");
            let tat = before + (case.debt * case.gcra.tolerance() as f64) as u64;
            tats.push(tat);
            let text = format!("{} {} 7 9", time(tat), time(before));
            let _: () = redis::cmd("SET")
                .arg(&key)
                .arg(text)
                .query_async(&mut connection)
                .await
                .unwrap();
            let (interval, tolerance) = (case.gcra.interval(), case.gcra.tolerance());
            let cost = if case.cost > case.gcra.burst() {
                tolerance + 1
            } else {
                interval * u64::from(case.cost)
            };
            call.key(&key)
                .arg(1)
                .arg(interval)
                .arg(tolerance)
                .arg(cost)
                .arg(case.extra)
                .arg(u8::from(case.enforced));
        }
        let answer: Vec<u64> = call.invoke_async(&mut connection).await.unwrap();
        let now = (answer[0] * 1_000_000 + answer[1]) * 1_000;

        let decided: Vec<_> = cases
            .iter()
            .zip(&tats)
            .map(|(case, tat)| grant(&case.gcra, *tat, now, case.cost, case.extra))
            .collect();
        let denies = |(verdict, _): &(Verdict, u32)| !matches!(verdict, Verdict::Allow { .. });
        let enforced = cases.iter().zip(&decided).filter(|(case, _)| case.enforced);
        let all_refused = enforced.into_iter().any(|(_, decided)| denies(decided));
        for (index, (decided, tat)) in decided.iter().zip(&tats).enumerate() {
            let (ruling, after, leased) = match *decided {
                (Verdict::Allow { .. }, _) if all_refused => (0, *tat, 0),
                (Verdict::Allow { state }, leased) => (0, state, leased),
                (Verdict::Deny { state, .. }, _) => (1, state, 0),
                (Verdict::DenyForever { state }, _) => (2, state, 0),
            };
            let debt = after.saturating_sub(now);
            let at = 2 + 5 * index;
            let told = &answer[at..at + 5];
            assert_eq!(
                told[..3],
                [ruling, debt, leased.into()],
                "{:?}",
                cases[index]
            );
            // Gone if its debt ran off meanwhile.
            let is_known = told[3..] == [7, 9];
            assert!(is_known || *tat <= now, "{told:?}");
            granted += leased;
            let held: Option<String> = redis::cmd("GET")
                .arg(format!("key{index}"))
                .query_async(&mut connection)
                .await
                .unwrap();
            let written = if after == *tat { before } else { now };
            let expected = format!("{} {} 7 9", time(after), time(written));
            if let Some(held) = held.filter(|_| is_known) {
                assert_eq!(held, expected, "{:?}", cases[index]);
            }
        }
        refused += u32::from(all_refused);
    }
    assert!(
        granted > 100 && (40..360).contains(&refused),
        "{granted} {refused}"
    );
}

/// Policies of both kinds over the same keys, in real time: windows of some milliseconds turn over many times.
#[derive(Debug, Clone, Copy)]
enum Policy {
    Rate(Gcra),
    Window { window: Window, double: Window },
}

impl Policy {
    fn window(limit: u32, micros: u64) -> Self {
        let window = |limit| Window::new(limit, Duration::from_micros(micros)).unwrap();
        Self::Window {
            window: window(limit),
            double: window(2 * limit),
        }
    }

    fn rate(rate: u32, burst: u32) -> Self {
        Self::Rate(Gcra::new(Quota::per_second(rate).burst(burst)).unwrap())
    }

    fn decide(&self, state: u64, now: u64, cost: u32) -> Verdict {
        match self {
            Self::Rate(gcra) => gcra.decide(state, now, cost),
            Self::Window { window, .. } => window.decide(state, now, cost),
        }
    }

    /// What a late charge leads to, and how many cells it takes.
    fn charge_late(&self, state: u64, now: u64, cells: u32) -> (u64, u32) {
        let (verdict, cells) = match self {
            Self::Rate(gcra) => {
                let debt = state.saturating_sub(now);
                let room = (2 * gcra.tolerance() - debt) / gcra.interval();
                let cells = cells.min(room as u32);
                let state = state.max(now) + gcra.interval() * u64::from(cells);
                (Verdict::Allow { state }, cells)
            }
            Self::Window { double, .. } => {
                let cells = cells.min(double.balance(state, now).remaining);
                (double.decide(state, now, cells), cells)
            }
        };
        match verdict {
            Verdict::Allow { state } => (state, cells),
            denied => panic!("{denied:?}"),
        }
    }

    /// The three numbers that describe it to a script.
    fn terms(&self) -> [u64; 3] {
        match self {
            Self::Rate(gcra) => [1, gcra.interval(), gcra.tolerance()],
            Self::Window { window, .. } => [0, window.length() / 1_000, window.limit().into()],
        }
    }

    fn cost(&self, cells: u32) -> u64 {
        match self {
            Self::Rate(gcra) if cells > gcra.burst() => gcra.tolerance() + 1,
            Self::Rate(gcra) => gcra.interval() * u64::from(cells),
            Self::Window { .. } => cells.into(),
        }
    }

    /// What the script tells of a state.
    fn told(&self, state: u64, now: u64) -> [u64; 2] {
        match self {
            Self::Rate(_) => [state.saturating_sub(now), 0],
            Self::Window { window, .. } => counts(window, state, now),
        }
    }
}

/// What was spent in the window of `now`, and in the one before.
fn counts(window: &Window, state: u64, now: u64) -> [u64; 2] {
    // As states are packed, see `Window`: number, current, previous.
    let windows = Window::LIFE.as_nanos() as u64 / window.length();
    let bits = windows.leading_zeros() / 2;
    let count = (1u64 << bits) - 1;
    let (number, current, previous) = (state >> (2 * bits), (state >> bits) & count, state & count);
    match (now / window.length()).saturating_sub(number) {
        0 => [current, previous],
        1 => [0, current],
        _ => [0, 0],
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Cells under each policy, of one of two keys, and which policies only watch.
    Decide {
        key: usize,
        costs: [u32; 5],
        shadow: usize,
    },
    Late {
        key: usize,
        policy: usize,
        cells: u32,
    },
    Sleep(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let cost = prop_oneof![6 => 0..4u32, 1 => 0..60u32];
    let decide = (
        0..2usize,
        [cost.clone(), cost.clone(), cost.clone(), cost.clone(), cost],
        0..8usize,
    );
    prop_oneof![
        12 => decide.prop_map(|(key, costs, shadow)| Step::Decide { key, costs, shadow }),
        2 => (0..2usize, 0..5usize, 0..40u32)
            .prop_map(|(key, policy, cells)| Step::Late { key, policy, cells }),
        1 => (0..8u64).prop_map(Step::Sleep),
    ]
}

#[tokio::test]
async fn rates_and_windows_decide_as_in_memory_and_all_or_none() {
    let server = Server::start();
    let mut connection = server.connect().await;
    let (decide, settle) = (script!("decide.lua"), script!("settle.lua"));
    let policies = [
        Policy::rate(400, 20),
        Policy::window(9, 3_000),
        Policy::window(40, 50_000),
        Policy::rate(2_000, 7),
        // Its products are more than a double holds.
        Policy::window(2_000_000, 3_600_000_000),
    ];
    let (seconds, _): (u64, u64) = redis::cmd("TIME")
        .query_async(&mut connection)
        .await
        .unwrap();
    // States count from then on: a multiple of all lengths, and an hour ago at least.
    let hour = seconds / 3_600 - 1;
    let begin = hour * 3_600;
    let at = |answer: &[u64]| (answer[0] - begin) * 1_000_000_000 + answer[1] * 1_000;
    let mut states = [[0u64; 5]; 2];
    // Much was spent in the hour before.
    const BEFORE: u32 = 1_500_000;
    let Verdict::Allow { state: spent } = policies[4].decide(0, 0, BEFORE) else {
        panic!("{:?}", policies[4]);
    };
    for (key, states) in states.iter_mut().enumerate() {
        let _: () = redis::cmd("SET")
            .arg(format!("{key}:4"))
            .arg(format!("{hour} {BEFORE} 0 7"))
            .query_async(&mut connection)
            .await
            .unwrap();
        states[4] = spent;
    }
    let mut runner = TestRunner::deterministic();
    let (mut allowed, mut refused, mut late) = (0, 0, 0);
    for number in 0..3_000 {
        let step = step().new_tree(&mut runner).unwrap().current();
        match step {
            Step::Sleep(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
            Step::Decide {
                key,
                mut costs,
                shadow,
            } => {
                costs[4] *= 100;
                let mut call = decide.prepare_invoke();
                for (index, (policy, cost)) in policies.iter().zip(costs).enumerate() {
                    let [unit, interval, most] = policy.terms();
                    call.key(format!("{key}:{index}"))
                        .arg(unit)
                        .arg(interval)
                        .arg(most);
                    call.arg(policy.cost(cost))
                        .arg(0)
                        .arg(u8::from(index != shadow));
                }
                let answer: Vec<u64> = call.invoke_async(&mut connection).await.unwrap();
                let now = at(&answer);
                let decided: Vec<Verdict> = policies
                    .iter()
                    .zip(costs)
                    .zip(states[key])
                    .map(|((policy, cost), state)| policy.decide(state, now, cost))
                    .collect();
                let passes = |verdict: &Verdict| matches!(verdict, Verdict::Allow { .. });
                let mut enforced = decided
                    .iter()
                    .enumerate()
                    .filter(|(index, _)| *index != shadow);
                let all = enforced.all(|(_, verdict)| passes(verdict));
                for (index, verdict) in decided.into_iter().enumerate() {
                    let (ruling, state) = match verdict {
                        Verdict::Allow { state } if all => (0, state),
                        Verdict::Allow { .. } => (0, states[key][index]),
                        Verdict::Deny { .. } => (1, states[key][index]),
                        Verdict::DenyForever { .. } => (2, states[key][index]),
                    };
                    states[key][index] = state;
                    let told = &answer[2 + 5 * index..][..5];
                    let [first, second] = policies[index].told(state, now);
                    assert_eq!(
                        told[..3],
                        [ruling, first, second],
                        "{number} {index} {costs:?}"
                    );
                    if let Policy::Window { window, .. } = policies[index] {
                        assert_eq!(told[4] * 1_000, now % window.length());
                    }
                }
                allowed += u32::from(all);
                refused += u32::from(!all);
            }
            Step::Late {
                key,
                policy: index,
                mut cells,
            } => {
                if index == 4 {
                    cells *= 500;
                }
                let policy = policies[index];
                let mut call = settle.prepare_invoke();
                call.key(format!("{key}:{index}"));
                for term in policy.terms() {
                    call.arg(term);
                }
                call.arg("charge").arg(cells).arg(0).arg(0).arg(0).arg(0);
                let answer: Vec<u64> = call.invoke_async(&mut connection).await.unwrap();
                let now = at(&answer);
                let (state, charged) = policy.charge_late(states[key][index], now, cells);
                states[key][index] = state;
                let [first, second] = policy.told(state, now);
                assert_eq!(
                    answer[2..5],
                    [charged.into(), first, second],
                    "{number} {step:?}"
                );
                late += charged;
            }
        }
    }
    assert!(
        allowed > 100 && refused > 100 && late > 1_000,
        "{allowed} {refused} {late}"
    );
}

/// What a refund leaves of the debt, against a line of time on which each charge has its stretch.
#[tokio::test]
async fn a_refund_brings_what_the_charge_still_costs() {
    const SECOND: u64 = 1_000_000_000;
    let server = Server::start();
    let mut connection = server.connect().await;
    let settle = script!("settle.lua");
    let quota = Gcra::new(Quota::per_second(1).burst(1_000)).unwrap();
    // The debt, the charge's end, both from now on; how much was taken back since, on how much it stood, how many cells;
    // the debt then.
    let cases: [(i64, i64, u64, u64, u32, i64); 9] = [
        // The last charge: all of it.
        (100, 100, 0, 90, 10, 90),
        // Others came after it.
        (100, 60, 0, 90, 10, 90),
        // Half of it has run off, and others came after it.
        (100, 5, 0, 90, 10, 95),
        // All of it has.
        (100, -1, 0, 90, 10, 100),
        // It stood on debt that was taken back since, so it has run off earlier.
        (100, 60, 55, 90, 10, 95),
        (100, 60, 70, 90, 10, 100),
        // What was taken back since came after it, at least in part.
        (100, 60, 70, 0, 10, 90),
        (100, 60, 70, 55, 10, 95),
        // More than is owed by now.
        (4, 100, 0, 90, 10, 0),
    ];
    for (debt, after, since, stood_on, cells, expected) in cases {
        let (seconds, micros): (u64, u64) = redis::cmd("TIME")
            .query_async(&mut connection)
            .await
            .unwrap();
        let now = seconds * SECOND + micros * 1_000;
        let from_now = |seconds: i64| time(now.saturating_add_signed(seconds * SECOND as i64));
        let text = format!("{} {} 7 {}", from_now(debt), time(now), since * SECOND);
        let _: () = redis::cmd("SET")
            .arg("k")
            .arg(text)
            .query_async(&mut connection)
            .await
            .unwrap();
        let mut refund = async |born: u64| -> Vec<u64> {
            let mut call = settle.prepare_invoke();
            call.key("k")
                .arg(1)
                .arg(quota.interval())
                .arg(quota.tolerance());
            call.arg("refund")
                .arg(cells)
                .arg(born)
                .arg(from_now(after))
                .arg(0)
                .arg(stood_on * SECOND);
            call.invoke_async(&mut connection).await.unwrap()
        };
        // Of another life of the key, nothing.
        assert_eq!(refund(6).await[2], 0);
        let answer = refund(7).await;
        let waited = (answer[0] * 1_000_000 + answer[1]) * 1_000 - now;
        assert_eq!(answer[2], u64::from(cells));
        // The time that went by since is on one side or the other.
        let left = answer[3] as i64 + waited as i64 - expected * SECOND as i64;
        assert!(
            (0..=2 * waited as i64).contains(&left),
            "{debt} {after} {since}: {answer:?}"
        );
        assert_eq!(answer[6], (since + u64::from(cells)) * SECOND);
    }
}
