//! The same load without and with a failing upstream, and the verdict over several such pairs.

use std::time::Duration;

use gw_tests::bench::closed_loop::Run;
use gw_tests::bench::hang::Answers;
use gw_tests::bench::statistics::{median, micros};
use gw_tests::bench::table::Table;

/// The promise: p99 with the failing upstream to p99 without it, or else so little more that nobody notices.
const ALLOWED: f64 = 1.10;
const ALLOWED_MORE: Duration = Duration::from_millis(1);

/// Requests of one turn within a pair, less than half a second.
pub(super) const SLICE: usize = 4_000;

/// The same load without and with the failing upstream.
#[derive(Debug, Default)]
pub(super) struct Pair {
    pub(super) idle: Run,
    pub(super) failing: Run,
    /// Of the clients of the failing upstream.
    pub(super) answers: Answers,
}

/// Prints each pair and the verdict; whether the promise holds. `kind` names the failure in the table's columns, `more` gives
/// the cells of the columns `others`.
pub(super) fn print(
    title: &str,
    kind: &str,
    others: &[&str],
    pairs: &[Pair],
    more: impl Fn(&Pair) -> Vec<String>,
) -> bool {
    let p99 = |run: &Run| micros(run.latencies().per_mille(990));
    let p50 = |run: &Run| micros(run.latencies().per_mille(500));
    let [failing_p50, failing_p99] = ["p50", "p99"].map(|rank| format!("{kind} {rank} µs"));
    let mut columns = vec![
        "pair",
        "requests",
        "idle p50 µs",
        "idle p99 µs",
        &failing_p50,
        &failing_p99,
        "ratio p99",
    ];
    columns.extend(others);
    let mut table = Table::new(&columns);
    for (number, pair) in (1..).zip(pairs) {
        let mut row = vec![
            number.to_string(),
            pair.failing.requests().to_string(),
            format!("{:.0}", p50(&pair.idle)),
            format!("{:.0}", p99(&pair.idle)),
            format!("{:.0}", p50(&pair.failing)),
            format!("{:.0}", p99(&pair.failing)),
            format!("{:.3}", p99(&pair.failing) / p99(&pair.idle)),
        ];
        row.extend(more(pair));
        table.row(row);
    }
    let idle = median(pairs.iter().map(|pair| p99(&pair.idle)));
    let failing = median(pairs.iter().map(|pair| p99(&pair.failing)));
    println!("{title}");
    print!("{}", table.render());
    let holds = failing <= idle * ALLOWED || failing <= idle + micros(ALLOWED_MORE);
    let verdict = if holds { "holds" } else { "MISSED" };
    println!(
        "p99 (median): {idle:.0} µs idle, {failing:.0} µs with the {kind}, ratio {:.3}; at most {ALLOWED}, or 1 ms more: {verdict}\n",
        failing / idle
    );
    holds
}
