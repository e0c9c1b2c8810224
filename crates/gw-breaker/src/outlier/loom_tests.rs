//! All interleavings of reports with the end of an interval. Run with `RUSTFLAGS="--cfg loom"`.

use std::time::Duration;

use gw_core::classify::Outcome;
use gw_core::endpoint::EndpointHealth as _;
use loom::thread;
use tokio::time::Instant;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn set(endpoints: usize) -> (Outliers, EndpointSet, Instant) {
    let config = OutlierConfig::new().consecutive(2).seed(1);
    let outliers = Outliers::new("orders", &config).unwrap();
    let names = (0..endpoints).map(|n| n.to_string());
    let set = outliers.endpoints(names).unwrap();
    (outliers, set, Instant::now())
}

fn ejections(outliers: &Outliers) -> u64 {
    outliers
        .snapshot()
        .endpoints
        .iter()
        .map(|e| e.ejections)
        .sum()
}

#[test]
fn loom_one_ends_the_interval_and_no_report_is_lost() {
    loom::model(|| {
        let (outliers, set, start) = set(1);
        set.report(0, Outcome::Success, MS, start);
        let later = start + Duration::from_secs(11);
        let reporters: Vec<_> = (0..2)
            .map(|_| {
                let set = set.clone();
                thread::spawn(move || set.report(0, Outcome::Success, MS, later))
            })
            .collect();
        reporters
            .into_iter()
            .for_each(|reporter| reporter.join().unwrap());
        let first = outliers.snapshot().endpoints[0].requests;
        // Ended twice, the second would have begun with less.
        set.report(0, Outcome::Ignored, MS, later + Duration::from_secs(10));
        let second = outliers.snapshot().endpoints[0].requests;
        assert!(first >= 1);
        assert_eq!(first + second, 3);
    });
}

#[test]
fn loom_of_those_that_fail_together_one_ejects() {
    loom::model(|| {
        let (outliers, set, start) = set(2);
        let reporters: Vec<_> = (0..2)
            .map(|_| {
                let set = set.clone();
                thread::spawn(move || set.report(0, Outcome::Failure, MS, start))
            })
            .collect();
        reporters
            .into_iter()
            .for_each(|reporter| reporter.join().unwrap());
        assert_eq!(ejections(&outliers), 1);
        assert!(!set.is_usable(0, start) && set.is_usable(1, start));
    });
}

#[test]
fn loom_no_more_than_may_be_are_out() {
    loom::model(|| {
        let (outliers, set, start) = set(2);
        let reporters: Vec<_> = (0..2)
            .map(|endpoint| {
                let set = set.clone();
                thread::spawn(move || {
                    set.report(endpoint, Outcome::Failure, MS, start);
                    set.report(endpoint, Outcome::Failure, MS, start);
                })
            })
            .collect();
        reporters
            .into_iter()
            .for_each(|reporter| reporter.join().unwrap());
        assert_eq!(ejections(&outliers), 1);
        assert!(set.is_usable(0, start) != set.is_usable(1, start));
    });
}
