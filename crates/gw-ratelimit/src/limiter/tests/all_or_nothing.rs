//! All policies are charged or none.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::decision::Ruling;

#[test]
fn a_refusal_costs_nothing_elsewhere() {
    let limiter = limiter(&[
        ("wide", Quota::per_second(10)),
        ("narrow", Quota::per_minute(1)),
    ]);
    let (wide, narrow) = (id(&limiter, "wide"), id(&limiter, "narrow"));
    let now = fixed();
    let charges = [limiter.charge(wide, "k", 1), limiter.charge(narrow, "k", 1)];
    assert!(limiter.check_all(&charges, now).is_allowed());
    for _ in 0..50 {
        let decision = limiter.check_all(&charges, now);
        assert!(!decision.is_allowed());
        assert_eq!(decision.binding().unwrap().policy(), narrow);
        assert_eq!(decision.retry_after(), Some(Duration::from_secs(60)));
        // What it says of the other policy is what that client has there.
        assert_eq!(decision.standings()[0].remaining(), 9);
    }
    assert_eq!(remaining(&limiter, "wide", "k", now), 9);
}

/// Both charges look possible and only one is: so the second is refused when it is made, as in a race, and the first
/// is taken back.
#[test]
fn what_was_charged_before_a_race_was_lost_is_taken_back() {
    let limiter = limiter(&[("a", Quota::per_second(5)), ("b", Quota::per_second(1))]);
    let (a, b) = (id(&limiter, "a"), id(&limiter, "b"));
    let now = fixed();
    let twice = limiter.charge(b, "k", 1);
    let decision = limiter.check_all(&[limiter.charge(a, "k", 2), twice, twice], now);
    assert!(!decision.is_allowed());
    assert_eq!(decision.binding().unwrap().policy(), b);
    assert_eq!(remaining(&limiter, "a", "k", now), 5);
    assert_eq!(remaining(&limiter, "b", "k", now), 1);
    let counts = |policy: PolicyId| limiter.tallies()[policy.index()].counts();
    assert_eq!((counts(a).allowed, counts(a).limited), (0, 0));
    assert_eq!(counts(b).allowed, 0);
}

#[test]
fn a_shadow_policy_is_not_charged_for_what_another_refuses() {
    let limiter = Limiter::builder()
        .policy_in("shadow", Quota::per_second(10), Mode::Shadow)
        .policy("real", Quota::per_second(1))
        .build()
        .unwrap();
    let now = fixed();
    let charges = ["shadow", "real"].map(|name| limiter.charge(id(&limiter, name), "k", 1));
    let passed = (0..5)
        .filter(|_| limiter.check_all(&charges, now).is_allowed())
        .count();
    assert_eq!(passed, 1);
    assert_eq!(remaining(&limiter, "shadow", "k", now), 9);
}

/// Story: two accounts of one policy were charged with one request, and the one that had nothing left made the other a
/// repeat offender.
#[test]
fn of_two_keys_of_one_policy_only_that_refuses_which_has_nothing_left() {
    let limiter = Limiter::builder()
        .policy("p", Quota::per_hour(1).burst(1))
        .penalty(
            "p",
            crate::penalty::Penalty::new(1, Duration::from_secs(60)),
        )
        .build()
        .unwrap();
    let (p, now) = (id(&limiter, "p"), fixed());
    let charges = ["innocent", "twice", "twice"].map(|key| limiter.charge(p, key, 1));
    let decision = limiter.check_all(&charges, now);
    let rulings: Vec<_> = decision.standings().iter().map(|s| s.ruling()).collect();
    assert_eq!(rulings, [Ruling::Allowed, Ruling::Allowed, Ruling::Limited]);
    assert_eq!(limiter.strikes(&charges[0], now), Some(0));
    assert_eq!(limiter.tallies()[0].counts().limited, 1);
    assert_eq!(remaining(&limiter, "p", "innocent", now), 1);
}

/// An exact bucket: the quotas below need no rounding.
struct Bucket {
    cost: u64,
    burst: u64,
    level: u64,
}

proptest! {
    /// Against a model that looks at all buckets and then fills all or none: the same decisions, step by step.
    #[test]
    fn all_or_nothing(
        quotas in prop::collection::vec((1..50u64, 1..6u32), 1..5),
        requests in prop::collection::vec((0..60u64, prop::collection::vec((any::<bool>(), 0..3u8, 0..8u32), 5)), 1..100),
    ) {
        let mut builder = Limiter::builder();
        for (index, (interval, burst)) in quotas.iter().enumerate() {
            let quota = Quota::per(Duration::from_nanos(*interval), 1).burst(*burst);
            builder = builder.policy(format!("p{index}"), quota);
        }
        let limiter = builder.build().unwrap();
        let mut model: Vec<[Bucket; 3]> = quotas
            .iter()
            .map(|(cost, burst)| [(); 3].map(|()| Bucket { cost: *cost, burst: (*burst).into(), level: 0 }))
            .collect();
        let mut now = fixed();
        for (step, wanted) in requests {
            now += Duration::from_nanos(step);
            for bucket in model.iter_mut().flatten() {
                bucket.level = bucket.level.saturating_sub(step);
            }
            let applied: Vec<(usize, u8, u32)> = wanted
                .iter()
                .enumerate()
                .filter(|(index, (applies, ..))| *applies && *index < quotas.len())
                .map(|(index, (_, key, cost))| (index, *key, *cost))
                .collect();
            let charges: Vec<Charge> = applied
                .iter()
                .map(|(index, key, cost)| limiter.charge(PolicyId(*index as u8), key, *cost))
                .collect();
            let fits = applied.iter().all(|(index, key, cost)| {
                let bucket = &model[*index][usize::from(*key)];
                *cost == 0 || bucket.level + u64::from(*cost) * bucket.cost <= bucket.burst * bucket.cost
            });
            let decision = limiter.check_all(&charges, now);
            prop_assert_eq!(decision.is_allowed(), fits);
            prop_assert_eq!(decision.standings().len(), charges.len());
            if fits {
                for (index, key, cost) in applied {
                    let bucket = &mut model[index][usize::from(key)];
                    bucket.level += u64::from(cost) * bucket.cost;
                }
            }
            for (index, buckets) in model.iter().enumerate() {
                for (key, bucket) in buckets.iter().enumerate() {
                    let standing = limiter.peek(PolicyId(index as u8), &(key as u8), now).unwrap();
                    prop_assert_eq!(standing.reset_after(), Duration::from_nanos(bucket.level));
                }
            }
        }
    }
}
