//! The table.

use gw_tests::bench::table::Table;

use super::latency::Case;
use super::saturation::Way;

const COLUMNS: [&str; 12] = [
    "subject",
    "pairs",
    "idle p50 µs",
    "idle p99 µs",
    "p50 µs",
    "p99 µs",
    "ratio p99",
    "answered",
    "newcomers",
    "logs asked",
    "refused",
    "held",
];

/// The table of one way, with the subjects one below the other.
pub fn render(way: Way, cases: &[Case]) -> String {
    let mut table = Table::new(&COLUMNS);
    for case in cases {
        table.row(row(case));
    }
    format!("{}\n{}\n", way.name(), table.render())
}

fn row(case: &Case) -> Vec<String> {
    let ([idle_p50, p50], [idle_p99, p99]) = (case.per_mille(500), case.per_mille(990));
    let [came, all] = case.newcomers();
    let [_, asked] = case.refused();
    vec![
        case.subject.name().to_owned(),
        case.pairs().to_string(),
        format!("{idle_p50:.0}"),
        format!("{idle_p99:.0}"),
        format!("{p50:.0}"),
        format!("{p99:.0}"),
        format!("{:.2}", p99 / idle_p99),
        percent(case.answered()),
        format!("{came}/{all}"),
        asked.to_string(),
        percent(case.refused()),
        case.held().to_string(),
    ]
}

/// Rounded down: 100 % is all of them.
fn percent([part, whole]: [usize; 2]) -> String {
    match (part * 1000).checked_div(whole) {
        Some(tenths) => format!("{}.{} %", tenths / 10, tenths % 10),
        None => "-".to_owned(),
    }
}
