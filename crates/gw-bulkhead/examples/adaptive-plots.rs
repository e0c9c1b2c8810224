//! Draws the plots of `docs/adaptive-limits.md`: `cargo run --release -p gw-bulkhead --example adaptive-plots [DIRECTORY]`.
//!
//! The server is simulated in virtual time and everything random is seeded, so each run writes the same files.
#![allow(clippy::print_stdout, reason = "it is what it does")]

#[path = "../tests/simulation/mod.rs"]
mod simulation;

use std::error::Error;
use std::path::PathBuf;

use gw_bulkhead::limit::Limit;
use gw_testkit::plot::{Axis, Colour, Curve, Figure, Kind, Panel};
use simulation::published::ShutToMeasure;
use simulation::scenarios::{self, gradient2, published};
use simulation::trace::{Second, Trace};
use simulation::{Scenario, Schedule};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1);
    let directory = directory.map_or_else(|| PathBuf::from("docs/adaptive"), PathBuf::from);
    std::fs::create_dir_all(&directory)?;
    for (name, figure) in [
        ("overload", overload()),
        ("capacity", capacity()),
        ("slow", slow()),
        ("shared", shared()),
        ("start", start()),
        ("hang", hang()),
        ("bursts", bursts()),
        ("probe", probe()),
    ] {
        let path = directory.join(name).with_extension("svg");
        std::fs::write(&path, figure.to_svg())?;
        println!("{}", path.display());
    }
    Ok(())
}

const LEGEND: &[Kind] = &[
    Kind {
        class: "ours",
        name: "Gradient2 here",
        colour: Colour::BLUE,
    },
    Kind {
        class: "theirs",
        name: "Gradient2 as published",
        colour: Colour::RED,
    },
];

/// Both in the same scenario.
fn beside(scenario: &Scenario, over: usize, top: [f64; 3]) -> Vec<Panel> {
    panels(
        &scenario.run(gradient2()),
        &scenario.run(published()),
        over,
        top,
    )
}

/// The limit, the latency and the answers per second of some runs, a mean over so many seconds for each point. Also says
/// what they come to.
fn panels(ours: &Trace, theirs: &Trace, over: usize, top: [f64; 3]) -> Vec<Panel> {
    let runs = [("theirs", theirs), ("ours", ours)];
    for (class, trace) in runs {
        let (all, end) = (trace.between(0, trace.0.len()), trace.0.len());
        let last = trace.between(end - end / 4, end);
        println!(
            "{class:>8}: {:6.1} answers a second; in the last quarter {:6.1}, limit {:6.1}, latency {:6.0} ms",
            all.throughput(),
            last.throughput(),
            last.limit(),
            last.latency() * 1e3,
        );
    }
    let panel = |title, unit, top, value: fn(&Second) -> f64| Panel {
        title,
        unit,
        top,
        curves: runs
            .iter()
            .map(|(class, trace)| Curve {
                class,
                points: trace.series(over, value),
            })
            .collect(),
    };
    let [limit, latency, answers] = top;
    vec![
        panel("limit", "requests in flight", limit, |second| {
            f64::from(second.limit)
        }),
        panel("latency", "ms", latency, |second| second.latency() * 1e3),
        panel("answers", "per second", answers, |second| {
            f64::from(second.answered)
        }),
    ]
}

fn overload() -> Figure {
    let scenario = Scenario::of_load(2.0, 4.0 * 3600.0);
    Figure {
        title: "Twice what can be served, for four hours",
        legend: LEGEND,
        axis: Axis::minutes(240.0),
        panels: beside(&scenario, 60, [2000.0, 5000.0, 500.0]),
    }
}

fn capacity() -> Figure {
    let scenario = scenarios::capacity();
    Figure {
        title: "40 workers, then 10, then 60",
        legend: LEGEND,
        axis: Axis::minutes(15.0),
        panels: beside(&scenario, 3, [400.0, 3000.0, 800.0]),
    }
}

fn slow() -> Figure {
    let mut scenario = Scenario::of_load(2.0, 5400.0);
    scenario.work = Schedule::always(0.1).then(300.0, 1.0);
    scenario.load = scenario.load.then(1800.0, 4.0).then(3600.0, 80.0);
    Figure {
        title: "Ten times as long for each request from the fifth minute on; calm from the 30th to the 60th",
        legend: LEGEND,
        axis: Axis::minutes(90.0),
        panels: beside(&scenario, 20, [200.0, 4000.0, 80.0]),
    }
}

fn shared() -> Figure {
    let mut scenario = Scenario::of_load(2.0, 4.0 * 3600.0);
    scenario.lanes = 4;
    Figure {
        title: "Four lanes (or gateways) that share the server, for four hours",
        legend: LEGEND,
        axis: Axis::minutes(240.0),
        panels: beside(&scenario, 60, [2000.0, 5000.0, 500.0]),
    }
}

fn start() -> Figure {
    let scenario = Scenario::of_load(2.0, 300.0);
    let ours = scenario.run(gradient2().initial(400));
    let theirs = scenario.run(published().initial(400));
    Figure {
        title: "A start with ten times what can be served in flight",
        legend: LEGEND,
        axis: Axis::minutes(5.0),
        panels: panels(&ours, &theirs, 1, [800.0, 2500.0, 500.0]),
    }
}

fn hang() -> Figure {
    let mut scenario = scenarios::hang();
    let ours = scenario.run(gradient2());
    // To one that knows no drops, a timeout is an answer like any other.
    scenario.timeouts_answer = true;
    let theirs = scenario.run(published());
    Figure {
        title: "A server that hangs for 200 s, and a timeout of one second",
        legend: &[
            Kind {
                class: "ours",
                name: "Gradient2 here",
                colour: Colour::BLUE,
            },
            Kind {
                class: "theirs",
                name: "Gradient2 as published, without drops",
                colour: Colour::RED,
            },
        ],
        axis: Axis::minutes(10.0),
        panels: panels(&ours, &theirs, 2, [800.0, 1500.0, 500.0]),
    }
}

fn bursts() -> Figure {
    let scenario = scenarios::bursts(10);
    Figure {
        title: "Three times what can be served for ten seconds of each minute",
        legend: LEGEND,
        axis: Axis::minutes(10.0),
        panels: beside(&scenario, 1, [300.0, 600.0, 500.0]),
    }
}

fn probe() -> Figure {
    let scenario = Scenario::of_load(2.0, 600.0);
    let theirs = Limit::adaptive(ShutToMeasure::default()).min(4).max(2000);
    let (ours, theirs) = (scenario.run(gradient2()), scenario.run(theirs));
    Figure {
        title: "What it costs to look for the baseline",
        legend: &[
            Kind {
                class: "ours",
                name: "Gradient2 here",
                colour: Colour::BLUE,
            },
            Kind {
                class: "theirs",
                name: "a limit of 3 each minute, 50 requests long",
                colour: Colour::RED,
            },
        ],
        axis: Axis::minutes(10.0),
        panels: panels(&ours, &theirs, 1, [100.0, 300.0, 500.0]),
    }
}
