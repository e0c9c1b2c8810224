//! What is charged and given back after the decision.

use std::convert::Infallible;
use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use gw_ratelimit::key::Header;
use gw_ratelimit::redis::{Leases, OnFailure, RedisStore, SharedLimiter, SharedRateLimitLayer};
use gw_ratelimit::{
    Adjust, ChargeBodyLayer, Charged, Limiter, Mode, Policy, Quota, RateLimitLayer,
};
use http::{HeaderName, Request, Response};
use http_body_util::{BodyExt as _, Full};
use tower::util::BoxCloneService;
use tower::{Layer, Service, ServiceExt as _};

use crate::failures::recovered;
use crate::runtimes::in_what_blocks;
use crate::server::{Server, UNANSWERED, stand_still, unanswered, until};

pub(crate) type Inner = BoxCloneService<Request<()>, Response<Full<Bytes>>, Infallible>;
pub(crate) type Limits = SharedRateLimitLayer<(Header, ())>;

const WHO: HeaderName = HeaderName::from_static("who");
/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(3600);
/// Of which hardly any begins while a test runs.
const YEAR: Duration = Duration::from_secs(366 * 24 * 3600);

pub(crate) fn per_client(burst: u32) -> Policy<Header> {
    Policy::new("p", Quota::per_hour(1).burst(burst)).key(Header::new(WHO))
}

pub(crate) fn build(policy: Policy<Header>, store: &RedisStore) -> Limits {
    let limits = RateLimitLayer::builder().policy(policy);
    limits.build_shared(store).unwrap()
}

fn request(who: &'static str) -> Request<()> {
    Request::builder().header(WHO, who).body(()).unwrap()
}

/// Sends a request, and hands out what stands in it.
pub(crate) async fn admitted<L>(limits: &L, who: &'static str) -> Charged
where
    L: Layer<Inner>,
    L::Service: Service<Request<()>, Response = Response<Full<Bytes>>, Error = Infallible>,
{
    let (found, mut finding) = tokio::sync::mpsc::channel(1);
    let inner: Inner = BoxCloneService::new(tower::service_fn(move |request: Request<()>| {
        let charged = Charged::of(request.extensions()).cloned();
        found.try_send(charged.unwrap()).unwrap();
        std::future::ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())))
    }));
    let answer = limits.layer(inner).oneshot(request(who)).await.unwrap();
    assert_eq!(answer.status(), 200);
    finding.recv().await.unwrap()
}

/// What is left for a client in Redis.
pub(crate) async fn left(limiter: &SharedLimiter, who: &'static str) -> u32 {
    let policy = limiter.policy("p").unwrap();
    let key = http::HeaderValue::from_static(who);
    let standing = limiter.peek(policy, None, &key).await;
    standing.unwrap().remaining()
}

/// Waits until Redis was told of all.
pub(crate) async fn told(limiter: &SharedLimiter) {
    let told = async || limiter.store().late_waiting == 0;
    until("Redis to be told", told).await;
}

/// Story: Redis was told by a task in the runtime of whoever was charged first. Once that was blocked, nobody's charges came to it.
#[tokio::test]
async fn redis_is_told_though_the_thread_that_was_charged_first_is_blocked() {
    let server = Server::start();
    let limits = build(per_client(100).late_charges(), &server.store("test"));
    assert!(limits.limiter().connect().await);
    let lane = limits.clone();
    let charge = async move || admitted(&lane, "ann").await.charge("p", 5);
    let (charged, _blocked) = in_what_blocks(charge).await;
    assert_eq!(charged, Some(5));
    told(limits.limiter()).await;
    assert_eq!(left(limits.limiter(), "ann").await, 94);
}

