//! The table.

use gw_tests::bench::table::Table;

use crate::measure::Cost;
use crate::subject::Subject;

/// One row for each subject of each case.
#[derive(Debug)]
pub struct Report(Table);

impl Report {
    /// Without rows.
    pub fn new() -> Self {
        Self(Table::new(&[
            "case",
            "subject",
            "ns",
            "over the first",
            "gw to it",
            "instructions",
            "allocations",
            "bytes a key",
        ]))
    }

    /// Adds a row.
    pub fn row(&mut self, case: &str, subject: &Subject, cost: &Cost, instructions: Option<f64>) {
        let optional = |value: Option<f64>, digits| {
            value.map_or_else(String::new, |value: f64| format!("{value:.digits$}"))
        };
        self.0.row(vec![
            case.to_owned(),
            subject.name.to_owned(),
            format!("{:.1}", cost.nanos),
            format!("{:.1}", cost.over),
            optional(cost.ratio, 2),
            optional(instructions, 0),
            optional(cost.allocations, 2),
            optional(subject.bytes_a_key, 1),
        ]);
    }

    /// The text.
    pub fn render(&self) -> String {
        self.0.render()
    }
}

impl Default for Report {
    fn default() -> Self {
        Self::new()
    }
}
