use std::time::Duration;

use gw_core::Mode;
use proptest::prelude::*;

use super::*;
use crate::memory::Memory;
use crate::penalty::Penalty;
use crate::quota::Quota;

const SECOND: Duration = Duration::from_secs(1);

fn penalty() -> Penalty {
    Penalty::new(2, 10 * SECOND).max_factor(4)
}

fn limiter(mode: Mode) -> Limiter {
    let builder = Limiter::builder()
        .policy_in("p", Quota::per_second(1).burst(10), mode)
        .penalty("p", penalty());
    builder.build().unwrap()
}

fn fixed() -> Instant {
    Instant::now() + Duration::from_secs(3_600)
}

fn check(limiter: &Limiter, key: &str, now: Instant) -> Decision {
    limiter.check(limiter.policy("p").unwrap(), key, 1, now)
}

fn strikes(limiter: &Limiter, key: &str, now: Instant) -> Option<u32> {
    let charge = limiter.charge(limiter.policy("p").unwrap(), key, 0);
    limiter.strikes(&charge, now)
}

#[test]
fn who_keeps_coming_pays_more() {
    let limiter = limiter(Mode::Enforce);
    let now = fixed();
    for _ in 0..10 {
        assert!(check(&limiter, "k", now).is_allowed());
    }
    let waits: Vec<u64> = (0..5)
        .map(|_| check(&limiter, "k", now).retry_after().unwrap().as_secs())
        .collect();
    // What the next request will cost: once as much, then twice and four times that.
    assert_eq!(waits, [1, 2, 4, 4, 4]);
    assert_eq!(strikes(&limiter, "k", now), Some(3));
    let refused = check(&limiter, "k", now);
    assert!(refused.binding().unwrap().is_penalized());
    // Nobody else is touched.
    assert!(check(&limiter, "other", now).is_allowed());
    assert_eq!(strikes(&limiter, "other", now), Some(0));
    // Ten seconds later two strikes are left, and a request costs two cells; another ten later one.
    let later = now + 10 * SECOND;
    let passed = (0..10).filter(|_| check(&limiter, "k", later).is_allowed());
    assert_eq!(passed.count(), 5);
    let much_later = later + 60 * SECOND;
    assert_eq!(strikes(&limiter, "k", much_later), Some(0));
    let passed = (0..10).filter(|_| check(&limiter, "k", much_later).is_allowed());
    assert_eq!(passed.count(), 10);
}

#[test]
fn what_another_policy_refuses_is_no_strike() {
    let limiter = Limiter::builder()
        .policy("p", Quota::per_second(100))
        .policy("narrow", Quota::per_second(1))
        .penalty("p", penalty())
        .build()
        .unwrap();
    let now = fixed();
    let charges = ["p", "narrow"].map(|n| limiter.charge(limiter.policy(n).unwrap(), "k", 1));
    let passed = (0..9).filter(|_| limiter.check_all(&charges, now).is_allowed());
    assert_eq!(passed.count(), 1);
    assert_eq!(strikes(&limiter, "k", now), Some(0));
    let counts = limiter.tallies().iter().map(|tally| tally.counts().limited);
    assert_eq!(counts.collect::<Vec<_>>(), [0, 8]);
}

#[test]
fn a_watching_policy_counts_strikes_and_charges_nobody_else() {
    let limiter = Limiter::builder()
        .policy_in("p", Quota::per_second(1).burst(4), Mode::Shadow)
        .policy("real", Quota::per_second(100))
        .penalty("p", Penalty::new(1, 10 * SECOND).max_factor(4))
        .build()
        .unwrap();
    let now = fixed();
    let charges = ["p", "real"].map(|n| limiter.charge(limiter.policy(n).unwrap(), "k", 1));
    for _ in 0..20 {
        assert!(limiter.check_all(&charges, now).is_allowed());
    }
    assert_eq!(strikes(&limiter, "k", now), Some(2));
    let real = limiter.policy("real").unwrap();
    assert_eq!(limiter.peek(real, "k", now).unwrap().remaining(), 80);
    assert_eq!(limiter.tallies()[0].counts().would_limit, 16);
}

