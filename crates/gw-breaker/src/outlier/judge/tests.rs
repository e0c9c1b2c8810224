use proptest::prelude::*;

use super::*;

fn rules() -> Rules {
    Rules {
        min_requests: 100,
        deviations: 3500,
        failure_gap: 50_000,
        latency_gap: latency_gap(3000),
    }
}

fn failing(failures: u64, requests: u64) -> Sample {
    Sample {
        successes: requests - failures,
        failures,
        ..Sample::default()
    }
}

fn taking(millis: u64) -> Sample {
    Sample {
        successes: 200,
        log_sum: 200 * log2::of_nanos(millis * 1_000_000),
        ..Sample::default()
    }
}

/// Which of them fail more than is usual.
fn failing_more(samples: &[Sample]) -> Vec<usize> {
    let rules = rules();
    let mut rates: Vec<_> = samples
        .iter()
        .filter_map(|s| rules.failure_rate(s))
        .collect();
    let Some(usual) = rules.usual_failure_rate(&mut rates) else {
        return Vec::new();
    };
    (0..samples.len())
        .filter(|n| rules.fails_more(&samples[*n], usual).is_some())
        .collect()
}

fn slower(millis: &[u64]) -> Vec<usize> {
    let rules = rules();
    let samples: Vec<_> = millis.iter().map(|millis| taking(*millis)).collect();
    let mut latencies: Vec<_> = samples.iter().filter_map(|s| rules.latency(s)).collect();
    let Some(usual) = rules.usual_latency(&mut latencies) else {
        return Vec::new();
    };
    (0..samples.len())
        .filter(|n| rules.is_slower(&samples[*n], usual).is_some())
        .collect()
}

#[test]
fn one_that_fails_more_than_the_others_stands_out() {
    let mut samples = vec![failing(2, 200); 9];
    samples.push(failing(40, 200));
    assert_eq!(failing_more(&samples), [9]);
}

#[test]
fn two_of_five_do_not_hide_one_another() {
    // Mean minus 1.9 standard deviations is below all of them: 0.92 - 1.9 * 0.098 = 0.734.
    let good = failing(0, 1000);
    let bad = failing(200, 1000);
    assert_eq!(failing_more(&[good, bad, good, bad, good]), [1, 3]);
}

#[test]
fn all_failing_alike_is_nobodys_fault() {
    let samples: Vec<_> = (0..10).map(|n| failing(300 + n, 1000)).collect();
    assert!(failing_more(&samples).is_empty());
}

#[test]
fn a_difference_that_does_not_matter_is_none() {
    // Far from chance, and 4.9 points above the others.
    let mut samples = vec![failing(0, 100_000); 9];
    samples.push(failing(4_900, 100_000));
    assert!(failing_more(&samples).is_empty());
    samples[9] = failing(5_000, 100_000);
    assert_eq!(failing_more(&samples), [9]);
}

#[test]
fn bad_luck_is_none_either() {
    // Nine points above the others, of 100 requests.
    let mut samples = vec![failing(0, 100); 9];
    samples.push(failing(9, 100));
    assert!(failing_more(&samples).is_empty());
    samples[9] = failing(10, 100);
    assert_eq!(failing_more(&samples), [9]);
}

#[test]
fn a_set_that_differs_anyway_has_a_wide_hurdle() {
    let rates = [0, 40, 80, 120, 160, 200, 240];
    let samples: Vec<_> = rates.iter().map(|f| failing(*f, 1000)).collect();
    assert!(failing_more(&samples).is_empty());
}

#[test]
fn with_too_few_requests_nobody_is_judged() {
    let mut samples = vec![failing(0, 99); 9];
    samples.push(failing(99, 99));
    assert!(failing_more(&samples).is_empty());
    let two = [failing(0, 1000), failing(1000, 1000)];
    assert!(
        failing_more(&two).is_empty(),
        "of two neither is the outlier"
    );
}

#[test]
fn three_are_enough_to_see_the_slow_one() {
    assert_eq!(slower(&[20, 100, 20]), [1]);
    assert!(slower(&[20, 59, 20]).is_empty(), "less than three times");
    assert!(slower(&[100, 20, 100]).is_empty(), "faster is no fault");
    assert!(slower(&[20, 500]).is_empty());
}

#[test]
fn four_of_ten_slow_ones_are_all_seen() {
    assert_eq!(
        slower(&[20, 20, 120, 21, 120, 19, 120, 120, 22, 20]),
        [2, 4, 6, 7]
    );
}

#[test]
fn the_middle_of_an_even_number() {
    assert_eq!(median(&mut [4, 1]), Some(2));
    assert_eq!(median(&mut [9, 1, 5]), Some(5));
    assert_eq!(median(&mut []), None);
}

/// The chance of `least` failures or more, where `mean` are expected: a Poisson sum, which is above any binomial tail.
fn tail(mean: f64, least: u64) -> f64 {
    let mut term = (-mean).exp();
    let mut below = 0.0;
    for k in 0..least {
        below += term;
        term *= mean / (k + 1) as f64;
    }
    // What is left of 1 by subtraction has no digits; sum upwards.
    let mut sum = 0.0;
    for k in least..least + 500 {
        sum += term;
        term *= mean / (k + 1) as f64;
    }
    sum.min(1.0 - below + sum)
}

#[test]
fn chance_is_below_one_in_a_million() {
    for mean in [0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 50.0, 200.0] {
        let expected = (mean * 1000.0) as u64;
        let least = (expected + chance(expected)) / 1000 + 1;
        let likely = tail(mean, least);
        assert!(likely < 1e-6, "{mean}: {likely:e}");
        // And not so far off that nothing would be seen.
        assert!(
            least as f64 <= mean + 10.0 + 6.0 * mean.sqrt(),
            "{mean}: {least}"
        );
    }
}

proptest! {
    #[test]
    fn nothing_overflows(
        samples in proptest::collection::vec((0u64.., 0u64.., 0u64.., 0u64..1 << 39), 0..20),
        deviations in 0u64..1_000_000_000,
    ) {
        let rules = Rules { deviations, ..rules() };
        let samples: Vec<_> = samples
            .into_iter()
            .map(|(successes, failures, given_up, log_sum)| Sample { successes, failures, throttled: 0, given_up, log_sum })
            .collect();
        let mut rates: Vec<_> = samples.iter().filter_map(|s| rules.failure_rate(s)).collect();
        let mut latencies: Vec<_> = samples.iter().filter_map(|s| rules.latency(s)).collect();
        let (rate, latency) = (rules.usual_failure_rate(&mut rates), rules.usual_latency(&mut latencies));
        for sample in &samples {
            rate.and_then(|usual| rules.fails_more(sample, usual));
            latency.and_then(|usual| rules.is_slower(sample, usual));
        }
    }

    #[test]
    fn fewer_than_half_never_decide_what_is_usual(good in 3usize..20, bad in 0usize..20, rate in 0u64..50) {
        let bad = bad.min(good - 1);
        let mut samples = vec![failing(rate, 1000); good];
        samples.extend(vec![failing(rate + 200, 1000); bad]);
        prop_assert_eq!(failing_more(&samples), (good..good + bad).collect::<Vec<_>>());
    }
}
