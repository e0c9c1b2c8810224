//! Small examples show one idea, at a glance.

use std::fs;
use std::path::Path;

/// Programs of their own size: the gateway, the incident, and a comparison with another library.
const LARGE: [&str; 3] = ["incident-replay", "limit-holds", "reference-gateway"];

#[test]
fn small_examples_have_less_than_eighty_lines() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("examples");
    let mut small = 0;
    for example in fs::read_dir(examples).unwrap() {
        let example = example.unwrap();
        if LARGE.iter().any(|large| example.file_name() == *large) {
            continue;
        }
        let main = fs::read_to_string(example.path().join("src/main.rs")).unwrap();
        let lines = main.lines().count();
        assert!(lines < 80, "{}: {lines}", example.path().display());
        small += 1;
    }
    assert!(small >= 8, "{small}");
}