#[test]
fn an_operator_adds_and_forgets_strikes() {
    let limiter = limiter(Mode::Enforce);
    let now = fixed();
    let p = limiter.policy("p").unwrap();
    let charge = limiter.charge(p, "k", 0);
    assert!(limiter.penalize(&charge, 2, now));
    assert_eq!(check(&limiter, "k", now).standings()[0].remaining(), 8);
    assert!(limiter.penalize(&charge, u32::MAX, now));
    assert_eq!(strikes(&limiter, "k", now), Some(3));
    assert_eq!(limiter.keys_with_strikes(p), 1);
    assert!(limiter.reset(p, "k"));
    assert_eq!(strikes(&limiter, "k", now), Some(0));
    assert_eq!(limiter.keys_with_strikes(p), 0);
    assert_eq!(check(&limiter, "k", now).standings()[0].remaining(), 9);

    let plain = Limiter::builder().policy("p", Quota::per_second(1));
    let plain = plain.build().unwrap();
    let charge = plain.charge(plain.policy("p").unwrap(), "k", 0);
    assert!(!plain.penalize(&charge, 1, now));
    assert_eq!(plain.strikes(&charge, now), None);
}

/// Story: when the table was full of keys in debt, strikes were put down to all newcomers together, and those who had done
/// nothing paid for them.
#[test]
fn strikes_that_find_no_room_are_nobodys() {
    let limiter = Limiter::builder()
        .memory(Memory::exact(1))
        .policy("p", Quota::per_hour(1).burst(1))
        .penalty("p", Penalty::new(1, 10 * SECOND).max_factor(4))
        .build()
        .unwrap();
    let now = fixed();
    // It has the only place, and owes more than a strike is remembered.
    assert!(check(&limiter, "first", now).is_allowed());
    let second = limiter.charge(limiter.policy("p").unwrap(), "second", 0);
    assert!(limiter.penalize(&second, 1, now));
    assert_eq!(strikes(&limiter, "second", now), Some(0));
    // Once it was forgotten that it asked, what it owes is what everybody begins with, and the place is free for strikes.
    for _ in 0..5 {
        check(&limiter, "second", now);
    }
    assert_eq!(strikes(&limiter, "second", now), Some(2));
    assert_eq!(strikes(&limiter, "third", now), Some(0));
}

#[test]
fn strikes_are_kept_in_compact_memory_as_well() {
    let limiter = Limiter::builder()
        .memory(Memory::compact(1_000))
        .policy("p", Quota::per_second(1).burst(10))
        .penalty("p", penalty())
        .build()
        .unwrap();
    let now = fixed();
    for _ in 0..15 {
        check(&limiter, "k", now);
    }
    assert_eq!(strikes(&limiter, "k", now), Some(3));
    assert_eq!(strikes(&limiter, "k", now + 29 * SECOND), Some(1));
    assert_eq!(strikes(&limiter, "k", now + 31 * SECOND), Some(0));
}

/// Story: a client that waited for as long as it was told was refused again, and had one strike more for it.
#[test]
fn who_waits_as_told_is_let_pass() {
    for quota in [
        Quota::per_second(1).burst(10),
        Quota::sliding_window(10, SECOND * 10),
    ] {
        let limiter = Limiter::builder()
            .policy("p", quota)
            .penalty("p", penalty())
            .build()
            .unwrap();
        let mut now = fixed();
        while check(&limiter, "k", now).is_allowed() {}
        for _ in 0..5 {
            let refused = check(&limiter, "k", now);
            now += refused.retry_after().unwrap();
            assert!(check(&limiter, "k", now).is_allowed());
            while check(&limiter, "k", now).is_allowed() {}
        }
    }
}

/// Story: where compact memory was full of offenders, those who had never been refused paid as the least of these did.
#[test]
fn strikes_in_compact_memory_are_not_inherited_by_who_was_never_refused() {
    let limiter = Limiter::builder()
        .memory(Memory::compact(8))
        .policy("p", Quota::per_second(1).burst(10))
        .penalty("p", penalty())
        .build()
        .unwrap();
    let now = fixed();
    let p = limiter.policy("p").unwrap();
    for key in 0..50 {
        limiter.penalize(&limiter.charge(p, &key, 0), 3, now);
    }
    assert_eq!(strikes(&limiter, "new", now), Some(0));
    assert_eq!(check(&limiter, "new", now).standings()[0].remaining(), 9);
}

#[test]
fn what_is_said_of_no_policy_is_an_error() {
    let quota = Quota::per_second(1);
    let builder = || Limiter::builder().policy("p", quota);
    for (builder, message) in [
        (
            builder().penalty("q", penalty()),
            "policy \"q\": name must be that of a policy added before",
        ),
        (
            builder().penalty("p", Penalty::new(0, SECOND)),
            "policy \"p\": penalty.after must be 1 to 10000",
        ),
        (
            builder().policy("p:penalty", quota).penalty("p", penalty()),
            "policy \"p\": name must not be used twice",
        ),
    ] {
        assert_eq!(builder.build().unwrap_err().to_string(), message);
    }
    let name = |n: usize| format!("p{n}");
    let most = |count| (0..count).fold(Limiter::builder(), |b, n| b.policy(name(n), quota));
    let full = (0..128).fold(most(128), |b, n| b.penalty(&name(n), penalty()));
    assert!(full.clone().build().is_ok());
    assert!(full.policy("one_more", quota).build().is_err());
}