/// Random charges and refunds of some requests of one client, one after the other, here and in memory.
#[tokio::test]
async fn what_is_charged_and_given_back_is_as_in_memory() {
    let server = Server::start();
    let mut random = fastrand::Rng::with_seed(7);
    let (mut behind, mut ahead, mut steps) = (0, 0, 0);
    for round in 0..40 {
        let quota = match round % 2 {
            0 => Quota::per_hour(1).burst(30),
            _ => Quota::sliding_window(30, YEAR),
        };
        let policy = || {
            let policy = Policy::new("p", quota).key(Header::new(WHO));
            policy.cost(|_| 3).late_charges()
        };
        let [one, other] =
            [(); 2].map(|()| build(policy(), &server.store(&format!("test{round}"))));
        let local = RateLimitLayer::builder().policy(policy()).build().unwrap();
        let ann = http::HeaderValue::from_static("ann");
        let mut all = Vec::new();
        for step in 0..25 {
            if all.len() < 2 || random.u8(..6) == 0 && all.len() < 8 {
                let key = local.handle().peek("p", &ann).unwrap();
                // In Redis there may be less: what is not known for certain is not given back.
                if key.remaining() >= 3 && left(one.limiter(), "ann").await >= 3 {
                    let layer = if random.bool() { &one } else { &other };
                    all.push((
                        layer,
                        admitted(layer, "ann").await,
                        admitted(&local, "ann").await,
                    ));
                }
            } else {
                let (layer, shared, here) = &all[random.usize(..all.len())];
                let cells = random.u32(..9);
                let outcome = match random.bool() {
                    true => (shared.charge("p", cells), here.charge("p", cells)),
                    false => (shared.refund("p", cells), here.refund("p", cells)),
                };
                told(layer.limiter()).await;
                // Whether there is room is found out by Redis alone.
                assert!(outcome.0 >= outcome.1, "{round} {step} {outcome:?}");
            }
            let least = local.handle().peek("p", &ann).unwrap().remaining();
            let changed = [&one, &other].map(|layer| {
                let snapshot = &layer.handle().snapshot()[0];
                snapshot.charged_late as i64 - snapshot.refunded as i64
            });
            let owed = 3 * all.len() as i64 + changed.iter().sum::<i64>();
            let left = left(one.limiter(), "ann").await;
            // More is never given back than was paid, nor from a window less.
            let most = (30 - owed).max(0);
            let expected = if round % 2 == 0 {
                0..=most
            } else {
                most..=most
            };
            assert!(
                expected.contains(&left.into()),
                "{round} {step}: {left}, {owed} owed"
            );
            behind += u32::from(left < least);
            ahead += u32::from(left > least);
            steps += 1;
        }
        assert_eq!(one.limiter().store().late_lost, 0);
    }
    // What is not known for certain is not given back. Here less is known of charges long ago, and there of refunds.
    assert!(
        behind < steps / 10 && ahead < steps / 4,
        "{behind} and {ahead} of {steps}"
    );
}

/// Story: of two requests of one client the later one was answered first. What it got back was taken for debt that the
/// earlier one had stood on, so that one got hardly anything.
#[tokio::test]
async fn refunds_come_back_whole_in_any_order() {
    let server = Server::start();
    let limits = build(
        per_client(100).cost(|_| 4).late_charges(),
        &server.store("test"),
    );
    let first = admitted(&limits, "ann").await;
    let second = admitted(&limits, "ann").await;
    for charged in [second, first] {
        assert_eq!(charged.refund("p", 4), Some(4));
        told(limits.limiter()).await;
    }
    assert_eq!(left(limits.limiter(), "ann").await, 100);
}

#[tokio::test]
async fn requests_out_of_a_lease_are_charged_and_get_back_what_they_paid() {
    let (server, still) = (Server::start(), stand_still());
    let store = server.store("test").leases(Leases::up_to(8));
    let limits = build(per_client(400).cost(|_| 1).late_charges(), &store);
    let limiter = limits.limiter();
    let mut all = Vec::new();
    for _ in 0..60 {
        all.push(admitted(&limits, "ann").await);
    }
    assert!(limiter.store().by_lease > 20, "{:?}", limiter.store());
    assert_eq!(all[9].charge("p", 40), Some(40));
    still.go_on();
    limiter.close(LONG).await;
    let before = left(limiter, "ann").await;
    // What was leased and could not be given back has to run off.
    assert!((300 - 16..=300).contains(&before), "{before}");
    // The last ones first: those before them did not stand on what is given back.
    for charged in all.iter().rev() {
        let paid = if std::ptr::eq(charged, &all[9]) {
            41
        } else {
            1
        };
        assert_eq!(charged.refund("p", u32::MAX), Some(paid));
        told(limiter).await;
    }
    let after = left(limiter, "ann").await;
    assert!(after > before + 50 && after <= 400, "{before} {after}");
    assert_eq!(limits.handle().snapshot()[0].refunded, 100);
}

