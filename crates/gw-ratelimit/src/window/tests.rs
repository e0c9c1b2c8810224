use proptest::prelude::*;

use super::*;

/// The same in exact arithmetic and with nothing packed: what each window of the grid brought.
#[derive(Debug, Default)]
struct Model {
    /// The window that the key was last seen in.
    number: u128,
    /// What was counted, by window.
    counted: Vec<(u128, u128)>,
}

impl Model {
    fn in_window(&self, number: u128) -> u128 {
        let of = |(counted_in, cost): &(u128, u128)| (*counted_in == number).then_some(*cost);
        self.counted.iter().filter_map(of).sum()
    }

    /// The estimate times the length, as if `cost` came on top.
    fn estimate(&self, window: &Window, now: u64, cost: u32) -> (u128, u128) {
        let length = u128::from(window.length());
        let number = self.number.max(u128::from(now) / length);
        let elapsed = u128::from(now).saturating_sub(number * length);
        let previous = number.checked_sub(1).map_or(0, |n| self.in_window(n));
        let current = self.in_window(number) + u128::from(cost);
        (number, previous * (length - elapsed) + current * length)
    }

    fn charge(&mut self, window: &Window, now: u64, cost: u32) -> bool {
        let (number, estimate) = self.estimate(window, now, cost);
        let fits = estimate <= u128::from(window.limit()) * u128::from(window.length());
        if fits {
            self.number = number;
            self.counted.push((number, cost.into()));
        }
        fits
    }
}

fn window() -> impl Strategy<Value = Window> {
    let length = prop_oneof![
        1_000..100_000u64,
        1_000_000_000..100_000_000_000u64,
        Just(60_000_000_000u64),
        Just(10 * 86_400 * 1_000_000_000),
    ];
    (length, 1..200u32).prop_map(|(length, limit)| {
        let length = Duration::from_nanos(length);
        Window::new(limit.min(Window::max_limit(length)), length).unwrap()
    })
}

/// Steps of the clock in lengths of the window (many none, some back), and costs, some above the limit.
fn arrivals() -> impl Strategy<Value = Vec<(f64, u32)>> {
    let step = prop_oneof![
        4 => Just(0.0),
        6 => 0.0..0.3,
        2 => 0.3..2.5,
        1 => -0.5..0.0,
    ];
    let cost = prop_oneof![4 => Just(1), 2 => 0..20u32, 1 => 0..250u32];
    prop::collection::vec((step, cost), 1..200)
}

fn step(now: u64, window: &Window, step: f64) -> u64 {
    let nanos = (step.abs() * window.length() as f64) as u64;
    if step < 0.0 {
        now.saturating_sub(nanos)
    } else {
        now.saturating_add(nanos)
    }
}

fn allows(window: &Window, state: u64, now: u64, cost: u32) -> bool {
    matches!(window.decide(state, now, cost), Verdict::Allow { .. })
}

