use proptest::prelude::*;

use super::*;

/// A leaky bucket in exact arithmetic: a cell is `period` units, and `cells` units leak away in a nanosecond.
struct Bucket {
    cells: u128,
    period: u128,
    burst: u128,
    level: u128,
    last: u64,
}

impl Bucket {
    fn new(quota: Quota) -> Self {
        Self {
            cells: quota.cells().into(),
            period: quota.period().as_nanos(),
            burst: quota.max_burst().into(),
            level: 0,
            last: 0,
        }
    }

    fn admits(&mut self, now: u64, cost: u32) -> bool {
        let leaked = u128::from(now - self.last) * self.cells;
        self.level = self.level.saturating_sub(leaked);
        self.last = now;
        self.level + u128::from(cost) * self.period <= self.burst * self.period
    }

    fn fill(&mut self, cost: u32) {
        self.level += u128::from(cost) * self.period;
    }
}

fn quota() -> impl Strategy<Value = Quota> {
    let period = prop_oneof![
        1..1_000u64,
        1..10_000_000_000u64,
        Just(3_600_000_000_000u64)
    ];
    (period, 1..2_000_000u64, 1..300u32).prop_map(|(period, cells, burst)| {
        let cells = u32::try_from(cells.min(period)).unwrap();
        Quota::per(Duration::from_nanos(period), cells).burst(burst)
    })
}

/// Quotas whose interval is a whole number of nanoseconds.
fn whole_quota() -> impl Strategy<Value = Quota> {
    (1..1_000_000u64, 1..1_000u32, 1..300u32).prop_map(|(interval, cells, burst)| {
        Quota::per(Duration::from_nanos(interval * u64::from(cells)), cells).burst(burst)
    })
}

/// Steps of the clock in cells' costs (some of them back, many of them none), and costs, some above the burst.
fn arrivals() -> impl Strategy<Value = Vec<(f64, u32)>> {
    let step = prop_oneof![
        3 => Just(0.0),
        4 => 0.0..3.0,
        1 => 0.0..400.0,
        1 => -3.0..0.0,
    ];
    let cost = prop_oneof![4 => Just(1), 2 => 0..10u32, 1 => 0..400u32];
    prop::collection::vec((step, cost), 1..300)
}

fn step(now: u64, gcra: &Gcra, step: f64) -> u64 {
    let nanos = (step.abs() * gcra.interval() as f64) as u64;
    if step < 0.0 {
        now.saturating_sub(nanos)
    } else {
        now + nanos
    }
}

proptest! {
    /// Whatever the pattern of arrivals, what passes would have passed an exact bucket as well.
    #[test]
    fn never_admits_what_an_exact_bucket_refuses(quota in quota(), start in 0..u64::MAX / 4, arrivals in arrivals()) {
        let gcra = Gcra::new(quota).unwrap();
        let mut bucket = Bucket::new(quota);
        let (mut tat, mut now) = (0, start);
        for (delta, cost) in arrivals {
            now = step(now, &gcra, delta.abs());
            let exact = bucket.admits(now, cost);
            if let Verdict::Allow { state: after } = gcra.decide(tat, now, cost) {
                prop_assert!(exact || cost == 0, "over-admitted {cost} at {now}");
                bucket.fill(cost);
                tat = after;
            }
        }
    }

    /// Where no rounding is needed, the two agree step by step.
    #[test]
    fn agrees_with_an_exact_bucket(quota in whole_quota(), start in 0..u64::MAX / 4, arrivals in arrivals()) {
        let gcra = Gcra::new(quota).unwrap();
        let mut bucket = Bucket::new(quota);
        let (mut tat, mut now) = (0, start);
        for (delta, cost) in arrivals {
            now = step(now, &gcra, delta.abs());
            let exact = bucket.admits(now, cost);
            match gcra.decide(tat, now, cost) {
                Verdict::Allow { state: after } => {
                    prop_assert!(exact);
                    bucket.fill(cost);
                    tat = after;
                }
                Verdict::Deny { .. } | Verdict::DenyForever { .. } => prop_assert!(!exact),
            }
        }
    }

    /// In no stretch of time does more pass than the burst and what the rate brings. Times are what the clock showed,
    /// and it may step back: threads that read it one after the other come the other way round.
    #[test]
    fn no_window_is_exceeded(quota in quota(), arrivals in arrivals()) {
        let gcra = Gcra::new(quota).unwrap();
        let (mut tat, mut now) = (0, 0);
        let mut passed: Vec<(u64, u128)> = Vec::new();
        for (delta, cost) in arrivals {
            now = step(now, &gcra, delta);
            if let Verdict::Allow { state: after } = gcra.decide(tat, now, cost) {
                tat = after;
                passed.push((now, cost.into()));
            }
        }
        passed.sort_unstable();
        let period = quota.period().as_nanos();
        for from in 0..passed.len() {
            let mut sum = 0;
            for (at, cost) in &passed[from..] {
                sum += cost;
                let window = u128::from(at - passed[from].0);
                let most = u128::from(quota.max_burst()) * period + window * u128::from(quota.cells());
                prop_assert!(sum * period <= most);
            }
        }
    }

    /// The wait is exact: then and not a nanosecond earlier.
    #[test]
    fn the_wait_is_exact(quota in quota(), ahead in 0..u64::MAX / 8, now in 0..u64::MAX / 8, cost in 1..300u32) {
        let gcra = Gcra::new(quota).unwrap();
        let tat = now + ahead % (gcra.tolerance() + 1);
        if let Verdict::Deny { wait, .. } = gcra.decide(tat, now, cost) {
            prop_assert!(wait > 0);
            let allows = |at| matches!(gcra.decide(tat, at, cost), Verdict::Allow { .. });
            prop_assert!(allows(now + wait) && !allows(now + wait - 1));
        }
    }

    /// What is left can be spent at once, and one more cannot; the window is the wait if nothing is left.
    #[test]
    fn the_balance_is_exact(quota in quota(), ahead in 0..u64::MAX / 8, now in 0..u64::MAX / 8) {
        let gcra = Gcra::new(quota).unwrap();
        let tat = now + ahead % (gcra.tolerance() + 1);
        let balance = gcra.balance(tat, now);
        let allows = |at, cost| matches!(gcra.decide(tat, at, cost), Verdict::Allow { .. });
        prop_assert!(allows(now, balance.remaining) && !allows(now, balance.remaining + 1));
        prop_assert_eq!(gcra.balance(tat, now + balance.reset_after).remaining, gcra.burst());
        if balance.remaining == 0 {
            prop_assert!(allows(now + balance.window, 1) && !allows(now + balance.window - 1, 1));
        } else {
            prop_assert_eq!(balance.window, gcra.interval() * u64::from(balance.remaining));
        }
    }

    /// Taking a charge back never leaves less debt than there would be without it, and nothing of it if no other
    /// charge came in between, or all came at the same time.
    #[test]
    fn taking_back_forgives_nobody(
        tat in 0..1_000u64,
        now in 0..1_000u64,
        cost in 1..500u64,
        later in prop::collection::vec((0..300u64, 1..100u64), 0..6),
        idle in 0..300u64,
        frozen: bool,
    ) {
        let after = tat.max(now) + cost;
        let (mut with, mut without, mut clock) = (after, tat, now);
        for (step, cost) in &later {
            clock += if frozen { 0 } else { *step };
            with = with.max(clock) + cost;
            without = without.max(clock) + cost;
        }
        let latest = if frozen { clock } else { clock + idle };
        let taken = take_back(with, after, cost, latest);
        prop_assert!(taken <= with);
        // A TAT that is not ahead of the clock is no debt, whatever its value.
        prop_assert!(taken.max(latest) >= without.max(latest));
        if later.is_empty() || frozen {
            prop_assert_eq!(taken.max(latest), without.max(latest));
        }
    }
}

