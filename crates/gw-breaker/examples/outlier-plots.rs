//! Draws the plots of `docs/outlier-ejection.md`: `cargo run --release -p gw-breaker --example outlier-plots [DIRECTORY]`.
//!
//! The fleet is simulated in virtual time and everything random is seeded, so each run writes the same files. The days of
//! noise, which it only counts, take some ten seconds.
#![allow(clippy::print_stdout, reason = "it is what it does")]

#[path = "../tests/fleet/mod.rs"]
mod fleet;

use std::error::Error;
use std::path::{Path, PathBuf};

use fleet::{Scenario, Second, Trace};
use gw_breaker::outlier::OutlierConfig;
use gw_testkit::plot::{Axis, Colour, Curve, Figure, Kind, Panel};

const DAY: f64 = 86_400.0;
const BEGIN: f64 = 63.0;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1);
    let directory = directory.map_or_else(|| PathBuf::from("docs/outliers"), PathBuf::from);
    std::fs::create_dir_all(&directory)?;
    write(&directory, "errors", &errors())?;
    write(&directory, "latency", &latency())?;
    write(&directory, "noise", &noise())?;
    found();
    days();
    Ok(())
}

fn write(directory: &Path, name: &str, figure: &Figure) -> Result<(), Box<dyn Error>> {
    let path = directory.join(name).with_extension("svg");
    std::fs::write(&path, figure.to_svg())?;
    println!("{}", path.display());
    Ok(())
}

/// Ejects nobody, as far as that can be said.
fn never() -> OutlierConfig {
    OutlierConfig::new()
        .consecutive(u32::MAX)
        .failure_gap(1.0)
        .latency_factor(1000.0)
}

/// Means over so many seconds.
fn curve(class: &'static str, trace: &Trace, over: usize, value: impl Fn(&Second) -> f64) -> Curve {
    let points = trace
        .seconds
        .chunks(over)
        .map(|seconds| seconds.iter().map(&value).sum::<f64>() / seconds.len() as f64)
        .collect();
    Curve { class, points }
}

const LEGEND: &[Kind] = &[
    Kind {
        class: "ours",
        name: "with ejection",
        colour: Colour::BLUE,
    },
    Kind {
        class: "theirs",
        name: "without",
        colour: Colour::RED,
    },
];

fn share(second: &Second) -> f64 {
    100.0 * f64::from(second.first) / f64::from(second.requests.max(1))
}

fn errors() -> Figure {
    let mut scenario = Scenario::of(10, 3600.0).grey(600.0, 0.2, 1.0);
    if let Some(fault) = scenario.faults.first_mut() {
        fault.until = 2400.0;
    }
    let (with, without) = (scenario.run(), scenario.run_with(never()));
    println!("a fifth fails: {:?}", with.ejections);
    let failures =
        |second: &Second| 100.0 * f64::from(second.failures) / f64::from(second.requests.max(1));
    Figure {
        title: "One of ten fails a fifth of its requests, from the 10th to the 40th minute",
        legend: LEGEND,
        axis: Axis::minutes(60.0),
        panels: vec![
            Panel {
                title: "failures",
                unit: "% of all requests",
                top: 4.0,
                curves: vec![
                    curve("theirs", &without, 10, failures),
                    curve("ours", &with, 10, failures),
                ],
            },
            Panel {
                title: "what the bad one gets",
                unit: "% of all requests",
                top: 20.0,
                curves: vec![
                    curve("theirs", &without, 10, share),
                    curve("ours", &with, 10, share),
                ],
            },
        ],
    }
}

