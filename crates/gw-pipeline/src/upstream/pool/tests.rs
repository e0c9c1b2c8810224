use std::collections::BTreeSet;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use gw_core::Body;
use gw_core::classify::Outcome;
use gw_core::context::Deadline;
use gw_core::endpoint::EndpointHealth;
use gw_core::record::Record;
use gw_testkit::upstream::{At, Reply, Upstream, always};
use http::uri::Authority;

use super::*;
use crate::timeouts::Timeouts;
use crate::upstream::place::Place;
use crate::upstream::pool_config::PoolConfig;
use crate::upstream::upload::RequestBody;

/// Some endpoints are out.
#[derive(Debug)]
struct Out(&'static [usize]);

impl EndpointHealth for Out {
    fn is_usable(&self, endpoint: usize, _: Instant) -> bool {
        !self.0.contains(&endpoint)
    }

    fn report(&self, _: usize, _: Outcome, _: Duration, _: Instant) {}
}

fn pool_of(endpoints: usize, out: &'static [usize]) -> Pool {
    let endpoint = Endpoint::new(Authority::from_static("10.0.0.1")).unwrap();
    let watcher = Watcher(Some(Arc::new(Out(out))));
    let name = UpstreamName::new("some");
    Pool::new(
        name,
        vec![endpoint; endpoints],
        Settings::default(),
        watcher,
    )
}

/// How many of so many turns each endpoint of ten has.
fn turns(out: &'static [usize], turns: usize) -> Vec<usize> {
    let pool = pool_of(10, out);
    let mut counts = vec![0; 10];
    for _ in 0..turns {
        counts[pool.endpoint(None, Instant::now()).unwrap().0] += 1;
    }
    counts
}

/// Story: the neighbour of an endpoint that was out had all of its turns, and twice the load of the others.
#[test]
fn the_turns_of_who_is_out_are_shared_by_all_others() {
    assert_eq!(turns(&[], 100), [10; 10]);
    assert_eq!(turns(&[3], 90)[..5], [10, 10, 10, 0, 10]);
    for out in [&[0, 1, 2, 3, 4], &[1, 3, 5, 7, 9]] {
        for (endpoint, had) in turns(out, 100).into_iter().enumerate() {
            let expected = if out.contains(&endpoint) { 0 } else { 20 };
            assert_eq!(had, expected, "endpoint {endpoint} where {out:?} are out");
        }
    }
    // Better than nobody.
    assert_eq!(turns(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 100), [10; 10]);
}

#[test]
fn who_was_tried_is_passed_over_unless_there_is_nobody_else() {
    // Which were tried before, and which are out.
    for (out, tried, expected) in [
        (&[][..], 0, vec![1, 2]),
        (&[1], 0, vec![2]),
        (&[1, 2], 0, vec![0]),
        (&[0, 1, 2], 0, vec![0, 1, 2]),
        // Of an upstream that had more.
        (&[], 7, vec![0, 1, 2]),
        (&[0, 1, 2], 7, vec![0, 1, 2]),
    ] {
        let pool = pool_of(3, out);
        let mut seen = BTreeSet::new();
        for _ in 0..9 {
            seen.insert(pool.endpoint(Some(tried), Instant::now()).unwrap().0);
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected, "{out:?}");
    }
}

/// Those of a request that comes `now`.
fn limits(now: Instant, attempt: Duration, deadline: Option<Deadline>) -> Limits {
    let timeouts = Timeouts::new().attempt(attempt);
    Limits::new(now, timeouts, deadline, Duration::from_secs(10))
}

async fn checkout(pool: &Arc<Pool>, limits: &Limits) -> Result<Checkout, Error> {
    pool.checkout(0, limits, &mut Stopwatch::new(None, None))
        .await
}

/// A pool without room for another connection, as long as the permits are held.
fn full(settings: Settings) -> (Arc<Pool>, Vec<SocketPermit>) {
    let name = UpstreamName::new("full");
    let pool = Pool::new(name, Vec::new(), settings, Watcher::default());
    let held: Vec<_> = std::iter::from_fn(|| pool.sockets.try_permit()).collect();
    assert_eq!(held.len(), pool.settings.pool.max_connections);
    (Arc::new(pool), held)
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_room_to_connect_does_not_blame_the_upstream() {
    // Story: an attempt whose time was over before a socket came free counted as a failure of the upstream's.
    let (pool, _held) = full(Settings::default());
    let (begun, attempt) = (Instant::now(), Duration::from_millis(10));
    let limits = limits(begun, attempt, None);
    let error = pool.socket_permit(&limits).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QueueTimeout);
    assert_eq!(begun.elapsed(), attempt);
}

/// Story: the upstream seemed to have taken as long as the pool had no room, though nobody asked it for anything.
#[tokio::test(start_paused = true)]
async fn the_wait_for_room_to_connect_is_not_the_upstreams() {
    let (pool, _held) = full(Settings::default());
    let record = Record::default();
    let mut watch = Stopwatch::new(Some(record.clone()), None);
    let hasty = || limits(Instant::now(), Duration::from_millis(10), None);
    let found = pool.checkout(0, &hasty(), &mut watch).await;
    assert_eq!(found.unwrap_err().kind(), ErrorKind::QueueTimeout);
    let found = pool.new_http1(0, &hasty(), &mut watch).await;
    assert_eq!(found.unwrap_err().kind(), ErrorKind::QueueTimeout);
    drop(watch);
    assert_eq!(record.exchange().upstream_time, None);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_anothers_connection_does_not_blame_the_upstream() {
    // Story: those behind the one that waited for a socket timed out as if they had tried to connect.
    let (pool, _held) = full(Settings {
        protocol: Protocol::Http2,
        ..Settings::default()
    });
    let (begun, short) = (Instant::now(), Duration::from_millis(10));
    let behind = async |attempt, deadline| {
        let limits = limits(begun, attempt, deadline);
        let error = checkout(&pool, &limits).await.unwrap_err();
        (error.kind(), begun.elapsed())
    };
    let (first, second, third) = tokio::join!(
        behind(2 * short, None),
        behind(short, None),
        behind(2 * short, Some(Deadline::at(begun + short)))
    );
    assert_eq!(first, (ErrorKind::QueueTimeout, 2 * short));
    assert_eq!(second, (ErrorKind::QueueTimeout, short));
    assert_eq!(third, (ErrorKind::QueueDeadline, short));
}

const CONNECT: Duration = Duration::from_secs(3);

/// What becomes of a request that comes `after`, where connecting never succeeds, and how long it waits for that.
async fn unconnected(
    place: &Arc<Place>,
    after: Duration,
    attempt: Duration,
) -> (ErrorKind, Duration) {
    tokio::time::sleep(after).await;
    let came = Instant::now();
    let limits = limits(came, attempt, None);
    let sockets = Sockets::new(1);
    let connect = move |_: SocketPermit, _: Arc<Streams>, _: Option<Limits>| async move {
        let (end, kind) = match limits.attempt_end < came + CONNECT {
            true => (limits.attempt_end, limits.connect_kind()),
            false => (Instant::now() + CONNECT, ErrorKind::ConnectTimeout),
        };
        tokio::time::sleep_until(end).await;
        Err(Error::new(kind))
    };
    let shared = place.share(&sockets, &limits, attempt, || {}, connect);
    (shared.await.unwrap_err().kind(), came.elapsed())
}

/// Story: behind an endpoint that swallows what is sent to it, connections were tried one after the other. Who waited for
/// them waited for the whole attempt, and then did not even blame the upstream.
#[tokio::test(start_paused = true)]
async fn a_connection_that_is_not_made_is_not_made_for_all_who_wait_for_it() {
    let places = Places::default();
    let place = places.of(origin(0).unwrap().1);
    let (patient, late) = (Duration::from_secs(60), CONNECT - Duration::from_secs(1));
    let (first, second, third, fourth) = tokio::join!(
        unconnected(&place, Duration::ZERO, patient),
        unconnected(&place, Duration::ZERO, patient),
        unconnected(&place, late, patient),
        unconnected(&place, Duration::ZERO, CONNECT / 2),
    );
    assert_eq!(first, (ErrorKind::ConnectTimeout, CONNECT));
    assert_eq!(second, first);
    assert_eq!(third, (ErrorKind::ConnectTimeout, CONNECT - late));
    assert_eq!(fourth, (ErrorKind::ConnectTimeout, CONNECT / 2));
    // Who comes afterwards tries anew.
    let next = unconnected(&place, Duration::ZERO, patient).await;
    assert_eq!(next, first);
}

#[tokio::test(start_paused = true)]
async fn who_has_less_time_than_others_fails_for_itself_alone() {
    let places = Places::default();
    let place = places.of(origin(0).unwrap().1);
    let hasty = Duration::from_secs(1);
    let (first, second) = tokio::join!(
        unconnected(&place, Duration::ZERO, hasty),
        unconnected(&place, Duration::ZERO, 20 * CONNECT),
    );
    assert_eq!(first, (ErrorKind::ConnectTimeout, hasty));
    assert_eq!(second, (ErrorKind::ConnectTimeout, hasty + CONNECT));
}

#[tokio::test]
async fn who_waits_for_a_connection_that_is_not_free_yet_does_not_blame_the_upstream() {
    let upstream = Upstream::start(always(Reply::ok().stall(At::Start))).await;
    let authority = upstream.addr().to_string().parse().unwrap();
    let settings = Settings {
        pool: PoolConfig::new().max_connections(1),
        ..Settings::default()
    };
    let name = UpstreamName::new("full");
    let endpoints = vec![Endpoint::new(authority).unwrap()];
    let pool = Arc::new(Pool::new(name, endpoints, settings, Watcher::default()));
    let patient = limits(Instant::now(), Duration::from_secs(60), None);
    let first = checkout(&pool, &patient).await;
    let Connection::Http1(mut http1) = first.unwrap().connection else {
        panic!("the upstream speaks HTTP/1");
    };
    http1.sender.ready().await.unwrap();
    let now = Instant::now();
    let (body, _upload) = RequestBody::new(Body::empty(), now, None, None, None);
    let _answer = http1.sender.try_send_request(http::Request::new(body));
    pool.give_back(http1, now);
    let hasty = limits(Instant::now(), UNFINISHED / 2, None);
    let error = checkout(&pool, &hasty).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QueueTimeout);
}

/// A pool without room for another connection, whose only one is full.
async fn crowded() -> (Arc<Pool>, Vec<Checkout>, impl Sized) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    let settings = Settings {
        protocol: Protocol::Http2,
        ..Settings::default()
    };
    let name = UpstreamName::new("full");
    let endpoints = vec![Endpoint::new(authority.parse().unwrap()).unwrap()];
    let pool = Arc::new(Pool::new(name, endpoints, settings, Watcher::default()));
    let patient = limits(Instant::now(), Duration::from_secs(60), None);
    let mut held = Vec::new();
    for _ in 0..Streams::default().allowed() {
        held.push(checkout(&pool, &patient).await.unwrap());
    }
    let permits: Vec<_> = std::iter::from_fn(|| pool.sockets.try_permit()).collect();
    (pool, held, (listener, permits))
}

