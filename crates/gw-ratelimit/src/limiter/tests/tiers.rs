use proptest::prelude::*;

use super::*;

/// Ten a second, and a hundred for gold.
fn tiered() -> Limiter {
    Limiter::builder()
        .policy("p", Quota::per_second(10).burst(10))
        .tier("p", "gold", Quota::per_second(100).burst(200))
        .build()
        .unwrap()
}

fn charge(limiter: &Limiter, tier: &str, cost: u32) -> Charge {
    let p = id(limiter, "p");
    limiter.charge(p, "k", cost).tier(limiter.tier(p, tier))
}

fn left(limiter: &Limiter, tier: &str, now: Instant) -> u32 {
    let standing = limiter.peek_at(&charge(limiter, tier, 0), now);
    standing.unwrap().remaining()
}

#[test]
fn each_tier_has_its_quota() {
    let limiter = tiered();
    let now = fixed();
    let decision = limiter.check_all(&[charge(&limiter, "gold", 150)], now);
    assert!(decision.is_allowed());
    let standing = decision.binding().unwrap();
    assert_eq!((standing.burst(), standing.remaining()), (200, 50));
    assert_eq!(standing.tier(), limiter.tier(id(&limiter, "p"), "gold"));
    assert_eq!(left(&limiter, "gold", now), 50);
    // Unknown tiers are none.
    let unknown = limiter.check_all(&[charge(&limiter, "silver", 11)], now);
    assert_eq!(unknown.binding().unwrap().ruling(), Ruling::TooCostly);
    assert_eq!(unknown.binding().unwrap().tier(), None);
}

#[test]
fn a_key_takes_its_debt_along() {
    let limiter = tiered();
    let now = fixed();
    // A second's worth at the own rate; as a time, that is a hundred cells of gold.
    assert!(
        limiter
            .check_all(&[charge(&limiter, "", 10)], now)
            .is_allowed()
    );
    assert_eq!(left(&limiter, "gold", now), 100);
    assert!(
        limiter
            .check_all(&[charge(&limiter, "gold", 100)], now)
            .is_allowed()
    );
    // Two seconds' worth now, and the own quota allows one.
    assert_eq!(left(&limiter, "", now), 0);
    let refused = limiter.check_all(&[charge(&limiter, "", 1)], now);
    assert_eq!(refused.retry_after(), Some(Duration::from_millis(1_100)));
    assert_eq!(left(&limiter, "", now + Duration::from_secs(2)), 10);
}

#[test]
fn quotas_of_tiers_change_while_requests_run() {
    let limiter = tiered();
    let (p, now) = (id(&limiter, "p"), fixed());
    let gold = limiter.tier(p, "gold");
    assert!(
        limiter
            .check_all(&[charge(&limiter, "gold", 200)], now)
            .is_allowed()
    );
    // The own quota has become smaller, but a key that owes two seconds may be gold: nothing is cut.
    limiter
        .change_quota(p, Quota::per_second(10).burst(5), now)
        .unwrap();
    assert_eq!(left(&limiter, "gold", now), 0);
    assert!(limiter.is_reduced(p, None) && !limiter.is_reduced(p, gold));
    // Now no quota of the policy allows more than a second.
    limiter
        .change_quota_in(p, gold, Quota::per_second(100).burst(100), now)
        .unwrap();
    let refused = limiter.check_all(&[charge(&limiter, "gold", 1)], now);
    assert_eq!(refused.retry_after(), Some(Duration::from_millis(10)));
    assert!(limiter.is_reduced(p, gold));
    let quotas = limiter.tier_quotas(p);
    assert_eq!(quotas[0].1, Quota::per_second(100).burst(100));
    // What would make debts mean something else is refused, and nothing has changed.
    let window = Quota::sliding_window(10, Duration::from_secs(1));
    for tier in [None, gold] {
        let error = limiter.change_quota_in(p, tier, window, now).unwrap_err();
        assert_eq!((error.policy(), error.field()), (Some("p"), "quota"));
    }
    assert_eq!(limiter.quota(p), Some(Quota::per_second(10).burst(5)));
}

#[test]
fn tiers_that_cannot_be_are_not_built() {
    let quota = Quota::per_second(1);
    let builder = || Limiter::builder().policy("p", quota);
    let window = |seconds| Quota::sliding_window(1, Duration::from_secs(seconds));
    let unlike = "quota must be a rate if the policy's other quotas are, or a sliding window of the same length";
    for (builder, message) in [
        (builder().tier("q", "gold", quota), "policy \"q\": name must be that of a policy added before".to_owned()),
        (builder().tier("p", "go ld", quota), "policy \"p\": tier \"go ld\": name must be 1 to 64 characters out of A-Z a-z 0-9 _ - . :".to_owned()),
        (builder().tier("p", "gold", quota).tier("p", "gold", quota), "policy \"p\": tier \"gold\": name must not be used twice".to_owned()),
        (builder().tier("p", "gold", quota.burst(0)), "policy \"p\": tier \"gold\": burst must be at least 1".to_owned()),
        (builder().tier("p", "gold", window(1)), format!("policy \"p\": tier \"gold\": {unlike}")),
        (Limiter::builder().policy("p", window(1)).tier("p", "gold", window(2)), format!("policy \"p\": tier \"gold\": {unlike}")),
    ] {
        assert_eq!(builder.build().unwrap_err().to_string(), message);
    }
    let with = |count| (0..count).fold(builder(), |b, n| b.tier("p", format!("t{n}"), quota));
    assert!(with(255).build().is_ok());
    assert!(with(256).build().is_err());
}

proptest! {
    /// A key that changes tier at any time, and whose tiers' quotas change too, as a bucket that runs out evenly: a request
    /// costs what its tier says, must fit under its tier's burst, and no change forgives anything.
    #[test]
    fn changing_tier_keeps_debts(
        quotas in prop::collection::vec((1..50u64, 1..9u32), 3),
        steps in prop::collection::vec((0..80u64, 0..3usize, 0..10u32), 1..120),
    ) {
        let quota = |n: usize| Quota::per(Duration::from_nanos(quotas[n].0), 1).burst(quotas[n].1);
        let limiter = Limiter::builder()
            .policy("p", quota(0))
            .tier("p", "1", quota(1))
            .tier("p", "2", quota(2))
            .build()
            .unwrap();
        let (mut now, mut level) = (fixed(), 0u64);
        for (step, tier, cost) in steps {
            now += Duration::from_nanos(step);
            level = level.saturating_sub(step);
            let (interval, burst) = quotas[tier];
            let cells = u64::from(cost) * interval;
            let fits = cost == 0 || cost <= burst && level + cells <= u64::from(burst) * interval;
            let tier = tier.to_string();
            let decision = limiter.check_all(&[charge(&limiter, &tier, cost)], now);
            prop_assert_eq!(decision.is_allowed(), fits);
            if fits {
                level += cells;
            }
            let standing = limiter.peek(id(&limiter, "p"), "k", now).unwrap();
            prop_assert_eq!(standing.reset_after(), Duration::from_nanos(level));
        }
    }
}
