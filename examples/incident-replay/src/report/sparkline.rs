//! The 99th percentile of logins, a character a second.

use std::fmt::Write as _;
use std::time::Duration;

use super::table::time;
use crate::measure::Second;
use crate::replay::Replay;

const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A line for each phase, all on one scale.
pub(super) fn text(replay: &Replay) -> String {
    let phases = replay.phases();
    let lines: Vec<Vec<_>> = phases
        .iter()
        .map(|phase| phase.auth.seconds().iter().map(Second::p99).collect())
        .collect();
    let all = || lines.iter().flatten().flatten().copied();
    let (Some(low), Some(high)) = (all().min(), all().max()) else {
        return String::new();
    };
    let mut text = format!(
        "login p99, second by second, from {} to {} (logarithmic)\n",
        time(low),
        time(high)
    );
    for (phase, line) in phases.iter().zip(&lines) {
        _ = writeln!(text, "{:<13} {}", phase.kind, sparkline(line, low, high));
    }
    text
}

fn sparkline(line: &[Option<Duration>], low: Duration, high: Duration) -> String {
    let span = (high.as_secs_f64() / low.as_secs_f64()).ln();
    let level = |value: &Option<Duration>| {
        let Some(value) = value else { return ' ' };
        let above = (value.as_secs_f64() / low.as_secs_f64()).ln();
        // Without a span all values are equal, and low. Casts of floats saturate.
        let level = if span > 0.0 { above / span * 7.0 } else { 0.0 };
        LEVELS.get(level.round() as usize).copied().unwrap_or('█')
    };
    line.iter().map(level).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_is_logarithmic_and_gaps_stay_gaps() {
        let millis = |millis| Some(Duration::from_millis(millis));
        let (low, high) = (Duration::from_millis(1), Duration::from_millis(10_000));
        let line = [millis(1), millis(10), None, millis(100), millis(10_000)];
        assert_eq!(sparkline(&line, low, high), "▁▃ ▅█");
        assert_eq!(sparkline(&[millis(1), millis(1)], low, low), "▁▁");
    }
}
