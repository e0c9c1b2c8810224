//! What the program prints.

use std::process::Command;

#[test]
fn a_report_that_blocks_delays_no_lookup_and_a_second_one_is_refused() {
    let output = Command::new(env!("CARGO_BIN_EXE_tonic-lane"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        lines.lines().collect::<Vec<_>>(),
        [
            "a report has begun, and blocks its thread",
            "100 lookups answered, report done: false",
            "second report: ResourceExhausted, The service is at capacity.",
            "first report: all about shoes",
        ]
    );
}