/// Story: they waited for their turn, then for room, each time for as long.
#[tokio::test]
async fn who_finds_all_connections_full_waits_once() {
    let (pool, _held, _others) = crowded().await;
    let patient = limits(Instant::now(), Duration::from_secs(60), None);
    tokio::time::pause();
    let queue_timeout = pool.settings.pool.queue_timeout;
    let waited = async |after| {
        tokio::time::sleep(after).await;
        let came = Instant::now();
        let error = checkout(&pool, &patient).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::QueueTimeout);
        came.elapsed()
    };
    let (first, second) = tokio::join!(waited(Duration::ZERO), waited(queue_timeout / 2));
    // Timers are exact to a millisecond.
    let once = queue_timeout..=queue_timeout + Duration::from_millis(2);
    assert!(
        once.contains(&first) && once.contains(&second),
        "{first:?}, {second:?}"
    );
}

/// Story: who came just then took the stream that had come free for another one.
#[tokio::test]
async fn who_waits_for_a_stream_is_not_overtaken() {
    let (pool, mut held, _others) = crowded().await;
    let patient = limits(Instant::now(), Duration::from_secs(60), None);
    let mut waiting = pin!(checkout(&pool, &patient));
    let mut context = Context::from_waker(Waker::noop());
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    held.pop();
    let now = Instant::now();
    assert!(pool.try_checkout(0, now).unwrap().is_none());
    let mut behind = pin!(checkout(&pool, &patient));
    assert!(behind.as_mut().poll(&mut context).is_pending());
    let Poll::Ready(first) = waiting.as_mut().poll(&mut context) else {
        panic!("a stream is free");
    };
    held.push(first.unwrap());
    assert!(behind.as_mut().poll(&mut context).is_pending());
    let mut last = pin!(checkout(&pool, &patient));
    assert!(last.as_mut().poll(&mut context).is_pending());
    // One after the other: who is woken in vain would stand behind the others.
    for waiting in [&mut behind, &mut last] {
        held.pop();
        let Poll::Ready(next) = waiting.as_mut().poll(&mut context) else {
            panic!("a stream is free");
        };
        held.push(next.unwrap());
    }
    held.pop();
    assert!(pool.try_checkout(0, now).unwrap().is_some());
}

#[tokio::test]
async fn who_waits_for_a_stream_keeps_its_place_in_the_queue() {
    let (pool, mut held, _others) = crowded().await;
    let patient = limits(Instant::now(), Duration::from_secs(60), None);
    let mut context = Context::from_waker(Waker::noop());
    let mut waiting: Vec<_> = (0..5)
        .map(|_| Box::pin(checkout(&pool, &patient)))
        .collect();
    for checkout in &mut waiting {
        assert!(checkout.as_mut().poll(&mut context).is_pending());
    }
    while !waiting.is_empty() {
        held.pop();
        let Poll::Ready(first) = waiting[0].as_mut().poll(&mut context) else {
            panic!("a stream is free, and {} wait", waiting.len());
        };
        held.push(first.unwrap());
        drop(waiting.remove(0));
        for checkout in &mut waiting {
            assert!(checkout.as_mut().poll(&mut context).is_pending());
        }
    }
}
