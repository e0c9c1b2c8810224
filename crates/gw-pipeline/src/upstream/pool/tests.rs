use gw_core::Body;
use gw_core::context::Deadline;
use gw_testkit::upstream::{At, Reply, Upstream, always};

use super::*;
use crate::timeouts::Timeouts;
use crate::upstream::config::PoolConfig;
use crate::upstream::upload::RequestBody;

/// Those of a request that comes `now`.
fn limits(now: Instant, attempt: Duration, deadline: Option<Deadline>) -> Limits {
    let timeouts = Timeouts {
        attempt,
        ..Timeouts::default()
    };
    Limits::new(now, timeouts, deadline, Duration::from_secs(10))
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
        let error = pool.checkout(0, &limits).await.unwrap_err();
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

#[tokio::test]
async fn who_waits_for_a_connection_that_is_not_free_yet_does_not_blame_the_upstream() {
    let upstream = Upstream::start(always(Reply::ok().stall(At::Start))).await;
    let authority = upstream.addr().to_string().parse().unwrap();
    let settings = Settings {
        pool: PoolConfig {
            max_connections: 1,
            ..PoolConfig::default()
        },
        ..Settings::default()
    };
    let name = UpstreamName::new("full");
    let endpoints = vec![Endpoint::new(authority).unwrap()];
    let pool = Arc::new(Pool::new(name, endpoints, settings, Watcher::default()));
    let patient = limits(Instant::now(), Duration::from_secs(60), None);
    let first = pool.checkout(0, &patient).await;
    let Connection::Http1(mut http1) = first.unwrap().connection else {
        panic!("the upstream speaks HTTP/1");
    };
    http1.sender.ready().await.unwrap();
    let now = Instant::now();
    let (body, _upload) = RequestBody::new(Body::empty(), now, None, None, None);
    let _answer = http1.sender.try_send_request(http::Request::new(body));
    pool.give_back(http1, now);
    let hasty = limits(Instant::now(), UNFINISHED / 2, None);
    let error = pool.checkout(0, &hasty).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QueueTimeout);
}
