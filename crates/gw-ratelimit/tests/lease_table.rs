//! What the documentation says that leases cost is what the simulation says.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test"
)]

#[path = "../examples/lease_simulation/simulation.rs"]
mod simulation;
#[path = "../examples/lease_simulation/table.rs"]
mod table;

use std::path::Path;

use gw_ratelimit::Quota;

use crate::simulation::{Shape, run};

#[test]
fn the_documented_table_is_that_of_the_simulation() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/ratelimit-leases.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (_, documented) = page.split_once("<!-- simulation -->\n\n").unwrap();
    let simulated = table::write();
    for (line, (documented, simulated)) in documented.lines().zip(simulated.lines()).enumerate() {
        assert_eq!(
            documented, simulated,
            "line {line} of the tables; write them anew with the example lease_simulation"
        );
    }
    assert_eq!(documented.trim_end(), simulated.trim_end());
}

#[test]
fn no_case_admits_more_than_the_quota() {
    for quota in [
        Quota::per_second(1_000).burst(20),
        Quota::per_second(200).burst(1_000),
        Quota::per_second(5).burst(5),
    ] {
        for shape in Shape::ALL {
            for (instances, most) in [(2, 500), (10, 7), (50, 50)] {
                let outcome = run(quota, shape, instances, most);
                assert_eq!(outcome.over, 0, "{quota:?} {shape:?} {instances} {most}");
                assert!(outcome.leased > 0 && outcome.exact > 0);
            }
        }
    }
}
