mod all_or_nothing;
mod building;
mod changes;
mod model;
mod threads;
mod tiers;

use std::time::Duration;

use super::*;
use crate::decision::Ruling;

fn limiter(policies: &[(&str, Quota)]) -> Limiter {
    let builder = policies
        .iter()
        .fold(Limiter::builder(), |builder, (name, quota)| {
            builder.policy(*name, *quota)
        });
    builder.build().unwrap()
}

fn id(limiter: &Limiter, name: &str) -> PolicyId {
    limiter.policy(name).unwrap()
}

/// A time ahead of the clock: what is read from the real one while a test runs is earlier and changes nothing.
fn fixed() -> Instant {
    Instant::now() + Duration::from_secs(3_600)
}

fn remaining(limiter: &Limiter, name: &str, key: &str, now: Instant) -> u32 {
    limiter
        .peek(id(limiter, name), key, now)
        .unwrap()
        .remaining()
}

/// Story: whoever was refused once was listed until the process ended.
#[test]
fn whoever_is_not_refused_any_more_is_no_offender() {
    let limiter = limiter(&[("p", Quota::per_second(1))]);
    let at = |minutes: u64| limiter.epoch + Duration::from_secs(60 * minutes);
    for _ in 0..2 {
        limiter.check(id(&limiter, "p"), "k", 1, at(1));
    }
    let listed = |minutes| {
        let offenders = limiter.top_offenders(9, limiter.nanos(at(minutes)));
        offenders.first().map(|offender| offender.refusals)
    };
    assert_eq!([1, 6, 11].map(listed), [Some(1.0), Some(0.5), None]);
}

#[test]
fn a_clock_that_stands_or_steps_back_lets_nobody_in() {
    let limiter = limiter(&[("p", Quota::per_second(2))]);
    let (p, now) = (id(&limiter, "p"), fixed());
    let check = |now| limiter.check(p, "k", 1, now).is_allowed();
    assert!(check(now) && check(now) && !check(now) && !check(now));
    assert!(!check(now - Duration::from_secs(10)));
    // Before the limiter was built: as if at its start.
    assert!(!check(now - Duration::from_secs(3_700)));
    assert!(check(now + Duration::from_millis(500)));
    assert!(!check(now + Duration::from_millis(500)));
}

#[test]
fn sliding_windows_are_told_as_such() {
    let limiter = limiter(&[("p", Quota::sliding_window(100, Duration::from_secs(60)))]);
    let (p, now) = (id(&limiter, "p"), limiter.epoch + Duration::from_secs(590));
    let decision = limiter.check(p, "k", 100, now);
    let standing = decision.binding().unwrap();
    assert_eq!((standing.burst(), standing.remaining()), (100, 0));
    assert_eq!(standing.burst_window(), Duration::from_secs(60));
    // The next window begins in ten seconds, and brings the first cell 0.6 seconds later.
    assert_eq!(standing.window(), Duration::from_millis(10_600));
    assert_eq!(standing.reset_after(), Duration::from_secs(70));
    let refused = limiter.check(p, "k", 50, now);
    assert_eq!(refused.retry_after(), Some(Duration::from_secs(40)));
    let never = limiter.check(p, "k", 101, now);
    assert_eq!(never.binding().unwrap().ruling(), Ruling::TooCostly);
}

#[test]
fn one_who_lacks_a_key_is_nobodys_namesake() {
    let limiter = limiter(&[("p", Quota::per_second(1)), ("q", Quota::per_second(1))]);
    let (p, q) = (id(&limiter, "p"), id(&limiter, "q"));
    assert_ne!(limiter.keyless(p), limiter.keyless(q));
    // The numbers that make a policy's keyless key, as keys.
    assert!((0..=512u64).all(|n| limiter.key(p, &n) != limiter.keyless(p)));
    assert!((0..=255u8).all(|n| limiter.key(p, &n) != limiter.keyless(p)));
    assert_ne!(limiter.key(p, "k"), limiter.key(q, "k"));
}

#[test]
fn shadow_counts_and_off_does_nothing() {
    let limiter = Limiter::builder()
        .policy_in("shadow", Quota::per_second(1), Mode::Shadow)
        .policy_in("off", Quota::per_second(1), Mode::Off)
        .build()
        .unwrap();
    let now = fixed();
    let charges = ["shadow", "off"].map(|name| limiter.charge(id(&limiter, name), "k", 1));
    for _ in 0..5 {
        let decision = limiter.check_all(&charges, now);
        assert!(decision.is_allowed());
        assert_eq!(decision.binding(), None);
        assert_eq!(decision.standings().len(), 1);
    }
    let counts = limiter.tallies()[0].counts();
    assert_eq!(
        (counts.allowed, counts.would_limit, counts.limited),
        (1, 4, 0)
    );
    assert_eq!(
        limiter.tallies()[1].counts(),
        crate::tally::Counts::default()
    );
    assert_eq!(remaining(&limiter, "off", "k", now), 1);
    limiter.change_mode(id(&limiter, "shadow"), Mode::Enforce);
    assert!(!limiter.check_all(&charges, now).is_allowed());
}

#[test]
fn costs() {
    let limiter = limiter(&[("p", Quota::per_second(10))]);
    let (p, now) = (id(&limiter, "p"), fixed());
    let never = limiter.check(p, "k", 11, now);
    assert!(!never.is_allowed());
    assert_eq!(never.retry_after(), None);
    assert_eq!(never.binding().unwrap().ruling(), Ruling::TooCostly);
    assert!(limiter.check(p, "k", 7, now).is_allowed());
    assert_eq!(
        limiter.check(p, "k", 5, now).retry_after(),
        Some(Duration::from_millis(200))
    );
    assert!(limiter.check(p, "k", 3, now).is_allowed());
    // Free of charge passes even so, and is no reason to hold the key.
    assert!(limiter.check(p, "k", 0, now).is_allowed());
    assert!(limiter.check(p, "stranger", 0, now).is_allowed());
    assert_eq!(limiter.tallies()[0].counts().keys, 1);
}

#[test]
fn the_binding_policy() {
    let limiter = limiter(&[
        ("hours", Quota::per_hour(60).burst(2)),
        ("seconds", Quota::per_second(4)),
        ("small", Quota::per_second(10).burst(1)),
    ]);
    let now = fixed();
    let policies = ["hours", "seconds", "small"].map(|name| id(&limiter, name));
    let [hours, seconds, small] = policies;
    let check = |policies: &[PolicyId], cost| {
        let charges: Vec<Charge> = policies
            .iter()
            .map(|p| limiter.charge(*p, "k", cost))
            .collect();
        limiter.check_all(&charges, now)
    };
    // 1 of 2 is less than 3 of 4.
    assert_eq!(
        check(&[hours, seconds], 1).binding().unwrap().policy(),
        hours
    );
    assert!(check(&[seconds], 3).is_allowed() && check(&[hours], 1).is_allowed());
    // Both refuse: the longer wait.
    assert_eq!(
        check(&[seconds, hours], 1).binding().unwrap().policy(),
        hours
    );
    // Never is longer than any wait.
    assert_eq!(
        check(&[seconds, hours, small], 2)
            .binding()
            .unwrap()
            .policy(),
        small
    );
    assert!(check(&[], 1).is_allowed());
}
