//! Route by route, phase by phase.

use std::fmt::Write as _;
use std::time::Duration;

use crate::measure::{Route, Summary};
use crate::replay::Replay;

/// The heads of the columns behind phase and route.
pub(super) const COLUMNS: [&str; 10] = [
    "sent", "ok", "400", "429", "503", "504", "other", "p50", "p99", "max",
];

/// One line: phase, route, and a cell for each column.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) phase: String,
    pub(super) route: &'static str,
    pub(super) cells: [String; 10],
}

/// All lines.
pub(super) fn rows(replay: &Replay) -> Vec<Row> {
    let phases = replay.phases().into_iter();
    let rows = phases.flat_map(|phase| {
        let routes = [(Route::Auth, &phase.auth), (Route::Logs, &phase.logs)];
        routes.map(|(route, series)| Row {
            phase: phase.kind.to_string(),
            route: route.name(),
            cells: cells(&series.total()),
        })
    });
    rows.collect()
}

fn cells(all: &Summary) -> [String; 10] {
    [
        all.sent.to_string(),
        all.ok.to_string(),
        all.bad_request.to_string(),
        all.too_many.to_string(),
        all.unavailable.to_string(),
        all.gateway_timeout.to_string(),
        all.other.to_string(),
        time(all.p50),
        time(all.p99),
        time(all.max),
    ]
}

/// The table as text.
pub(super) fn text(replay: &Replay) -> String {
    let mut text = format!("{:<13} {:<5}", "", "route");
    for column in COLUMNS {
        _ = write!(text, " {column:>8}");
    }
    text.push('\n');
    for row in rows(replay) {
        _ = write!(text, "{:<13} {:<5}", row.phase, row.route);
        for cell in row.cells {
            _ = write!(text, " {cell:>8}");
        }
        text.push('\n');
    }
    text
}

/// A time in the unit that suits it.
pub(super) fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 1.0 {
        format!("{:.1} ms", seconds * 1e3)
    } else {
        format!("{seconds:.2} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_unit_that_suits_them() {
        assert_eq!(time(Duration::from_micros(15_340)), "15.3 ms");
        assert_eq!(time(Duration::from_millis(2_996)), "3.00 s");
        assert_eq!(time(Duration::ZERO), "0.0 ms");
    }

    #[test]
    fn a_row_has_a_cell_for_each_column() {
        let summary = Summary {
            sent: 5,
            ok: 4,
            gateway_timeout: 1,
            p99: Duration::from_secs(3),
            ..Summary::default()
        };
        let cells = cells(&summary);
        let cell = |name: &str| {
            let column = COLUMNS.iter().position(|column| *column == name);
            cells[column.expect("a column")].as_str()
        };
        assert_eq!((cell("sent"), cell("ok"), cell("504")), ("5", "4", "1"));
        assert_eq!(cell("p99"), "3.00 s");
    }
}
