//! What leaving protections out costs: the phase without them beside the one with all.

use std::fmt::Write as _;

use super::table::time;
use crate::child::argument;
use crate::gateway::Protection;
use crate::phase::Phase;
use crate::replay::Replay;

/// The comparison as text.
pub(super) fn text(left_out: &[Protection], replay: &Replay, without: &Phase) -> String {
    let names: Vec<_> = left_out.iter().map(argument).collect();
    let mut text = format!("what it costs to leave out {}:\n", names.join(" and "));
    let with = &replay.protected;
    for (what, with, without) in [
        (
            "logins answered in the flood",
            answered(with),
            answered(without),
        ),
        ("login p99 in the flood", p99(with), p99(without)),
        ("log requests answered", logs(with), logs(without)),
        (
            "amplification",
            format!("{:.2}", replay.amplification(with)),
            format!("{:.2}", replay.amplification(without)),
        ),
    ] {
        let change = if with == without {
            "no change"
        } else {
            &without
        };
        _ = writeln!(text, "  {what:<30} {with:>9} -> {change}");
    }
    text
}

fn answered(phase: &Phase) -> String {
    let timeline = phase.timeline;
    let flood = timeline.flood_begins()..timeline.seconds();
    let all = phase.auth.summary(flood);
    percent(all.ok, all.sent)
}

fn p99(phase: &Phase) -> String {
    let timeline = phase.timeline;
    let flood = timeline.flood_begins()..timeline.seconds();
    time(phase.auth.summary(flood).p99)
}

fn logs(phase: &Phase) -> String {
    let all = phase.logs.total();
    percent(all.ok, all.sent)
}

fn percent(ok: u64, sent: u64) -> String {
    if sent == 0 {
        return "none sent".to_owned();
    }
    // Rounded down: 100 % means all of them.
    format!("{:.1} %", (1000.0 * ok as f64 / sent as f64).floor() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_all_is_a_hundred_percent() {
        assert_eq!(percent(9_999, 10_000), "99.9 %");
        assert_eq!(percent(10_000, 10_000), "100.0 %");
        assert_eq!(percent(0, 0), "none sent");
    }
}
