//! The plots of `docs/retries.md`.

use gw_testkit::plot::{Axis, Colour, Curve, Figure, Kind, Panel};

use super::Allowed;
use super::amplification::{Fails, Tiers};
use super::outage::{self, CAPACITY, ENDS};

const LEGEND: &[Kind] = &[
    Kind {
        class: "none",
        name: "no budget",
        colour: Colour::RED,
    },
    Kind {
        class: "active",
        name: "a fifth of what is on its way",
        colour: Colour::GREEN,
    },
    Kind {
        class: "ratio",
        name: "a fifth of the requests",
        colour: Colour::BLUE,
    },
];

const BUDGETS: &[(&str, Allowed)] = &[
    ("none", Allowed::Anything),
    ("active", Allowed::ShareOfActive),
    ("ratio", Allowed::Ratio),
];

/// All of them, by name.
pub(crate) fn all() -> Vec<(&'static str, Figure)> {
    vec![
        ("amplification", amplification(true, Fails::Answered)),
        ("amplification-broken", amplification(true, Fails::Broken)),
        (
            "amplification-untold",
            amplification(false, Fails::Answered),
        ),
        ("outage", outage()),
    ]
}

fn amplification(tell: bool, fails: Fails) -> Figure {
    let panel = |count: u32, title, top| Panel {
        title,
        unit: "sent over offered, by the share of attempts that fail",
        top,
        curves: (BUDGETS.iter())
            .map(|(class, allowed)| {
                let tiers = Tiers {
                    count,
                    allowed: *allowed,
                    tell,
                    fails,
                };
                let percents = (0..=100).step_by(10);
                Curve {
                    class,
                    points: percents.map(|it| tiers.amplification(it)).collect(),
                }
            })
            .collect(),
    };
    let tops = match (tell, fails) {
        (true, Fails::Answered) => [4.0; 3],
        (true, Fails::Broken) => [4.0, 8.0, 8.0],
        (false, _) => [4.0, 12.0, 28.0],
    };
    Figure {
        title: match (tell, fails) {
            (true, Fails::Answered) => "Gateways that heed each other's fields",
            (true, Fails::Broken) => "The same, with connections that break",
            (false, _) => "Gateways that do not know of each other",
        },
        legend: LEGEND,
        axis: Axis {
            from: 0.0,
            to: 100.0,
            unit: " %",
        },
        panels: vec![
            panel(1, "one tier", tops[0]),
            panel(2, "two tiers", tops[1]),
            panel(3, "three tiers", tops[2]),
        ],
    }
}

fn outage() -> Figure {
    let runs = [
        ("none", outage::run(Allowed::Anything)),
        ("active", outage::run(Allowed::ShareOfActive)),
        ("ratio", outage::run(Allowed::Ratio)),
    ];
    let panel = |title, top, of: fn(&outage::Run) -> &Vec<u32>| Panel {
        title,
        unit: "per second",
        top,
        curves: (runs.iter())
            .map(|(class, run)| Curve {
                class,
                points: of(run).iter().copied().map(f64::from).collect(),
            })
            .collect(),
    };
    Figure {
        title: "An upstream that hangs from second 10 to 40, at four fifths of its capacity",
        legend: LEGEND,
        axis: Axis {
            from: 0.0,
            to: ENDS as f64,
            unit: " s",
        },
        panels: vec![
            panel("answers in time", f64::from(CAPACITY), |run| &run.good),
            panel("attempts", f64::from(3 * CAPACITY), |run| &run.sent),
        ],
    }
}