#[tokio::test]
async fn two_bursts_and_no_more() {
    let server = Server::start();
    for (name, quota) in [
        ("rate", Quota::per_hour(1).burst(10)),
        ("window", Quota::sliding_window(10, YEAR)),
    ] {
        let limits = Limiter::builder().policy("p", quota);
        let limiter = limits.build_shared(&server.store(name)).unwrap();
        let policy = limiter.policy("p").unwrap();
        let charge = |cells| limiter.charge(policy, "k", cells);
        let standing = limiter.charge_late(charge(15)).await.unwrap();
        assert_eq!(standing.remaining(), 0);
        limiter.charge_late(charge(1_000)).await.unwrap();
        let snapshot = limiter.handle().snapshot();
        assert_eq!(snapshot[0].charged_late, 20, "{name}");
        let standing = limiter.refund(charge(12)).await.unwrap();
        assert_eq!(standing.remaining(), 2, "{name}");
        assert!(limiter.check(policy, "k", 2).await.is_allowed());
        assert!(!limiter.check(policy, "k", 1).await.is_allowed());
        limiter.refund(charge(1_000)).await.unwrap();
        assert_eq!(limiter.handle().snapshot()[0].refunded, 22, "{name}");
        assert!(limiter.check(policy, "k", 10).await.is_allowed());
        // Of a policy that is off, and of another limiter.
        limiter.handle().set_mode("p", Mode::Off).unwrap();
        assert!(limiter.charge_late(charge(1)).await.is_none());
        assert!(limiter.refund(charge(1)).await.is_none());
    }
}

#[tokio::test]
async fn what_was_freed_is_not_given_back() {
    let server = Server::start();
    for (name, quota) in [
        ("rate", Quota::per_hour(1).burst(10)),
        ("window", Quota::sliding_window(10, YEAR)),
    ] {
        let policy = Policy::new("p", quota).key(Header::new(WHO)).late_charges();
        let limits = build(policy.cost(|_| 4), &server.store(name));
        let limiter = limits.limiter();
        let charged = admitted(&limits, "ann").await;
        let ann = http::HeaderValue::from_static("ann");
        assert!(limiter.reset(limiter.policy("p").unwrap(), &ann).await);
        admitted(&limits, "ann").await;
        assert_eq!(charged.refund("p", 4), Some(4));
        told(limiter).await;
        // The other request's.
        assert_eq!(left(limiter, "ann").await, 6, "{name}");
    }
}

#[tokio::test]
async fn the_bytes_of_answers_are_charged() {
    let server = Server::start();
    let limits = build(
        per_client(100).cost(|_| 1).late_charges(),
        &server.store("test"),
    );
    let inner = tower::service_fn(|_: Request<()>| {
        std::future::ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(
            vec![7; 10_500],
        ))))
    });
    let per_cell = NonZeroU32::new(1_000).unwrap();
    let metered = ChargeBodyLayer::new("p", per_cell).layer(inner);
    let mut service = limits.layer(metered);
    let answer = service.ready().await.unwrap().call(request("ann")).await;
    let body = answer.unwrap().into_body().collect().await.unwrap();
    assert_eq!(body.to_bytes().len(), 10_500);
    told(limits.limiter()).await;
    assert_eq!(left(limits.limiter(), "ann").await, 100 - 1 - 11);
}

