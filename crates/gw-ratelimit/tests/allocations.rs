//! What the way of a request allocates.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::convert::Infallible;
use std::future::{Future as _, Ready, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use allocation_counter::measure;
use gw_core::context::ClientAddr;
use gw_ratelimit::key::ClientIp;
use gw_ratelimit::{
    Adjust, Headers, Limiter, Memory, Mode, Penalty, Policy, Quota, RateLimitBuilder,
    RateLimitLayer, RespondWith,
};
use http::{Request, Response};
use tokio::time::Instant;
use tower::{Layer as _, Service, service_fn};

#[test]
fn deciding_does_not_allocate() {
    let names = ["a", "b", "c", "d"];
    let quota = Quota::per_hour(1).burst(2);
    let builder = names
        .iter()
        .fold(Limiter::builder(), |b, name| b.policy(*name, quota));
    let limiter = builder.build().unwrap();
    let policies = names.map(|name| limiter.policy(name).unwrap());
    let charges = || policies.map(|policy| limiter.charge(policy, "key", 1));
    let check = || limiter.check_all(&charges(), Instant::now()).is_allowed();
    for allowed in [true, false] {
        // The first time makes room for the key, and registers metrics.
        assert_eq!(check(), allowed);
        let used = measure(|| assert_eq!(check(), allowed));
        assert_eq!(used.count_total, 0, "allowed: {allowed}");
    }
}

/// Tiers, and refusals that are strikes.
#[test]
fn deciding_with_tiers_and_penalties_does_not_allocate() {
    let quota = Quota::per_hour(1).burst(2);
    let builder = ["a", "b"].iter().fold(Limiter::builder(), |b, name| {
        let penalty = Penalty::new(1, Duration::from_secs(60));
        let b = b.policy(*name, quota).penalty(name, penalty);
        b.tier(name, "gold", Quota::per_hour(1).burst(6))
    });
    let limiter = builder.build().unwrap();
    let policies = ["a", "b"].map(|name| limiter.policy(name).unwrap());
    let charges = || {
        policies.map(|policy| {
            let gold = limiter.tier(policy, "gold");
            limiter.charge(policy, "key", 3).tier(gold)
        })
    };
    let check = || limiter.check_all(&charges(), Instant::now()).is_allowed();
    for allowed in [true, false, false] {
        // The first time makes room for the key, for its strikes, or for those who are refused, and registers metrics.
        assert_eq!(check(), allowed);
        let used = measure(|| assert_eq!(check(), allowed));
        assert_eq!(used.count_total, 0, "allowed: {allowed}");
    }
}

#[test]
fn charging_late_does_not_allocate() {
    let limiter = Limiter::builder().policy("p", Quota::per_hour(1).burst(9));
    let limiter = limiter.build().unwrap();
    let charge = limiter.charge(limiter.policy("p").unwrap(), "key", 1);
    let run = || {
        limiter.charge_late(charge, Instant::now()).unwrap();
        limiter.refund(charge, Instant::now()).unwrap();
    };
    run();
    assert_eq!(measure(run).count_total, 0);
}

/// Whatever comes: new keys with room and without, refusals, several policies, charges taken back, and what an operator
/// reads and resets.
#[test]
fn compact_memory_never_allocates_once_it_is_built() {
    let quota = Quota::per_hour(1).burst(2);
    let limiter = Limiter::builder()
        .policy("a", quota)
        .policy("b", quota)
        .policy_in("c", quota, Mode::Shadow)
        .memory(Memory::compact(1_000))
        .build()
        .unwrap();
    let limiter = std::sync::Arc::new(limiter);
    let handle = limiter.handle();
    let [a, b, c] = ["a", "b", "c"].map(|name| limiter.policy(name).unwrap());
    let now = Instant::now();
    // The thread gets its number.
    assert!(limiter.check(a, "first", 1, now).is_allowed());
    let (mut allowed, mut refused) = (0, 0);
    let used = measure(|| {
        for key in 0..20_000u32 {
            let charges = [a, b, c].map(|policy| limiter.charge(policy, &key, 1));
            match limiter.check_all(&charges, now).is_allowed() {
                true => allowed += 1,
                false => refused += 1,
            }
            // Both look possible and one is, so the first is taken back.
            let all = limiter.charge(b, &key, 2);
            limiter.check_all(&[limiter.charge(a, &key, 1), all, all], now);
            if key % 16 == 0 {
                handle.peek("a", &key);
                handle.reset("a", &key);
            }
        }
    });
    assert!(allowed > 1_000 && refused > 1_000, "{allowed}, {refused}");
    assert_eq!(used.count_total, 0);
}

/// At its bound, exact memory does not grow any more either.
#[test]
fn exact_memory_does_not_grow_beyond_its_bound() {
    let limiter = Limiter::builder()
        .policy("a", Quota::per_hour(1).burst(2))
        .memory(Memory::exact(1_000))
        .build()
        .unwrap();
    let a = limiter.policy("a").unwrap();
    let now = Instant::now();
    let flood = |keys: std::ops::Range<u32>| {
        for key in keys {
            limiter.check(a, &key, 1, now);
        }
    };
    let filling = measure(|| flood(0..20_000));
    // At most 43 bytes a key, and as much again while a shard's table moves into one twice as large.
    assert!(filling.bytes_max < 1_000 * 43 * 2, "{}", filling.bytes_max);
    assert_eq!(measure(|| flood(20_000..40_000)).count_total, 0);
}

type Bare = fn(Request<()>) -> Ready<Result<Response<()>, Infallible>>;

/// Allocations of one allowed request through a layer with two policies.
fn allowed_request(headers: Headers) -> u64 {
    let builder = RateLimitLayer::builder()
        .policy(Policy::new("per_ip", Quota::per_second(1_000)).key(ClientIp::new()));
    through(
        builder.headers(headers),
        Policy::new("total", Quota::per_second(1_000)),
    )
}

fn through<Ks>(builder: RateLimitBuilder<Ks>, policy: Policy) -> u64 {
    let layer = builder.policy(policy).build().unwrap();
    let bare: Bare = |_| ready(Ok(Response::new(())));
    let mut service = layer
        .on_reject(RespondWith::new(|_| ()))
        .layer(service_fn(bare));
    let request = || {
        let mut request = Request::new(());
        let client = ClientAddr::new([192, 0, 2, 1].into());
        request.extensions_mut().insert(client);
        request
    };
    let (first, second) = (request(), request());
    let mut run = |request| {
        let mut future = pin!(service.call(request));
        let Poll::Ready(Ok(response)) = future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        else {
            unreachable!("the inner service answers at once");
        };
        assert_eq!(response.status(), 200);
        response
    };
    let _known_now = run(first);
    measure(|| drop(run(second))).count_total
}

#[test]
fn the_way_of_an_allowed_request() {
    assert_eq!(allowed_request(Headers::None), 0);
    // The value of `RateLimit` (that of `RateLimit-Policy` is shared), and the map that the fields are put into, which
    // is two. This number is here to be noticed when it changes.
    assert_eq!(allowed_request(Headers::Draft11), 3);
}

#[test]
fn the_way_of_a_request_that_may_be_charged_later() {
    let total = || Policy::new("total", Quota::per_second(1_000));
    let builder = || RateLimitLayer::builder().headers(Headers::None);
    // Tiers, penalties and the like cost nothing.
    let plain = total()
        .tier("gold", Quota::per_second(9))
        .tier_of(|_, tiers| tiers.named("gold"))
        .penalty(Penalty::new(1, Duration::from_secs(60)));
    assert_eq!(through(builder(), plain), 0);
    // What waits for the answer, and what it is to charge.
    let settling = total().charge_response(|_| Adjust::Nothing);
    assert_eq!(through(builder(), settling), 2);
    // The same, and a box for it in the request's extensions, which have one already.
    assert_eq!(through(builder(), total().late_charges()), 3);
}
