//! The cases, and their outcomes as text.

use std::fmt::Write as _;

use gw_ratelimit::Quota;

use crate::simulation::{Outcome, Shape, run};

const INSTANCES: [usize; 3] = [2, 10, 100];
const LEASES: [u32; 3] = [2, 10, 50];

/// 1,000 a second, and bursts of half a second and of two seconds.
const QUOTAS: [Quota; 2] = [
    Quota::per_second(1_000).burst(500),
    Quota::per_second(1_000).burst(2_000),
];

/// A table for each quota.
pub(crate) fn write() -> String {
    let mut text = String::new();
    for quota in QUOTAS {
        let _ = write!(
            text,
            "### {} a second, a burst of {}\n\n\
             | requests | instances | lease | admitted / exact | above the quota | behind, at most | questions / request |\n\
             |---|--:|--:|--:|--:|--:|--:|\n",
            quota.cells(),
            quota.max_burst(),
        );
        for shape in Shape::ALL {
            for instances in INSTANCES {
                for most in LEASES {
                    let outcome = run(quota, shape, instances, most);
                    line(&mut text, shape, instances, most, &outcome);
                }
            }
        }
        text.push('\n');
    }
    text
}

fn line(text: &mut String, shape: Shape, instances: usize, most: u32, outcome: &Outcome) {
    let share = |part: u64, whole: u64| part as f64 / whole as f64;
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "| {} | {instances} | {most} | {:.3} | {} | {} | {:.3} |",
        shape.name(),
        share(outcome.leased, outcome.exact),
        outcome.over,
        outcome.behind,
        share(outcome.questions, outcome.requests),
    );
}