#[test]
fn a_burst_is_what_may_come_at_once() {
    let gcra = Gcra::new(Quota::per_second(10).burst(3)).unwrap();
    let mut tat = 0;
    for _ in 0..3 {
        let Verdict::Allow { state: after } = gcra.decide(tat, 0, 1) else {
            panic!("within the burst")
        };
        tat = after;
    }
    assert_eq!(
        gcra.decide(tat, 0, 1),
        Verdict::Deny {
            state: tat,
            wait: 100_000_000
        }
    );
    assert_eq!(gcra.decide(0, 0, 4), Verdict::DenyForever { state: 0 });
    assert_eq!(gcra.decide(tat, 0, 0), Verdict::Allow { state: tat });
    assert_eq!(
        gcra.balance(tat, 0),
        Balance {
            remaining: 0,
            window: 100_000_000,
            reset_after: 300_000_000
        }
    );
}

#[test]
fn the_interval_is_rounded_up() {
    for (quota, interval) in [
        (Quota::per_second(3), 333_333_334),
        (Quota::per_second(1_000_000_000), 1),
        (Quota::per_second(300_000_000), 4),
        (Quota::per_minute(7), 8_571_428_572),
        (Quota::per(Gcra::MAX_PERIOD, 1), 31_622_400_000_000_000),
    ] {
        assert_eq!(Gcra::new(quota).unwrap().interval(), interval, "{quota:?}");
    }
}

#[test]
fn what_cannot_be_enforced_is_refused() {
    let days = |days: u64| Duration::from_secs(days * 24 * 60 * 60);
    for (quota, field) in [
        (Quota::per_second(0), "rate"),
        (Quota::per_second(1_000_000_001).burst(1), "rate"),
        (Quota::per(Duration::from_nanos(1), 2), "rate"),
        (Quota::per(Duration::ZERO, 1), "period"),
        (Quota::per(days(367), 1), "period"),
        (Quota::per(Duration::MAX, 1), "period"),
        (Quota::per_second(1).burst(0), "burst"),
        (Quota::per(days(366), 1).burst(11), "burst"),
        (Quota::per_hour(1).burst(u32::MAX), "burst"),
    ] {
        let error = Gcra::new(quota).unwrap_err();
        assert_eq!(error.field(), field, "{quota:?}: {error}");
    }
    assert!(Gcra::new(Quota::per(days(366), 1).burst(10)).is_ok());
}

#[test]
fn the_end_of_time_does_not_overflow() {
    let gcra = Gcra::new(Quota::per(Gcra::MAX_PERIOD, 1).burst(10)).unwrap();
    let end = u64::MAX;
    assert!(matches!(
        gcra.decide(end, end, 10),
        Verdict::Deny { .. } | Verdict::Allow { .. }
    ));
    assert!(matches!(gcra.decide(end, 0, 1), Verdict::Deny { .. }));
    assert_eq!(gcra.balance(end, 0).remaining, 0);
}
