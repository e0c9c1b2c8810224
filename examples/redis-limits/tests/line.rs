//! What the program prints.

use std::process::Command;

#[test]
fn two_services_let_through_what_one_would() {
    let output = Command::new(env!("CARGO_BIN_EXE_redis-limits"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "40 requests to two services with one limit of 10: 10 passed\n"
    );
}
