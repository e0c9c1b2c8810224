//! The replay as a chart: all phases on one axis.

use super::chart::{Chart, Panel, Scale};
use crate::measure::Second;
use crate::phase::{Kind, Phase};
use crate::replay::Replay;

/// The picture as SVG.
pub(crate) fn picture(replay: &Replay) -> String {
    let timeline = replay.judged().timeline;
    let (usual, flood, end) = (timeline.idle, timeline.flood_begins(), timeline.seconds());
    let phases = replay.phases();
    Chart {
        seconds: end,
        parts: vec![
            ("logins only", 0..usual),
            ("usual", usual..flood),
            ("flood", flood..end),
        ],
        legend: phases
            .iter()
            .map(|phase| (phase.kind.to_string(), class(phase.kind)))
            .collect(),
        panels: vec![p99(&phases), answered(&phases), requests(&phases)],
    }
    .svg()
}

const fn class(kind: Kind) -> &'static str {
    match kind {
        Kind::Healthy => "healthy",
        Kind::Unprotected => "unprotected",
        Kind::Protected => "protected",
        Kind::Reduced => "reduced",
    }
}

fn p99(phases: &[&Phase]) -> Panel {
    let lines = lines(
        phases,
        |phase| phase.auth.seconds(),
        |second| second.p99().map(|time| time.as_secs_f64() * 1e3),
    );
    let marks = [
        (10.0, "10 ms"),
        (100.0, "100 ms"),
        (1_000.0, "1 s"),
        (10_000.0, "10 s"),
    ];
    Panel {
        title: "login p99, from the scheduled instant (logarithmic)",
        scale: Scale::Logarithmic(5.0, 10_000.0),
        marks: marks.map(|(value, label)| (value, label.to_owned())).into(),
        lines,
    }
}

fn answered(phases: &[&Phase]) -> Panel {
    let lines = lines(
        phases,
        |phase| phase.auth.seconds(),
        |second| second.answered().map(|share| share * 100.0),
    );
    Panel {
        title: "logins answered",
        // A little room above all of them.
        scale: Scale::Linear(105.0),
        marks: [0, 50, 100]
            .map(|mark| (f64::from(mark), format!("{mark} %")))
            .into(),
        lines,
    }
}

fn requests(phases: &[&Phase]) -> Panel {
    let lines = lines(
        phases,
        |phase| phase.logs.seconds(),
        |second| Some(second.sent() as f64),
    );
    let values = lines.iter().flat_map(|(_, line)| line.iter().flatten());
    let most = values.copied().fold(1.0, f64::max);
    let step = round_step(most);
    let marks = (0_u32..)
        .map(|mark| f64::from(mark) * step)
        .take_while(|mark| *mark <= most)
        .map(|mark| (mark, format!("{mark}")));
    Panel {
        title: "log requests sent each second",
        scale: Scale::Linear(most * 1.05),
        marks: marks.collect(),
        lines,
    }
}

fn lines(
    phases: &[&Phase],
    seconds: impl Fn(&Phase) -> &[Second],
    value: impl Fn(&Second) -> Option<f64>,
) -> Vec<(&'static str, Vec<Option<f64>>)> {
    let line = |phase: &&Phase| {
        let values = seconds(phase).iter().map(&value).collect();
        (class(phase.kind), values)
    };
    phases.iter().map(line).collect()
}

/// The largest of 1, 2, 5 times a power of ten that gives at least three marks.
fn round_step(most: f64) -> f64 {
    let power = 10_f64.powf((most / 3.0).log10().floor());
    let fits = [5.0, 2.0].map(|times| times * power).into_iter();
    fits.into_iter()
        .find(|step| most / step >= 3.0)
        .unwrap_or(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        assert_eq!(
            [61.0, 250.0, 400.0, 3.0].map(round_step),
            [20.0, 50.0, 100.0, 1.0]
        );
    }
}
