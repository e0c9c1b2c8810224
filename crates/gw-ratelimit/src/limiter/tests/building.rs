//! What is built, and what is not.

use std::time::Duration;

use super::*;

#[test]
fn what_compact_memory_cannot_count_is_not_built() {
    let build = |quota| {
        let builder = Limiter::builder().memory(Memory::compact(100));
        builder.policy("a", quota).build()
    };
    let day = Duration::from_secs(24 * 60 * 60);
    for (quota, message) in [
        (
            Quota::sliding_window(10, day),
            "policy \"a\": quota must be a rate where memory is compact, and not a sliding window",
        ),
        (
            Quota::per_second(10_001),
            "policy \"a\": rate must be at most 10000 a second where memory is compact",
        ),
        (
            Quota::per(day, 1).burst(367),
            "policy \"a\": burst must be won back at the rate within 366 days where memory is compact",
        ),
    ] {
        assert_eq!(build(quota).unwrap_err().to_string(), message);
    }
    let limiter = build(Quota::per_second(10_000)).unwrap();
    let a = id(&limiter, "a");
    let window = Quota::sliding_window(10, day);
    let error = limiter.change_quota(a, window, fixed()).unwrap_err();
    assert_eq!(error.field(), "quota");
    assert_eq!(remaining(&limiter, "a", "k", fixed()), 10_000);
}

#[test]
fn limits_that_cannot_be_enforced_are_not_built() {
    let quota = Quota::per_second(1);
    let long = "n".repeat(65);
    for (builder, message) in [
        (
            Limiter::builder()
                .policy("a", quota)
                .memory(Memory::exact(0)),
            "memory must be for 1 to 4294967295 keys",
        ),
        (
            Limiter::builder().memory(Memory::compact(0)),
            "memory must be for 1 to 4294967295 keys",
        ),
        (
            Limiter::builder().policy("a", quota).policy("a", quota),
            "policy \"a\": name must not be used twice",
        ),
        (
            Limiter::builder().policy("a", quota.burst(0)),
            "policy \"a\": burst must be at least 1",
        ),
    ] {
        assert_eq!(builder.build().unwrap_err().to_string(), message);
    }
    for name in ["", "a b", "a\"b", "a\\b", "a,b", "ü", "a\n", long.as_str()] {
        let error = Limiter::builder().policy(name, quota).build().unwrap_err();
        assert_eq!(error.field(), "name", "{name:?}");
    }
    let most = (0..256).fold(Limiter::builder(), |b, n| b.policy(format!("p{n}"), quota));
    assert!(most.clone().build().is_ok());
    let error = most.policy("one_more", quota).build().unwrap_err();
    assert_eq!(
        error.to_string(),
        "policies must be at most 256, those with a penalty counted twice"
    );
    assert!(Limiter::builder().build().is_ok());
}

/// Story: a line of the log that showed a layer held all clients' states.
#[test]
fn what_is_shown_of_a_limiter_does_not_grow_with_its_keys() {
    for memory in [Memory::exact(1_000), Memory::compact(1_000)] {
        let builder = Limiter::builder().policy("p", Quota::per_hour(1));
        let limiter = builder.memory(memory).build().unwrap();
        for key in 0..500 {
            limiter.check(id(&limiter, "p"), &key, 1, fixed());
        }
        let shown = format!("{limiter:?}");
        assert!(
            shown.len() < 2_000 && shown.contains("\"p\""),
            "{}",
            shown.len()
        );
    }
}
