use std::fs::File;

use gw_testkit::with_few_descriptors;

#[test]
fn they_run_out() {
    with_few_descriptors("descriptors::they_run_out", async {
        let opened: Vec<_> = (0..64)
            .map_while(|_| File::open("/dev/null").ok())
            .collect();
        assert!((1..64).contains(&opened.len()));
    });
}

#[test]
#[should_panic(expected = "0 passed")]
fn a_test_that_does_not_run_has_not_passed() {
    with_few_descriptors("descriptors::no_such_test", async {});
}
