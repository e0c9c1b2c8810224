use proptest::prelude::*;

use super::*;

fn quota() -> impl Strategy<Value = Quota> {
    let millis = |n: u64| Duration::from_micros(n * 100);
    let rate = (1..1_000u64, 1..50u32, 1..60u32)
        .prop_map(move |(period, cells, burst)| Quota::per(millis(period), cells).burst(burst));
    // Story: of any length, hardly two were ever of the same one, and only then does one window read the other's state.
    let length = prop::sample::select(vec![1u64, 37, 250, 999]);
    let window = (length, 1..60u32)
        .prop_map(move |(length, limit)| Quota::sliding_window(limit, millis(length)));
    prop_oneof![rate, window]
}

fn algorithm() -> impl Strategy<Value = Algorithm> {
    quota().prop_map(|quota| Algorithm::new(quota).unwrap())
}

/// A state with some past, and a time: that of the last charge, or a little later.
fn past(algorithm: &Algorithm, charges: &[(u64, u32)], later: u64) -> (u64, u64) {
    let (mut state, mut now) = (0, 1_000_000_000);
    for (step, cost) in charges {
        now += step * 10_000;
        if let Verdict::Allow { state: after } = algorithm.decide(state, now, *cost) {
            state = after;
        }
    }
    (state, now + later * 10_000)
}

fn charges() -> impl Strategy<Value = Vec<(u64, u32)>> {
    prop::collection::vec((0..2_000u64, 1..20u32), 0..40)
}

/// Story: a cell costs whole nanoseconds, rounded up, and so 300 million a second came to be 250 million.
#[test]
fn rates_that_whole_nanoseconds_cannot_tell_are_refused() {
    for fits in [
        1_000_000,
        9_000_000,
        10_000_000,
        100_000_000,
        250_000_000,
        1_000_000_000,
    ] {
        assert!(Algorithm::new(Quota::per_second(fits)).is_ok(), "{fits}");
    }
    for lost in [
        60_000_000,
        90_000_000,
        300_000_000,
        600_000_000,
        999_999_999,
    ] {
        let error = Algorithm::new(Quota::per_second(lost)).unwrap_err();
        assert_eq!(error.field(), "rate", "{lost}");
    }
    // 49.5 of 50 nanoseconds are just enough.
    for (period, fits) in [(4_950, true), (4_949, false)] {
        let rate = Quota::per(Duration::from_nanos(period), 100);
        assert_eq!(Algorithm::new(rate).is_ok(), fits, "{period}");
    }
}

proptest! {
    /// What was spent of the old burst is spent of the new one.
    #[test]
    fn what_is_spent_stays_spent(from in algorithm(), to in algorithm(), charges in charges(), later in 0..3_000u64) {
        let (state, now) = past(&from, &charges, later);
        let spent = from.burst() - from.balance(state, now).remaining;
        let left = to.balance(to.translate(&from, state, now), now).remaining;
        prop_assert_eq!(left, to.burst() - spent.min(to.burst()));
    }

    /// And where the state itself stays, the cut gives nobody a cell; it only shortens the wait.
    #[test]
    fn a_cut_gives_nothing_at_once(from in algorithm(), to in algorithm(), charges in charges(), later in 0..3_000u64) {
        prop_assume!(to.reads(&from));
        let (state, now) = past(&from, &charges, later);
        let cut = to.cut(state, now);
        prop_assert_eq!(to.balance(cut, now).remaining, to.balance(state, now).remaining);
        prop_assert!(to.idle_at(cut) <= to.idle_at(state).max(now));
        if !to.is_tighter_than(&from) {
            prop_assert_eq!(cut, state);
        }
    }

    /// A key that is idle is one that was never seen: all can be spent, and it is forgotten without loss.
    #[test]
    fn idle_is_as_never_seen(algorithm in algorithm(), charges in charges(), costs in charges()) {
        let (state, now) = past(&algorithm, &charges, 0);
        let mut now = now.max(algorithm.idle_at(state));
        let mut states = [state, 0, algorithm.idle(now)];
        for (step, cost) in costs {
            now += step * 10_000;
            let verdicts = states.map(|state| algorithm.decide(state, now, cost));
            for (state, verdict) in states.iter_mut().zip(verdicts) {
                if let Verdict::Allow { state: after } = verdict {
                    *state = after;
                }
            }
            let [one, other, fresh] = states.map(|state| algorithm.balance(state, now));
            prop_assert_eq!(one, other);
            prop_assert_eq!(one, fresh);
            let allowed = verdicts.map(|verdict| matches!(verdict, Verdict::Allow { .. }));
            prop_assert!(allowed == [true; 3] || allowed == [false; 3]);
        }
    }

    /// The share that is spent says what the balance says.
    #[test]
    fn the_share_is_that_of_the_balance(algorithm in algorithm(), charges in charges(), later in 0..3_000u64) {
        let (state, now) = past(&algorithm, &charges, later);
        let (spent, of) = algorithm.spent(state, now);
        let burst = u64::from(algorithm.burst());
        let remaining = u64::from(algorithm.balance(state, now).remaining);
        prop_assert_eq!(remaining, burst - (spent * burst).div_ceil(of).min(burst));
    }
}

#[test]
fn a_sliding_window_has_no_burst_of_its_own() {
    let quota = Quota::sliding_window(10, Duration::from_secs(60));
    let error = Algorithm::new(quota.burst(5)).unwrap_err();
    assert_eq!(error.field(), "burst");
    let Algorithm::Window(window) = Algorithm::new(quota).unwrap() else {
        panic!("a window");
    };
    assert_eq!((window.limit(), window.length()), (10, 60_000_000_000));
    assert_eq!(
        Gcra::new(quota).unwrap_err().to_string(),
        "quota must be a rate"
    );
}