fn latency() -> Figure {
    let mut scenario = Scenario::of(10, 3600.0).grey(600.0, 0.005, 5.0);
    if let Some(fault) = scenario.faults.first_mut() {
        fault.until = 2400.0;
    }
    let (with, without) = (scenario.run(), scenario.run_with(never()));
    println!("five times as slow: {:?}", with.ejections);
    let millis = |second: &Second| second.millis / f64::from(second.requests.max(1));
    Figure {
        title: "One of ten takes five times as long, from the 10th to the 40th minute",
        legend: LEGEND,
        axis: Axis::minutes(60.0),
        panels: vec![
            Panel {
                title: "latency",
                unit: "ms, mean of all requests",
                top: 60.0,
                curves: vec![
                    curve("theirs", &without, 10, millis),
                    curve("ours", &with, 10, millis),
                ],
            },
            Panel {
                title: "what the slow one gets",
                unit: "% of all requests",
                top: 20.0,
                curves: vec![
                    curve("theirs", &without, 10, share),
                    curve("ours", &with, 10, share),
                ],
            },
        ],
    }
}

fn noise() -> Figure {
    let trace = Scenario::of(100, 3600.0).run();
    println!("an hour of noise: {:?}", trace.ejections);
    let mut sum = 0.0;
    let published = trace
        .published_at
        .iter()
        .map(|ejected| {
            sum += f64::from(*ejected);
            sum
        })
        .collect();
    Figure {
        title: "A hundred healthy endpoints for an hour, 0.5 % of requests fail",
        legend: &[
            Kind {
                class: "ours",
                name: "here",
                colour: Colour::BLUE,
            },
            Kind {
                class: "theirs",
                name: "below the mean minus 1.9 standard deviations",
                colour: Colour::RED,
            },
        ],
        axis: Axis::minutes(60.0),
        panels: vec![Panel {
            title: "ejections",
            unit: "in total",
            top: 2400.0,
            curves: vec![
                Curve {
                    class: "theirs",
                    points: published,
                },
                Curve {
                    class: "ours",
                    points: vec![trace.ejections.len() as f64; 2],
                },
            ],
        }],
    }
}

/// How many intervals it takes, over many seeds.
fn found() {
    let cases = [
        ("20 % errors", 0.005, 0.2, 1.0),
        ("20 % errors, 1 % elsewhere", 0.01, 0.2, 1.0),
        ("10 % errors", 0.005, 0.1, 1.0),
        ("5 times as slow", 0.005, 0.005, 5.0),
        ("4 times as slow", 0.005, 0.005, 4.0),
        ("2 times as slow", 0.005, 0.005, 2.0),
    ];
    for (name, base, errors, slow) in cases {
        for (endpoints, seeds) in [(3, 1000), (10, 1000), (100, 100)] {
            let (mut within, mut wrong, mut worst) = (0, 0, 0.0_f64);
            for seed in 0..seeds {
                let mut scenario = Scenario::of(endpoints, 180.0).grey(BEGIN, errors, slow);
                scenario.errors = base;
                let trace = scenario.seed(seed).run();
                let at = trace.ejections.iter().find(|e| e.endpoint == 0);
                let after = at.map_or(f64::INFINITY, |ejection| ejection.at - BEGIN);
                within += u32::from(after <= 30.0);
                worst = worst.max(after);
                wrong += trace.ejections.iter().filter(|e| e.endpoint != 0).count();
            }
            println!(
                "{name}, {endpoints} endpoints: within 3 intervals {within} of {seeds}, at the latest after {worst:.0} s; \
                 healthy ones ejected: {wrong}"
            );
        }
    }
}

/// At full load.
fn days() {
    for (endpoints, seeds) in [(10, 10), (100, 1)] {
        for tide in [0.0, 0.75] {
            let (mut requests, mut ejected, mut published) = (0, 0, 0);
            for seed in 0..seeds {
                let mut scenario = Scenario::of(endpoints, DAY).seed(seed);
                scenario.tide = tide;
                let trace = scenario.run();
                requests += trace.requests;
                ejected += trace.ejections.len();
                published += trace.published;
            }
            println!(
                "{seeds} days, {endpoints} endpoints, tide {tide}: {requests} requests, {ejected} ejected, {published} by mean \
                 and deviation"
            );
        }
    }
}
