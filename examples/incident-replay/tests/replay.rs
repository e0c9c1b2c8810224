//! The whole program with a schedule of a few seconds: its structure, not its numbers.
#![allow(clippy::expect_used, reason = "a test stops where it cannot go on")]

use std::process::{Command, Output};

/// Runs the program, with its report in a directory of its own. Returns what it did, the page, and the picture.
fn run(arguments: &[&str]) -> (Output, String, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let (html, svg) = (
        directory.path().join("a.html"),
        directory.path().join("a.svg"),
    );
    let output = Command::new(env!("CARGO_BIN_EXE_incident-replay"))
        .args(["--seconds", "4", "--seed", "3"])
        .arg("--html")
        .arg(&html)
        .arg("--svg")
        .arg(&svg)
        .args(arguments)
        .output()
        .expect("the program runs");
    let read = |path| std::fs::read_to_string(path).expect("a file was written");
    (output, read(&html), read(&svg))
}

fn text(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors, "", "nothing to complain about");
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// The lines of the table, as words: phase, route, and ten cells.
fn table(text: &str) -> Vec<Vec<String>> {
    let is_row = |line: &&str| line.contains(" auth  ") || line.contains(" logs  ");
    let lines = text
        .lines()
        .filter(is_row)
        .filter(|line| !line.contains("waiting"));
    lines
        .map(|line| line.split("  ").map(|word| word.trim().to_owned()))
        .map(|words| words.filter(|word| !word.is_empty()).collect())
        .collect()
}

#[test]
fn a_short_replay_reports_every_phase_on_the_same_schedule() {
    let (output, page, picture) = run(&[]);
    let text = text(&output);
    // Four seconds are too few to show anything for sure, but the verdict must be one.
    assert!(matches!(output.status.code(), Some(0 | 1)), "{text}");
    let missed = text.lines().any(|line| line.starts_with("MISSED"));
    assert_eq!(output.status.success(), !missed, "{text}");

    let phases = ["healthy sink", "unprotected", "protected"];
    for phase in phases {
        let lines = text.lines().filter(|line| line.starts_with(phase));
        let seconds = lines
            .clone()
            .filter(|line| line.contains("waiting"))
            .count();
        assert!(seconds >= 4, "a line a second: {text}");
        let rows = table(&text);
        let routes = rows
            .iter()
            .filter(|row| row.first().is_some_and(|name| name.starts_with(phase)));
        assert_eq!(routes.count(), 2, "{rows:?}");
    }

    let offered: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split_once(" schedule "))
        .filter(|(_, rest)| rest.contains("amplification"))
        .filter_map(|(_, rest)| rest.split_whitespace().next())
        .collect();
    assert_eq!(offered.len(), 3, "{text}");
    assert!(
        offered.iter().all(|hash| *hash == offered[0]),
        "{offered:?}"
    );

    assert!(
        text.contains("with a healthy sink everything is answered"),
        "{text}"
    );
    assert!(
        text.contains("accepted events"),
        "the protected gateway has a ledger: {text}"
    );

    assert!(page.contains("<svg") && page.contains("<table>"));
    for outside in ["<script src", "<link", "url(", "@import", "src=\"http"] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert_eq!(
        picture.matches("<path class=\"line unprotected\"").count(),
        3
    );
    assert_eq!(picture.matches("<path class=\"line protected\"").count(), 3);
}

#[test]
fn leaving_a_protection_out_is_a_phase_of_its_own_and_has_a_price() {
    let (output, _, picture) = run(&["--without", "queue"]);
    let text = text(&output);
    assert!(text.contains("what it costs to leave out queue"), "{text}");
    assert!(
        text.lines().any(|line| line.starts_with("reduced")),
        "{text}"
    );
    assert!(picture.contains("<path class=\"line reduced\""));
}

#[test]
fn what_cannot_be_left_out_is_refused_with_the_list() {
    let output = Command::new(env!("CARGO_BIN_EXE_incident-replay"))
        .args(["--without", "luck"])
        .output()
        .expect("the program runs");
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("rate-limit, lanes, queue"), "{errors}");
}
