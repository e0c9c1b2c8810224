//! gw-ratelimit beside governor: the same calls, step by step.
//!
//! Both keep a theoretical arrival time a key. They agree in every decision where the period divides by the number of
//! cells. Where it does not, governor cuts the interval off and ours is rounded up: governor lets a little more through
//! than the quota says, and ours a little less.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, FakeRelativeClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota as TheirQuota, RateLimiter};
use gw_ratelimit::gcra::Gcra;
use gw_ratelimit::{Limiter, PolicyId, Quota, Ruling, Verdict};
use proptest::prelude::*;
use tokio::time::Instant;

type Theirs =
    RateLimiter<u8, DefaultKeyedStateStore<u8>, FakeRelativeClock, StateInformationMiddleware>;

/// Both with one quota, at one time.
struct Pair {
    ours: Limiter,
    policy: PolicyId,
    now: Instant,
    theirs: Theirs,
    clock: FakeRelativeClock,
}

/// What a limiter said.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// With so many left.
    Yes(u32),
    /// For so long.
    NotFor(Duration),
    Never,
}

impl Pair {
    fn new(interval: Duration, burst: u32) -> Self {
        let ours = Limiter::builder()
            .policy("a", Quota::per(interval, 1).burst(burst))
            .build()
            .unwrap();
        let theirs = TheirQuota::with_period(interval).unwrap();
        let theirs = theirs.allow_burst(burst.try_into().unwrap());
        let (theirs, clock) = governor(theirs);
        Self {
            policy: ours.policy("a").unwrap(),
            ours,
            now: Instant::now(),
            theirs,
            clock,
        }
    }

    fn advance(&mut self, by: Duration) {
        self.now += by;
        self.clock.advance(by);
    }

    fn ours(&self, key: u8, cost: u32) -> Said {
        let decision = self.ours.check(self.policy, &key, cost, self.now);
        let standing = decision.binding().unwrap();
        match standing.ruling() {
            Ruling::Allowed => Said::Yes(standing.remaining()),
            Ruling::Limited => Said::NotFor(decision.retry_after().unwrap()),
            _ => Said::Never,
        }
    }

    fn theirs(&self, key: u8, cost: u32) -> Said {
        let cost = NonZeroU32::new(cost).unwrap();
        match self.theirs.check_key_n(&key, cost) {
            Ok(Ok(state)) => Said::Yes(state.remaining_burst_capacity()),
            Ok(Err(until)) => Said::NotFor(until.wait_time_from(self.clock.now())),
            Err(_) => Said::Never,
        }
    }
}

/// A wait, in parts of an interval, and then a check.
type Step = (u32, u8, u32);

fn steps(costs: impl Strategy<Value = u32>) -> impl Strategy<Value = Vec<Step>> {
    // Most come at once, or within an interval, which a thousand parts make up.
    let wait = prop_oneof![4 => Just(0), 3 => 0..1_500u32, 1 => 0..20_000u32];
    prop::collection::vec((wait, 0..3u8, costs), 1..120)
}

proptest! {
    /// Each answer is the same: yes and what is left, not yet and for how long, never.
    #[test]
    fn they_agree_step_by_step(
        interval in prop_oneof![1_000..5_000u64, 1_000_000..1_000_000_000u64, Just(3_600_000_000_000)],
        burst in 1..12u32,
        steps in steps(1..14u32),
    ) {
        let interval = Duration::from_nanos(interval);
        let mut pair = Pair::new(interval, burst);
        for (wait, key, cost) in steps {
            pair.advance(interval * wait / 1_000);
            prop_assert_eq!(pair.ours(key, cost), pair.theirs(key, cost));
        }
    }

    /// Where the period does not divide, governor's interval is the shorter one, by less than a nanosecond on each side
    /// of the true one. Of requests that cost one each, it lets at least as many through at any time, and at most as many
    /// more as that nanosecond makes up.
    #[test]
    fn ours_is_the_stricter_one_where_the_period_does_not_divide(
        cells in 2..2_000_000u32,
        burst in 1..12u32,
        steps in steps(Just(1)),
    ) {
        let quota = Quota::per_second(cells).burst(burst);
        let ours = Gcra::new(quota).unwrap();
        let (theirs, clock) = governor(per_second(cells, burst));
        let exact = 1_000_000_000 / u64::from(cells);
        prop_assert!(ours.interval() - exact <= 1);
        let (mut tat, mut now) = (0, 0u64);
        let (mut passed, mut passed_there) = (0u64, 0u64);
        for (wait, _, _) in steps {
            let wait = exact * u64::from(wait) / 1_000;
            now += wait;
            clock.advance(Duration::from_nanos(wait));
            if let Verdict::Allow { state: after } = ours.decide(tat, now, 1) {
                (tat, passed) = (after, passed + 1);
            }
            passed_there += u64::from(theirs.check_key(&0).is_ok());
            prop_assert!(passed <= passed_there);
            let surplus = now.div_ceil(exact) - now / ours.interval();
            prop_assert!(passed_there <= passed + surplus + 1, "{passed_there} and {passed}");
        }
    }
}

fn governor(quota: TheirQuota) -> (Theirs, FakeRelativeClock) {
    let (clock, store) = (
        FakeRelativeClock::default(),
        DefaultKeyedStateStore::default(),
    );
    (Theirs::new(quota, store, clock.clone()), clock)
}

fn per_second(cells: u32, burst: u32) -> TheirQuota {
    let quota = TheirQuota::per_second(cells.try_into().unwrap());
    quota.allow_burst(burst.try_into().unwrap())
}

/// Story: a quota of 999,983 a second was sold, and a client that asked whenever it was due got a million.
#[test]
fn rounding_up_never_lets_more_through_than_the_quota() {
    const CELLS: u32 = 999_983;
    const TENTH: u64 = 100_000_000;
    let ours = Gcra::new(Quota::per_second(CELLS).burst(1)).unwrap();
    let (mut tat, mut now, mut passed) = (0, 0, 0u64);
    while now <= TENTH {
        match ours.decide(tat, now, 1) {
            Verdict::Allow { state: after } => (tat, passed) = (after, passed + 1),
            Verdict::Deny { wait, .. } => now += wait,
            Verdict::DenyForever { .. } => unreachable!("a cell is within the burst"),
        }
    }
    let (theirs, clock) = governor(per_second(CELLS, 1));
    let mut passed_there = 0u64;
    while clock.now().as_u64() <= TENTH {
        match theirs.check_key(&0) {
            Ok(_) => passed_there += 1,
            Err(until) => clock.advance(until.wait_time_from(clock.now())),
        }
    }
    let sold = 1 + u64::from(CELLS) / 10;
    assert_eq!((sold, passed, passed_there), (99_999, 99_901, 100_001));
}