proptest! {
    /// Step by step the same as the model, however the clock goes.
    #[test]
    fn agrees_with_the_estimate(window in window(), start in 0..1u64 << 52, arrivals in arrivals()) {
        let (mut state, mut now, mut model) = (0, start, Model::default());
        for (delta, cost) in arrivals {
            now = step(now, &window, delta);
            let verdict = window.decide(state, now, cost);
            if cost == 0 {
                prop_assert_eq!(verdict, Verdict::Allow { state });
                continue;
            }
            let allowed = model.charge(&window, now, cost);
            prop_assert_eq!(matches!(verdict, Verdict::Allow { .. }), allowed);
            prop_assert_eq!(matches!(verdict, Verdict::DenyForever { .. }), cost > window.limit());
            if let Verdict::Allow { state: after } = verdict {
                state = after;
            }
            let (_, estimate) = model.estimate(&window, now, 0);
            let spent = estimate.div_ceil(window.length().into());
            prop_assert_eq!(u128::from(window.used(state, now)), spent);
        }
    }

    /// What is promised: no window of the grid brings more than the limit, and no stretch of one length twice as much.
    #[test]
    fn no_stretch_brings_twice_the_limit(window in window(), arrivals in arrivals()) {
        let (length, limit) = (window.length(), u64::from(window.limit()));
        let (mut state, mut now, mut seen) = (0, 0, 0);
        let mut passed: Vec<(u64, u64)> = Vec::new();
        for (delta, cost) in arrivals {
            now = step(now, &window, delta);
            if let (Verdict::Allow { state: after }, 1..) = (window.decide(state, now, cost), cost) {
                state = after;
                // A reading from before the window that the key was seen in counts as that window's start.
                seen = seen.max(now / length);
                passed.push((now.max(seen * length), cost.into()));
            }
        }
        for (from, _) in &passed {
            let within = |end: u64| -> u64 {
                passed.iter().filter(|(at, _)| at >= from && *at < end).map(|(_, cost)| cost).sum()
            };
            prop_assert!(within(from + length) < 2 * limit);
            let start = from / length * length;
            let in_window: u64 = passed
                .iter()
                .filter(|(at, _)| *at >= start && *at - start < length)
                .map(|(_, cost)| cost)
                .sum();
            prop_assert!(in_window <= limit);
        }
    }

    /// The wait is exact: then and not a nanosecond earlier.
    #[test]
    fn the_wait_is_exact(
        window in window(),
        counts in (1..1_000u64, 0..220u32, 0..220u32),
        at in -0.5..3.0f64,
        cost in 1..200u32,
    ) {
        let most = u64::from(window.limit()) * 2;
        let (current, previous) = (u64::from(counts.1).min(most), u64::from(counts.2).min(most));
        let counts = Counts { number: counts.0, current, previous };
        let state = window.pack(counts);
        let now = step(window.start(counts.number), &window, at);
        if let Verdict::Deny { wait, .. } = window.decide(state, now, cost) {
            prop_assert!(wait > 0);
            prop_assert!(allows(&window, state, now + wait, cost));
            prop_assert!(!allows(&window, state, now + wait - 1, cost));
        }
    }

    /// What is left can be spent at once and one more cannot; it stays so until the window ends; and when everything is
    /// back, it is all there.
    #[test]
    fn the_balance_is_exact(
        window in window(),
        counts in (1..1_000u64, 0..220u32, 0..220u32),
        at in -0.5..3.0f64,
    ) {
        let most = u64::from(window.limit()) * 2;
        let (current, previous) = (u64::from(counts.1).min(most), u64::from(counts.2).min(most));
        let counts = Counts { number: counts.0, current, previous };
        let state = window.pack(counts);
        let now = step(window.start(counts.number), &window, at);
        let balance = window.balance(state, now);
        prop_assert!(allows(&window, state, now, balance.remaining));
        prop_assert!(!allows(&window, state, now, balance.remaining + 1));
        let later = now + balance.window - 1;
        prop_assert!(allows(&window, state, later, balance.remaining));
        if balance.remaining == 0 {
            prop_assert!(allows(&window, state, now + balance.window, 1) && !allows(&window, state, later, 1));
        }
        let back = now + balance.reset_after;
        prop_assert_eq!(window.balance(state, back).remaining, window.limit());
        if balance.reset_after > 0 && counts.current.max(counts.previous) > 0 {
            prop_assert!(window.balance(state, back - 1).remaining < window.limit());
        }
    }

    /// Taking a charge back leaves what there would be without it, from the latest charge on.
    #[test]
    fn taking_back_leaves_the_others(
        window in window(),
        before in arrivals(),
        cost in 1..100u32,
        later in prop::collection::vec((0.0..0.4f64, 1..20u32), 0..8),
        at in 0.0..2.5f64,
    ) {
        let (mut without, mut now) = (0, 0);
        for (delta, cost) in before {
            now = step(now, &window, delta.abs());
            if let Verdict::Allow { state } = window.decide(without, now, cost) {
                without = state;
            }
        }
        let Verdict::Allow { state: after } = window.decide(without, now, cost) else {
            return Ok(());
        };
        let mut with = after;
        for (delta, cost) in later {
            now = step(now, &window, delta);
            let (Verdict::Allow { state: one }, Verdict::Allow { state: other }) =
                (window.decide(with, now, cost), window.decide(without, now, cost))
            else {
                continue;
            };
            (with, without) = (one, other);
        }
        let taken = window.take_back(with, after, cost);
        let at = step(now, &window, at);
        prop_assert_eq!(window.used(taken, at), window.used(without, at));
    }

    /// The later of two states owes no less than either from then on.
    #[test]
    fn the_later_owes_no_less(
        window in window(),
        one in (0..20u64, 0..100u64, 0..100u64),
        other in (0..20u64, 0..100u64, 0..100u64),
        at in 0.0..3.0f64,
    ) {
        let last = one.0.max(other.0);
        let [one, other] = [one, other].map(|(number, current, previous)| {
            let (current, previous) = (current.min(window.limit().into()), previous.min(window.limit().into()));
            window.pack(Counts { number, current, previous })
        });
        let later = window.later(one, other);
        let at = step(window.start(last), &window, at);
        prop_assert!(window.used(later, at) >= window.used(one, at).max(window.used(other, at)));
        prop_assert_eq!(window.idle_at(later) >= window.idle_at(one).max(window.idle_at(other)), true);
    }
}

