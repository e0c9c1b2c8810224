//! Names, labels and numbers as a recorder sees them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::Duration;

use gw_ratelimit::{Limiter, Mode, Quota};
use metrics::{
    Counter, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use tokio::time::Instant;

#[test]
fn a_recorder_sees_decisions_and_keys() {
    let limiter = Limiter::builder()
        .policy("p", Quota::per_hour(1).burst(2))
        .policy_in("s", Quota::per_hour(1), Mode::Shadow)
        .build()
        .unwrap();
    // Installed after the limiter was built: it must count all the same.
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        gw_ratelimit::describe();
        let policies = ["p", "s"].map(|name| limiter.policy(name).unwrap());
        for _ in 0..3 {
            let charges = policies.map(|policy| limiter.charge(policy, "k", 1));
            limiter.check_all(&charges, Instant::now());
        }
    });

    let mut seen = BTreeMap::new();
    for (key, unit, help, value) in snapshotter.snapshot().into_vec() {
        assert!(unit.is_some() && help.is_some());
        let labels: Vec<&str> = key.key().labels().map(|label| label.value()).collect();
        let value = match value {
            DebugValue::Counter(count) => count as f64,
            DebugValue::Gauge(value) => value.into_inner(),
            DebugValue::Histogram(_) => panic!("no histogram here"),
        };
        seen.insert(format!("{} {}", key.key().name(), labels.join(" ")), value);
    }
    let expected = [
        ("gateway_rate_limit_hits_total p allowed", 2.0),
        ("gateway_rate_limit_hits_total p limited", 1.0),
        ("gateway_rate_limit_hits_total s allowed", 1.0),
        ("gateway_rate_limit_hits_total s would_limit", 2.0),
        ("gateway_rate_limit_keys p", 1.0),
        ("gateway_rate_limit_keys s", 1.0),
    ];
    assert_eq!(
        seen,
        expected
            .map(|(name, value)| (name.to_owned(), value))
            .into()
    );
}

#[test]
fn a_recorder_sees_what_is_charged_late_and_how_full_the_busiest_key_is() {
    let limiter = Limiter::builder()
        .policy("p", Quota::per_hour(1).burst(4))
        .tier("p", "gold", Quota::per_hour(1).burst(8))
        .policy("idle", Quota::sliding_window(9, Duration::from_secs(3_600)));
    let limiter = Arc::new(limiter.build().unwrap());
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        gw_ratelimit::describe();
        let p = limiter.policy("p").unwrap();
        let now = Instant::now();
        let gold = limiter.charge(p, "b", 6).tier(limiter.tier(p, "gold"));
        assert!(limiter.check_all(&[gold], now).is_allowed());
        assert!(limiter.check(p, "a", 1, now).is_allowed());
        limiter.charge_late(limiter.charge(p, "a", 2), now);
        limiter.refund(limiter.charge(p, "a", 1), now);
        limiter.handle().record_gauges();
    });
    let mut seen = BTreeMap::new();
    for (key, _, help, value) in snapshotter.snapshot().into_vec() {
        assert!(help.is_some());
        let labels: Vec<&str> = key.key().labels().map(|label| label.value()).collect();
        let value = match value {
            DebugValue::Counter(count) => count as f64,
            // To two digits: the clock runs.
            DebugValue::Gauge(value) => (value.into_inner() * 100.0).round() / 100.0,
            DebugValue::Histogram(_) => panic!("no histogram here"),
        };
        seen.insert(format!("{} {}", key.key().name(), labels.join(" ")), value);
    }
    let expected = [
        ("gateway_rate_limit_fill_ratio idle", 0.0),
        ("gateway_rate_limit_fill_ratio p", 0.75),
        ("gateway_rate_limit_hits_total p allowed", 2.0),
        ("gateway_rate_limit_keys p", 2.0),
        ("gateway_rate_limit_late_cells_total p charged", 2.0),
        ("gateway_rate_limit_late_cells_total p refunded", 1.0),
    ];
    assert_eq!(
        seen,
        expected
            .map(|(name, value)| (name.to_owned(), value))
            .into()
    );
}

/// Story: a process that built a limiter anew went on counting the keys of the old one.
#[test]
fn a_limiter_that_goes_takes_its_keys_along() {
    let build = || {
        let limits = Limiter::builder().policy("p", Quota::per_hour(1));
        limits.build().unwrap()
    };
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let keys = || {
        let seen = snapshotter.snapshot().into_vec().into_iter();
        let mut gauges = seen.filter_map(|(key, _, _, value)| match value {
            DebugValue::Gauge(value) if key.key().name() == "gateway_rate_limit_keys" => {
                Some(value.into_inner())
            }
            _ => None,
        });
        gauges.next()
    };
    metrics::with_local_recorder(&recorder, || {
        drop(build());
        assert_eq!(keys(), None, "it had none to tell of");
        let (first, second) = (build(), build());
        for (limiter, keys) in [(&first, 3), (&second, 2)] {
            let policy = limiter.policy("p").unwrap();
            for key in 0..keys {
                limiter.check(policy, &key, 1, Instant::now());
            }
        }
        drop(first);
        assert_eq!(keys(), Some(2.0));
    });
}

/// A recorder whose gauge lets another thread bring a key before it takes the first word.
#[derive(Default)]
struct Interrupted {
    limiter: OnceLock<Weak<Limiter>>,
    interrupted: AtomicBool,
    value: AtomicI64,
}

impl Interrupted {
    fn interrupt(&self) {
        if !self.interrupted.swap(true, Ordering::SeqCst) {
            let limiter = self.limiter.get().unwrap().upgrade().unwrap();
            let policy = limiter.policy("p").unwrap();
            let other = move || drop(limiter.check(policy, "other", 1, Instant::now()));
            thread::spawn(other).join().unwrap();
        }
    }
}

impl GaugeFn for Interrupted {
    fn increment(&self, value: f64) {
        self.interrupt();
        self.value.fetch_add(value as i64, Ordering::SeqCst);
    }

    fn decrement(&self, value: f64) {
        self.increment(-value);
    }

    fn set(&self, value: f64) {
        self.interrupt();
        self.value.store(value as i64, Ordering::SeqCst);
    }
}

struct InterruptedRecorder(Arc<Interrupted>);

impl Recorder for InterruptedRecorder {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::clone(&self.0))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[test]
fn the_number_of_keys_is_right_whoever_tells_it_first() {
    // Story: each thread set the gauge to the number that it had found. One that was held up between finding and setting
    // overwrote what a later one had set, and the gauge was wrong until the next key came or went.
    let gauge = Arc::new(Interrupted::default());
    let limiter = Limiter::builder().policy("p", Quota::per_hour(1));
    let limiter = Arc::new(limiter.build().unwrap());
    gauge.limiter.set(Arc::downgrade(&limiter)).unwrap();
    let recorder = InterruptedRecorder(Arc::clone(&gauge));
    metrics::with_local_recorder(&recorder, || {
        limiter.check(limiter.policy("p").unwrap(), "k", 1, Instant::now());
    });
    assert!(gauge.interrupted.load(Ordering::SeqCst));
    assert_eq!(limiter.handle().snapshot()[0].keys, 2);
    assert_eq!(gauge.value.load(Ordering::SeqCst), 2);
}