#[test]
fn those_refused_most_are_listed() {
    let limiter = Limiter::builder()
        .policy("p", Quota::per_hour(1))
        .policy_in("watched", Quota::per_hour(1), Mode::Shadow)
        .build()
        .unwrap();
    let now = fixed();
    let policies = ["p", "watched"].map(|name| limiter.policy(name).unwrap());
    for (key, times) in [("a", 4), ("b", 9), ("c", 1)] {
        for _ in 0..times {
            limiter.check(policies[0], key, 1, now);
        }
    }
    for _ in 0..7 {
        assert!(limiter.check(policies[1], "a", 1, now).is_allowed());
    }
    let offenders = limiter.top_offenders(10, limiter.nanos(now));
    let listed: Vec<_> = offenders
        .iter()
        .map(|o| (&*o.policy, o.refusals, o.at_least))
        .collect();
    assert_eq!(
        listed,
        [("p", 8.0, 8.0), ("watched", 6.0, 6.0), ("p", 3.0, 3.0)]
    );
    let id = |key| crate::offenders::KeyId::of(limiter.key(policies[0], key));
    assert_eq!((offenders[0].key, offenders[2].key), (id("b"), id("a")));
    assert_eq!(limiter.top_offenders(1, limiter.nanos(now)).len(), 1);
}

proptest! {
    /// A policy that watches says of each request what the same policy would do that enforces, penalties and tiers and
    /// sliding windows included.
    #[test]
    fn shadow_would_have_rejected_what_enforce_rejects(
        sliding: bool,
        penalized: bool,
        requests in prop::collection::vec((0..400u64, 0..3u8, 0..6u32, any::<bool>()), 1..150),
    ) {
        let (own, gold) = if sliding {
            (Quota::sliding_window(4, SECOND), Quota::sliding_window(9, SECOND))
        } else {
            (Quota::per_second(4), Quota::per_second(9))
        };
        let build = |mode| {
            let builder = Limiter::builder().policy_in("p", own, mode).tier("p", "gold", gold);
            let builder = if penalized { builder.penalty("p", penalty()) } else { builder };
            builder.build().unwrap()
        };
        let (enforcing, watching) = (build(Mode::Enforce), build(Mode::Shadow));
        // A whole number of windows away from the start of each, which is not the same.
        let mut elapsed = Duration::from_secs(3_600);
        for (step, key, cost, is_gold) in requests {
            elapsed += Duration::from_millis(step);
            let decide = |limiter: &Limiter| {
                let p = limiter.policy("p").unwrap();
                let tier = limiter.tier(p, "gold").filter(|_| is_gold);
                let charge = limiter.charge(p, &key, cost).tier(tier);
                let decision = limiter.check_all(&[charge], limiter.epoch + elapsed);
                let standing = decision.standings()[0];
                (decision.is_allowed(), standing.ruling(), standing.remaining(), standing.is_penalized())
            };
            let (allowed, ruling, remaining, penalized) = decide(&enforcing);
            prop_assert_eq!(decide(&watching), (true, ruling, remaining, penalized));
            prop_assert_eq!(allowed, ruling == Ruling::Allowed);
        }
        let (enforced, watched) = (enforcing.tallies()[0].counts(), watching.tallies()[0].counts());
        prop_assert_eq!((enforced.allowed, enforced.limited), (watched.allowed, watched.would_limit));
    }
}

/// Story: each number was within its bounds, and what was said to be wrong was the burst of the policy, which was not.
#[test]
fn strikes_that_take_too_long_to_be_forgotten_are_the_penalty_s_fault() {
    let build = |after, memory| {
        let penalty = Penalty::new(after, Penalty::MAX_FORGET).max_factor(4);
        Limiter::builder()
            .policy("login", Quota::per_minute(20))
            .penalty("login", penalty)
            .memory(memory)
            .build()
    };
    let rule = "penalty must forget all strikes within 3660 days, 366 where memory is compact";
    // One more than `after` counts.
    for (most, memory) in [(3_659, Memory::exact(1_000)), (365, Memory::compact(1_000))] {
        assert!(build(most, memory).is_ok(), "{most}");
        let error = build(most + 1, memory).unwrap_err();
        assert_eq!(error.to_string(), format!("policy \"login\": {rule}"));
        assert_eq!(error.field(), "penalty");
    }
}
