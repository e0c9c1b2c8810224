//! The script against the same in Rust.

use gw_ratelimit::gcra::Gcra;
use gw_ratelimit::redis::lease::grant;
use gw_ratelimit::{Quota, Verdict};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::server::Server;

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
            let period = std::time::Duration::from_micros(micros * u64::from(cells));
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
    let script = redis::Script::new(include_str!("../../src/redis/decide.lua"));
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
            let text = format!("{} {}", time(tat), time(before));
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
            let expected = [ruling, after.saturating_sub(now), leased.into()];
            let at = 2 + 3 * index;
            assert_eq!(answer[at..at + 3], expected, "{:?}", cases[index]);
            granted += leased;
            let held: Option<String> = redis::cmd("GET")
                .arg(format!("key{index}"))
                .query_async(&mut connection)
                .await
                .unwrap();
            let written = if after == *tat { before } else { now };
            let expected = format!("{} {}", time(after), time(written));
            // Gone if its debt has run off meanwhile.
            if let Some(held) = held {
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