#[test]
fn the_previous_window_fades_out() {
    const MS: u64 = 1_000_000;
    let window = Window::new(100, Duration::from_secs(1)).unwrap();
    let Verdict::Allow { state } = window.decide(0, 990 * MS, 100) else {
        panic!("within the limit");
    };
    let wait = 11 * MS;
    assert_eq!(
        window.decide(state, 999 * MS, 1),
        Verdict::Deny { state, wait }
    );
    // The next window begins with all of it, and a hundredth fades in ten milliseconds.
    assert_eq!(window.balance(state, 1_000 * MS).remaining, 0);
    assert_eq!(window.balance(state, 1_010 * MS).remaining, 1);
    assert_eq!(window.balance(state, 1_500 * MS).remaining, 50);
    assert_eq!(window.balance(state, 2_000 * MS).remaining, 100);
    assert_eq!(window.idle_at(state), 2_000 * MS);
    assert_eq!(window.decide(0, 0, 101), Verdict::DenyForever { state: 0 });
    assert_eq!(window.decide(state, 990 * MS, 0), Verdict::Allow { state });
}

#[test]
fn limits_that_fit() {
    let seconds = Duration::from_secs;
    for (length, most) in [
        (seconds(1), 65_535),
        (seconds(60), 524_287),
        (seconds(240), 1_048_575),
        (seconds(3_600), 4_194_303),
        (Window::MAX_LENGTH, 268_435_455),
    ] {
        assert_eq!(Window::max_limit(length), most, "{length:?}");
        assert!(Window::new(most, length).is_ok());
        assert_eq!(Window::new(most + 1, length).unwrap_err().field(), "limit");
    }
    for (limit, length, field) in [
        (0, seconds(1), "limit"),
        (1, Duration::ZERO, "window"),
        (1, Window::MAX_LENGTH + Duration::from_nanos(1), "window"),
        (1, Duration::MAX, "window"),
        (2, Duration::from_nanos(1), "limit"),
    ] {
        assert_eq!(Window::new(limit, length).unwrap_err().field(), field);
    }
}

#[test]
fn the_end_of_time_forgives_nothing() {
    for length in [1_000_000, nanos(Window::MAX_LENGTH)] {
        let window = Window::new(10, Duration::from_nanos(length)).unwrap();
        let mut state = 0;
        for n in 0..10 {
            let Verdict::Allow { state: after } = window.decide(state, u64::MAX - 10 + n, 1) else {
                panic!("within the limit");
            };
            state = after;
        }
        assert!(matches!(
            window.decide(state, u64::MAX, 1),
            Verdict::Deny { .. }
        ));
        assert_eq!(window.balance(state, u64::MAX).remaining, 0);
    }
}