#[tokio::test]
async fn an_answer_that_costs_more_tells_of_what_is_left() {
    let server = Server::start();
    let policy = per_client(10).charge_response(|answer| match answer.status.as_u16() {
        401 => Adjust::Charge(4),
        304 => Adjust::Refund(u32::MAX),
        _ => Adjust::Nothing,
    });
    let limits = build(policy, &server.store("test"));
    let inner = tower::service_fn(|request: Request<()>| {
        let mut answer = Response::new(Full::<Bytes>::default());
        *answer.status_mut() = request.uri().path()[1..].parse().unwrap();
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    let mut service = limits.layer(inner);
    for (path, told_as) in [
        ("/200", r#""p";r=9;"#),
        ("/401", r#""p";r=4;"#),
        ("/304", r#""p";r=4;"#),
    ] {
        let mut request = request("ann");
        *request.uri_mut() = path.parse().unwrap();
        let answer = service.ready().await.unwrap().call(request).await.unwrap();
        let field = answer.headers()["ratelimit"].to_str().unwrap();
        assert!(field.starts_with(told_as), "{path}: {field}");
        told(limits.limiter()).await;
    }
    assert_eq!(left(limits.limiter(), "ann").await, 4);
}

#[tokio::test]
async fn a_policy_that_goes_off_charges_nothing_and_gives_back_what_it_took() {
    let server = Server::start();
    let limits = build(
        per_client(10).cost(|_| 4).late_charges(),
        &server.store("test"),
    );
    let charged = admitted(&limits, "ann").await;
    let handle = limits.handle();
    handle.set_mode("p", Mode::Off).unwrap();
    assert_eq!(charged.charge("p", 3), None);
    assert_eq!(charged.refund("p", 9), Some(4));
    told(limits.limiter()).await;
    handle.set_mode("p", Mode::Enforce).unwrap();
    assert_eq!(left(limits.limiter(), "ann").await, 10);
}

/// Story: while Redis was away, nothing came back of what this instance had charged by itself. After as many failures as the burst
/// has cells the client was refused, although failures were to cost nothing.
#[tokio::test]
async fn what_this_instance_charges_by_itself_it_gives_back_by_itself() {
    let mut server = Server::start();
    let policy = per_client(3).charge_response(|answer| match answer.status.as_u16() {
        500.. => Adjust::Refund(1),
        _ => Adjust::Nothing,
    });
    let limits = build(policy, &server.store("test").probe_after(LONG));
    server.stop();
    let inner = tower::service_fn(|request: Request<()>| {
        let mut answer = Response::new(Full::<Bytes>::default());
        *answer.status_mut() = request.uri().path()[1..].parse().unwrap();
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    let mut service = limits.layer(inner);
    let mut answered = async |path: &str| {
        let mut request = request("ann");
        *request.uri_mut() = path.parse().unwrap();
        let answer = service.ready().await.unwrap().call(request).await.unwrap();
        let field = answer.headers()["ratelimit"].to_str().unwrap().to_owned();
        (answer.status().as_u16(), field)
    };
    for _ in 0..10 {
        let (status, field) = answered("/500").await;
        assert_eq!(status, 500);
        assert!(field.starts_with(r#""p";r=3;"#), "{field}");
    }
    for expected in [200, 200, 200, 429] {
        assert_eq!(answered("/200").await.0, expected);
    }
    assert_eq!(limits.limiter().store().late_lost, 0);
}

#[tokio::test]
async fn what_cannot_be_told_is_counted_and_this_instance_knows() {
    for (rule, passes, given) in [
        (OnFailure::LocalFallback, false, 16),
        (OnFailure::Open, true, 1),
    ] {
        let server = Server::start();
        let store = server.store("test").on_failure(rule).failures(1);
        let store = store.timeout(UNANSWERED).probe_after(LONG);
        let limits = build(per_client(10).cost(|_| 1).late_charges(), &store);
        let (first, second) = (
            admitted(&limits, "ann").await,
            admitted(&limits, "bob").await,
        );
        server.freeze();
        assert_eq!(first.charge("p", 15), Some(15));
        let telling = async {
            while limits.limiter().store().late_waiting > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        unanswered(telling).await;
        let snapshot = limits.limiter().store();
        assert_eq!((snapshot.late_lost, snapshot.late_waiting), (15, 0));
        assert!(!snapshot.is_asked);
        let inner = tower::service_fn(|_: Request<()>| {
            std::future::ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())))
        });
        let service = limits.layer(inner);
        let answer = service.clone().oneshot(request("ann")).await.unwrap();
        assert_eq!(answer.status() == 200, passes, "{rule:?}");
        // What was not charged there is not given back there, but for what came with the request.
        assert_eq!(first.refund("p", 100), Some(given));
        // Nobody waits any more.
        assert_eq!(second.charge("p", 7), Some(7));
        told(limits.limiter()).await;
        assert_eq!(limits.limiter().store().late_lost, 15 + 1 + 7);
        let answer = service.oneshot(request("ann")).await.unwrap();
        assert_eq!(answer.status(), 200, "{rule:?}");
        server.thaw();
    }
}

#[tokio::test]
async fn a_request_that_was_admitted_without_redis_is_charged_when_it_is_back() {
    let mut server = Server::start();
    let store = server.store("test").failures(1);
    let limits = build(
        per_client(10).cost(|_| 1).late_charges(),
        &store.probe_after(Duration::from_millis(1)),
    );
    server.stop();
    let charged = admitted(&limits, "ann").await;
    server.start_again();
    let limiter = limits.limiter();
    recovered(limiter).await;
    assert_eq!(charged.charge("p", 3), Some(3));
    // It was not charged there for being admitted, only here.
    assert_eq!(charged.refund("p", 9), Some(4));
    assert_eq!(charged.charge("p", 4), Some(4));
    told(limiter).await;
    assert_eq!(left(limiter, "ann").await, 6);
}

#[tokio::test]
async fn the_line_is_bounded_and_who_finds_no_room_is_counted() {
    let server = Server::start();
    let store = server.store("test").timeout(LONG);
    let limits = build(per_client(80_000).cost(|_| 1).late_charges(), &store);
    let mut all = Vec::new();
    for _ in 0..5_000 {
        all.push(admitted(&limits, "ann").await);
    }
    let limiter = limits.limiter();
    server.freeze();
    for charged in &all {
        charged.charge("p", 2);
        charged.charge("p", 1);
    }
    let full = limiter.store();
    assert_eq!(full.late_waiting, 4_096);
    // Nobody was attended to in between, as this did not wait: all others are lost, three cells each.
    assert_eq!(full.late_lost, 3 * (5_000 - 4_096));
    server.thaw();
    told(limiter).await;
    assert_eq!(left(limiter, "ann").await, 80_000 - 5_000 - 3 * 4_096);
    let calls = limiter.store().asked - full.asked;
    assert!(calls <= 1 + 4_096 / 64 + 1, "{calls} calls");
}

#[test]
fn a_charge_from_outside_of_any_runtime_is_told() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = Server::start();
    let limits = build(
        per_client(10).cost(|_| 1).late_charges(),
        &server.store("test"),
    );
    let charged = runtime.block_on(admitted(&limits, "ann"));
    assert_eq!(charged.charge("p", 4), Some(4));
    runtime.block_on(told(limits.limiter()));
    assert_eq!(runtime.block_on(left(limits.limiter(), "ann")), 5);
    // With the runtime gone, it waits for one.
    drop(runtime);
    assert_eq!(charged.charge("p", 1), Some(1));
    assert_eq!(limits.limiter().store().late_waiting, 1);
    let another = tokio::runtime::Runtime::new().unwrap();
    another.block_on(async {
        // The connection went with the runtime, which is found out by asking.
        let policy = limits.limiter().policy("p").unwrap();
        limits.limiter().peek(policy, None, "nobody").await;
        assert_eq!(charged.charge("p", 1), Some(1));
        limits.limiter().close(Duration::from_secs(60)).await;
        assert_eq!(left(limits.limiter(), "ann").await, 3);
    });
}
