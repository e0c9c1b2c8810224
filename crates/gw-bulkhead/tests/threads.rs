//! Lanes on threads of their own.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod support;

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use gw_bulkhead::threads::{LaneTaskLost, Threads};
use gw_bulkhead::{
    Bulkhead, BulkheadHandle, BulkheadLayer, Fail, HeldTooLong, Hold, LaneConfig, Mode,
    UpgradePermit,
};
use gw_core::Body;
use gw_testkit::body::ScriptedBody;
use gw_testkit::service::{ControlledService, ServiceError};
use gw_testkit::{PATIENCE, within};
use http::{Request, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use static_assertions::assert_impl_all;
use support::{
    Inner, InnerHandle, call, in_flight, inner, places, poll, recorded, refused, request,
    request_in,
};
use tokio::sync::oneshot;
use tower::{Layer as _, service_fn};

/// `logs` on a thread of its own with two places, `core` without.
fn two_lanes(logs: LaneConfig) -> BulkheadLayer<Threads> {
    BulkheadLayer::builder(places(100))
        .lane(LaneConfig::new("core"))
        .lane(logs.cap(0.02).threads(1))
        .with_threads()
        .build()
        .unwrap()
}

fn logs() -> LaneConfig {
    LaneConfig::new("logs")
}

fn controlled(layer: &BulkheadLayer<Threads>) -> (Bulkhead<Inner, Threads>, InnerHandle) {
    let (service, handle) = inner();
    (layer.layer(service), handle)
}

/// The lane's thread has its own pace: what it does is waited for, not slept for.
async fn settles_at(handle: &BulkheadHandle, expected: u32) {
    let handle = handle.clone();
    within(
        "the requests in flight to be as many as expected",
        async move {
            while in_flight(&handle) != expected {
                tokio::task::yield_now().await;
            }
        },
    )
    .await;
}

const HOUR: Duration = Duration::from_secs(3600);

/// Lets time pass at once on the test's own thread. What the machine takes is little beside an hour.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// Answers one request with this body, and lets time on its thread pass as soon as there is nothing else to do.
fn answers_and_lets_time_pass(
    body: ScriptedBody,
) -> impl tower::Service<
    Request<()>,
    Response = Response<Body>,
    Error = Infallible,
    Future = std::future::Ready<Result<Response<Body>, Infallible>>,
> + Clone
+ Send
+ 'static {
    let body = std::sync::Arc::new(std::sync::Mutex::new(Some(body)));
    service_fn(move |_: Request<()>| {
        // Of the lane's own runtime.
        tokio::time::pause();
        let body = body.lock().unwrap().take().unwrap();
        std::future::ready(Ok(response(Body::new(body))))
    })
}

fn response(body: impl Into<Body>) -> Response<Body> {
    Response::new(body.into())
}

#[tokio::test]
async fn a_blocked_lane_does_not_delay_another() {
    let layer = two_lanes(logs());
    let handle = layer.handle();
    let (release, blocked) = mpsc::channel::<()>();
    let (started, starts) = oneshot::channel();
    let parked = std::sync::Arc::new(std::sync::Mutex::new(Some((started, blocked))));
    let mut service = layer.layer(service_fn(move |request: Request<()>| {
        let parked = std::sync::Arc::clone(&parked);
        async move {
            if request.uri().path() == "/logs" {
                let (started, blocked) = parked.lock().unwrap().take().unwrap();
                started
                    .send(thread::current().name().map(str::to_owned))
                    .unwrap();
                // Blocks the thread, not the task.
                blocked.recv_timeout(PATIENCE).unwrap();
            }
            Ok::<_, Infallible>(response(
                thread::current().name().unwrap_or_default().to_owned(),
            ))
        }
    }));
    let mut to_logs = request_in("logs");
    *to_logs.uri_mut() = "/logs".parse().unwrap();
    let log = tokio::spawn(call(&mut service, to_logs).await);
    assert_eq!(starts.await.unwrap().as_deref(), Some("gw-lane-logs-0"));

    // All of this happens on one thread while the other one is blocked.
    for _ in 0..10 {
        let answer = call(&mut service, request()).await.await.unwrap();
        let here = thread::current().name().unwrap_or_default().to_owned();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), here);
    }
    assert_eq!(in_flight(&handle), 1);
    assert!(!log.is_finished());
    release.send(()).unwrap();
    let answer = log.await.unwrap().unwrap();
    assert_eq!(
        answer.into_body().collect().await.unwrap().to_bytes(),
        "gw-lane-logs-0"
    );
}

#[tokio::test]
async fn calls_abandoned_while_the_thread_is_blocked_stay_bounded() {
    // Story: the bound was on callers that wait. 100,000 of them gave up while the lane's thread was blocked; their
    // tasks stayed, and 160 MiB with them.
    let layer = two_lanes(logs());
    let handle = layer.handle();
    let (service, inner) = inner();
    let (release, blocked) = mpsc::channel::<()>();
    let (starts, mut started) = tokio::sync::mpsc::unbounded_channel();
    let blocked = std::sync::Mutex::new(blocked);
    inner.answer_with(move |_| {
        starts.send(()).unwrap();
        blocked.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        Ok(response("late"))
    });
    let mut service = layer.layer(service);
    drop({
        let mut first = call(&mut service, request_in("logs")).await;
        assert!(poll(&mut first).is_pending());
        started.recv().await.unwrap();
        first
    });
    let (mut accepted, mut refused) = (1, 0);
    for _ in 1..1000 {
        let mut abandoned = call(&mut service, request_in("logs")).await;
        match poll(&mut abandoned) {
            std::task::Poll::Ready(answer) => {
                assert_eq!(answer.unwrap().status(), 503);
                refused += 1;
            }
            std::task::Poll::Pending => accepted += 1,
        }
    }
    assert_eq!((accepted, refused, in_flight(&handle)), (2, 998, 2));
    release.send(()).unwrap();
    settles_at(&handle, 0).await;
    // The one that never began was dropped before it did.
    assert_eq!(inner.calls(), 1);
}

#[tokio::test]
async fn a_dropped_future_drops_what_runs_on_the_thread() {
    let layer = two_lanes(logs());
    let handle = layer.handle();
    let (mut service, inner) = controlled(&layer);
    let mut future = call(&mut service, request_in("logs")).await;
    assert!(poll(&mut future).is_pending());
    let mut running = inner.next_call().await;
    assert_eq!(in_flight(&handle), 1);
    drop(future);
    running.abandoned().await;
    settles_at(&handle, 0).await;
}

#[tokio::test]
async fn a_dropped_body_drops_the_body_on_the_thread() {
    let layer = two_lanes(logs());
    let handle = layer.handle();
    let (mut service, inner) = controlled(&layer);
    let (script, body) = ScriptedBody::script().data("a").hold().build();
    let future = tokio::spawn(call(&mut service, request_in("logs")).await);
    inner.next_call().await.respond(response(Body::new(script)));
    let answer = future.await.unwrap().unwrap();
    body.held().await;
    assert_eq!(in_flight(&handle), 1);
    drop(answer);
    body.dropped().await;
    settles_at(&handle, 0).await;
}

/// The message of the panic that `future` ends with.
async fn panic_of<F: Future<Output: Send> + Send + 'static>(future: F) -> String {
    match tokio::spawn(future).await {
        Err(error) => *error.into_panic().downcast::<String>().unwrap(),
        Ok(_) => panic!("there was no panic"),
    }
}

#[tokio::test]
async fn panics_cross() {
    let layer = two_lanes(logs());
    let handle = layer.handle();
    let (mut service, inner) = controlled(&layer);
    let future = call(&mut service, request_in("logs")).await;
    let answering = async { inner.next_call().await.panic("in the service") };
    let (message, ()) = tokio::join!(panic_of(future), answering);
    assert_eq!(message, "in the service");
    settles_at(&handle, 0).await;

    // `gw_core::Body` would turn the panic into an error: a body of another type it is.
    let (script, _) = ScriptedBody::script()
        .data("a")
        .panic("in the body")
        .build();
    let script = std::sync::Arc::new(std::sync::Mutex::new(Some(script)));
    let service = service_fn(move |_: Request<()>| {
        let body = script.lock().unwrap().take().unwrap();
        std::future::ready(Ok::<_, Infallible>(Response::new(body)))
    });
    let mut service = layer.clone().on_reject(Fail).layer(service);
    let answer = call(&mut service, request_in("logs")).await.await.unwrap();
    assert_eq!(
        panic_of(async { drop(answer.into_body().collect().await) }).await,
        "in the body"
    );
    settles_at(&handle, 0).await;
}

#[tokio::test]
async fn answers_cross_as_they_are() {
    let layer = two_lanes(logs());
    let handle = layer.handle();
    let (mut service, inner) = controlled(&layer);
    for (body, hint, frames) in [
        (Body::empty(), Some(0), vec![]),
        (Body::from("whole"), Some(5), vec!["whole"]),
        (
            Body::new(
                ScriptedBody::script()
                    .data("a")
                    .data("b")
                    .data("c")
                    .data("d")
                    .build()
                    .0,
            ),
            Some(4),
            vec!["a", "b", "c", "d"],
        ),
    ] {
        let future = tokio::spawn(call(&mut service, request_in("logs")).await);
        let mut answer = response(body);
        answer.headers_mut().insert("x-answer", 1.into());
        *answer.status_mut() = StatusCode::ACCEPTED;
        inner.next_call().await.respond(answer);
        let answer = future.await.unwrap().unwrap();
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        assert_eq!(answer.headers()["x-answer"], "1");
        let mut body = pin!(answer.into_body());
        assert_eq!(body.size_hint().exact(), hint);
        assert_eq!(body.is_end_stream(), frames.is_empty());
        for (n, expected) in (1..).zip(&frames) {
            let frame = body.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), expected);
            assert_eq!(body.is_end_stream(), n == frames.len());
        }
        assert_eq!(body.size_hint().exact(), Some(0));
        // Whoever has seen the end can rely on it: nothing is waited for here.
        assert_eq!(in_flight(&handle), 0);
        assert!(body.frame().await.is_none());
    }
}

#[tokio::test]
async fn frames_cross_one_by_one_and_trailers_end_them() {
    let layer = two_lanes(logs());
    let handle = layer.handle();
    let (mut service, inner) = controlled(&layer);
    let (script, body) = ScriptedBody::script()
        .data("abc")
        .hold()
        .data("de")
        .trailers([("grpc-status", "0")])
        .build();
    let future = tokio::spawn(call(&mut service, request_in("logs")).await);
    inner.next_call().await.respond(response(Body::new(script)));
    let mut received = pin!(future.await.unwrap().unwrap().into_body());
    assert_eq!(received.size_hint().exact(), Some(5));
    assert_eq!(
        received
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_data()
            .unwrap(),
        "abc"
    );
    assert_eq!(received.size_hint().exact(), Some(2));
    body.held().await;
    body.resume();
    assert_eq!(
        received
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_data()
            .unwrap(),
        "de"
    );
    assert_eq!(in_flight(&handle), 1);
    let trailers = received
        .frame()
        .await
        .unwrap()
        .unwrap()
        .into_trailers()
        .unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert!(received.is_end_stream());
    assert_eq!(in_flight(&handle), 0);
}

#[tokio::test]
async fn a_slow_reader_makes_the_lane_hold_two_frames() {
    let layer = two_lanes(logs());
    let (mut service, inner) = controlled(&layer);
    let script = (0..100).fold(ScriptedBody::script(), |script, _| script.data("a"));
    let (script, body) = script.build();
    let future = tokio::spawn(call(&mut service, request_in("logs")).await);
    inner.next_call().await.respond(response(Body::new(script)));
    let answer = future.await.unwrap().unwrap();
    // Another request to the same thread goes through: by then the first one has sent what it can.
    for _ in 0..3 {
        let future = tokio::spawn(call(&mut service, request_in("logs")).await);
        inner.next_call().await.respond(response(Body::empty()));
        future.await.unwrap().unwrap();
    }
    // Two in the channel, and one that does not fit.
    assert_eq!(body.frames(), 3);
    drop(answer);
}

#[tokio::test]
async fn errors_cross() {
    let layer = two_lanes(logs()).on_reject(Fail);
    let handle = layer.handle();
    let (service, inner) = ControlledService::<(), Body, ServiceError>::new();
    let mut service = layer.layer(service);
    let future = tokio::spawn(call(&mut service, request_in("logs")).await);
    inner.next_call().await.fail(ServiceError::new("broken"));
    let error = future.await.unwrap().unwrap_err();
    assert!(matches!(error, gw_core::LayerError::Inner(error) if error.to_string() == "broken"));
    assert_eq!(in_flight(&handle), 0);

    let (script, _) = ScriptedBody::script().data("a").error("cut").build();
    let future = tokio::spawn(call(&mut service, request_in("logs")).await);
    inner.next_call().await.respond(response(Body::new(script)));
    let mut body = pin!(future.await.unwrap().unwrap().into_body());
    assert!(body.frame().await.unwrap().is_ok());
    assert_eq!(body.frame().await.unwrap().unwrap_err().to_string(), "cut");
    assert_eq!(in_flight(&handle), 0);
    assert!(body.frame().await.is_none());
    assert_eq!(
        inner.violations(),
        [],
        "each call was on the instance that was ready"
    );
}

#[tokio::test]
async fn a_drain_does_not_cut_a_body_that_gave_its_place_back() {
    // Story: with the place given back at the head, the drain was done while the body was on its way; the lane's thread
    // ended then, and the client got half an answer.
    let layer = two_lanes(logs().hold(Hold::Head));
    let handle = layer.handle();
    let (mut service, inner) = controlled(&layer);
    let (script, body) = ScriptedBody::script().data("a").hold().data("b").build();
    let future = tokio::spawn(call(&mut service, request_in("logs")).await);
    inner.next_call().await.respond(response(Body::new(script)));
    let mut received = pin!(future.await.unwrap().unwrap().into_body());
    assert!(received.frame().await.unwrap().is_ok());
    body.held().await;
    handle.drain().await;
    body.resume();
    let rest = received.frame().await.unwrap().unwrap();
    assert_eq!(rest.into_data().unwrap(), "b");
    assert!(received.frame().await.is_none());
    // That the threads end then is tested below.
}

#[tokio::test]
async fn a_body_that_ends_early_fails() {
    // Its time was over on the lane's side, and the kill switch came before the caller found out.
    let layer = two_lanes(logs().max_hold(HOUR));
    let handle = layer.handle();
    let (script, body) = ScriptedBody::script().data("a").hold().build();
    let mut service = layer.layer(answers_and_lets_time_pass(script));
    let (request, record) = recorded(request_in("logs"));
    let future = tokio::spawn(call(&mut service, request).await);
    let mut received = pin!(future.await.unwrap().unwrap().into_body());
    body.dropped().await;
    handle.set_mode(Mode::Off);
    pass(HOUR).await;
    assert!(received.frame().await.unwrap().is_ok());
    let error = received.frame().await.unwrap().unwrap_err();
    assert!(error.downcast_ref::<LaneTaskLost>().is_some(), "{error}");
    // Not the upstream's doing.
    assert_eq!(refused(&record), (Some("admit"), Some("SHUTTING_DOWN")));
}

#[tokio::test]
async fn time_runs_out_on_both_sides() {
    let layer = two_lanes(logs().max_hold(HOUR));
    let handle = layer.handle();
    let (mut service, inner) = controlled(&layer);
    let future = tokio::spawn(call(&mut service, request_in("logs")).await);
    let mut running = inner.next_call().await;
    pass(HOUR).await;
    assert_eq!(future.await.unwrap().unwrap().status(), 504);
    running.abandoned().await;

    // Nobody reads this one, so only the lane's side can end it, and only who needs its place takes that back.
    let (script, body) = ScriptedBody::script()
        .data("a")
        .data("b")
        .data("c")
        .data("d")
        .data("e")
        .build();
    let (request, record) = recorded(request_in("logs"));
    let mut unread = layer.layer(answers_and_lets_time_pass(script));
    let future = tokio::spawn(call(&mut unread, request).await);
    let mut abandoned = pin!(future.await.unwrap().unwrap().into_body());
    body.dropped().await;
    pass(HOUR).await;
    let _held = [
        call(&mut service, request_in("logs")).await,
        call(&mut service, request_in("logs")).await,
    ];
    let _running = inner.next_call().await;
    assert!(in_flight(&handle) <= 2);
    let error = abandoned.frame().await.unwrap().unwrap_err();
    assert!(error.downcast_ref::<HeldTooLong>().is_some(), "{error}");
    assert_eq!(refused(&record), (Some("admit"), Some("GATEWAY_TIMEOUT")));
}

#[tokio::test]
async fn an_upgraded_connection_keeps_its_place() {
    let layer = two_lanes(logs());
    let handle = layer.handle();
    let (mut service, inner) = controlled(&layer);
    let mut upgrade = request_in("logs");
    upgrade
        .headers_mut()
        .insert(header::UPGRADE, "websocket".parse().unwrap());
    let future = tokio::spawn(call(&mut service, upgrade).await);
    let answering = inner.next_call().await;
    let permit = answering
        .request()
        .extensions()
        .get::<UpgradePermit>()
        .cloned()
        .unwrap();
    let mut granted = response(Body::empty());
    *granted.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answering.respond(granted);
    drop(future.await.unwrap().unwrap());
    assert_eq!(in_flight(&handle), 1);
    drop(permit);
    assert_eq!(in_flight(&handle), 0);
}

/// Says when the thread it was made on ends.
struct AtEnd(mpsc::Sender<()>);

impl Drop for AtEnd {
    fn drop(&mut self) {
        _ = self.0.send(());
    }
}

thread_local! {
    static AT_END: std::cell::RefCell<Option<AtEnd>> = const { std::cell::RefCell::new(None) };
}

#[tokio::test]
async fn threads_end_with_the_layer_or_with_a_drain() {
    for (drained, hold) in [(false, Hold::Body), (true, Hold::Body), (true, Hold::Head)] {
        let layer = two_lanes(logs().hold(hold));
        let handle = layer.handle();
        let (ended, ends) = mpsc::channel();
        let mut service = layer.layer(service_fn(move |_: Request<()>| {
            AT_END.set(Some(AtEnd(ended.clone())));
            // Comes as a stream, and is more than the hand-over holds, so that the answer goes on until somebody reads it.
            let script = ScriptedBody::script().data("a").data("b");
            let (script, _) = script.data("c").data("d").build();
            std::future::ready(Ok::<_, Infallible>(response(Body::new(script))))
        }));
        let answer = call(&mut service, request_in("logs")).await.await.unwrap();
        if drained {
            let drain = handle.drain();
            assert_eq!(ends.try_recv(), Err(mpsc::TryRecvError::Empty));
            drop(answer);
            drain.await;
            assert_eq!(
                call(&mut service, request()).await.await.unwrap().status(),
                503
            );
        } else {
            // Neither the layer's end nor the service's ends an answer that is on its way.
            drop((layer, service));
            let collected = answer.into_body().collect().await.unwrap();
            assert_eq!(collected.to_bytes(), "abcd");
        }
        tokio::task::spawn_blocking(move || ends.recv_timeout(PATIENCE))
            .await
            .unwrap()
            .unwrap();
    }
}

#[tokio::test]
async fn off_runs_where_it_comes_from() {
    let layer = two_lanes(logs());
    layer.handle().set_mode(Mode::Off);
    let here = thread::current().id();
    let mut service = layer.layer(service_fn(move |_: Request<()>| {
        assert_eq!(thread::current().id(), here);
        std::future::ready(Ok::<_, Infallible>(response("here")))
    }));
    assert_eq!(
        call(&mut service, request_in("logs"))
            .await
            .await
            .unwrap()
            .status(),
        200
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fits_an_axum_router_and_holds_over_sixteen_connections() {
    use gw_testkit::client::Client;

    let layer = two_lanes(logs());
    let (handle, gate) = (layer.handle(), gw_testkit::Gate::new());
    let held = gate.clone();
    let handler = move || async move {
        held.pass().await;
        thread::current().name().unwrap_or_default().to_owned()
    };
    let to_logs = |mut request: axum::extract::Request, next: axum::middleware::Next| async move {
        request
            .extensions_mut()
            .insert(gw_bulkhead::Lane::new("logs"));
        next.run(request).await
    };
    let app = axum::Router::new()
        .route("/", axum::routing::get(handler))
        .layer(layer)
        .layer(axum::middleware::from_fn(to_logs));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(std::future::IntoFuture::into_future(axum::serve(
        listener, app,
    )));

    let mut clients = Vec::new();
    for _ in 0..16 {
        let mut client = Client::connect(address).await;
        client.get("/").await;
        clients.push(client);
    }
    gate.reached(2).await;
    within("all others to be refused", {
        let handle = handle.clone();
        async move {
            while handle.snapshot().lanes[1].rejected.lane_full != 14 {
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
    assert_eq!(in_flight(&handle), 2);
    gate.open();
    let mut statuses = Vec::new();
    for client in &mut clients {
        let answer = client.read_answer().await;
        if answer.status() == 200 {
            assert_eq!(answer.text(), "gw-lane-logs-0");
        }
        statuses.push(answer.status());
    }
    statuses.sort_unstable();
    assert_eq!(
        (statuses[..2].to_vec(), statuses[2..].to_vec()),
        (vec![200; 2], vec![503; 14])
    );
    settles_at(&handle, 0).await;
}

#[test]
fn what_cannot_work_is_not_built() {
    let lane = logs().threads(1);
    let error = BulkheadLayer::builder(places(1))
        .lane(lane)
        .build()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "lanes.logs.threads: needs a bulkhead built `with_threads`"
    );
    let lane = logs().threads(257);
    let error = BulkheadLayer::builder(places(1))
        .lane(lane)
        .with_threads()
        .build()
        .unwrap_err();
    assert_eq!(error.to_string(), "lanes.logs.threads: must be at most 256");
    for (lane, message) in [
        (logs().nice(1), "lanes.logs.nice: needs threads"),
        (
            logs().threads(1).nice(20),
            "lanes.logs.nice: must be at most 19",
        ),
        (logs().nice(20), "lanes.logs.nice: must be at most 19"),
    ] {
        let builder = BulkheadLayer::builder(places(1)).lane(lane).with_threads();
        assert_eq!(builder.build().unwrap_err().to_string(), message);
    }
    let nicest = logs().threads(1).nice(LaneConfig::MAX_NICE);
    let builder = BulkheadLayer::builder(places(1)).lane(nicest);
    assert!(builder.with_threads().build().is_ok());
}

/// Each request says how nice the thread is that it runs on.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_lane_is_as_nice_as_it_shall_be() {
    fn niceness() -> i32 {
        rustix::process::getpriority_process(None).unwrap()
    }
    let layer = BulkheadLayer::builder(places(100))
        .lane(LaneConfig::new("core"))
        .lane(LaneConfig::new("plain").threads(1))
        .lane(LaneConfig::new("logs").threads(2).nice(7))
        .lane(LaneConfig::new("last").threads(1).nice(19))
        .with_threads()
        .build()
        .unwrap();
    // Of whoever starts the test, most often 0.
    let own = niceness();
    let mut service = layer.layer(service_fn(|_: Request<()>| async {
        Ok::<_, Infallible>(response(niceness().to_string()))
    }));
    for (lane, above) in [
        ("core", 0),
        ("plain", 0),
        // Both threads.
        ("logs", 7),
        ("logs", 7),
        ("last", 19),
    ] {
        let answer = call(&mut service, request_in(lane)).await.await.unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let expected = (own + above).min(19).to_string();
        assert_eq!(body, expected, "{lane}");
    }
    assert_eq!(niceness(), own, "the other threads stay as they were");
}

#[test]
fn types_fit_where_they_must() {
    assert_impl_all!(BulkheadLayer<Threads>: Clone, Send, Sync, std::fmt::Debug);
    assert_impl_all!(gw_bulkhead::threads::ResponseBody<Body>: From<Bytes>, Send, std::fmt::Debug);
    fn is_send<T: Send>(_: &T) {}
    let layer = two_lanes(logs());
    let (mut service, _handle) = controlled(&layer);
    is_send(&service);
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(async {
            is_send(&*call(&mut service, request()).await);
        });
}

/// Says on which threads it is readied and called; each call answers when it is told to.
#[derive(Clone)]
struct Whereabouts {
    seen: mpsc::Sender<String>,
    answer: std::sync::Arc<tokio::sync::Semaphore>,
}

impl Whereabouts {
    fn note(&self, what: &str) {
        let thread = thread::current().name().unwrap_or_default().to_owned();
        self.seen.send(format!("{what} on {thread}")).unwrap();
    }
}

impl tower::Service<Request<()>> for Whereabouts {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        self.note("readied");
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        self.note("called");
        let answer = std::sync::Arc::clone(&self.answer);
        Box::pin(async move {
            answer.acquire().await.unwrap().forget();
            Ok(response(Body::empty()))
        })
    }
}

#[tokio::test]
async fn who_has_waited_is_readied_where_it_runs() {
    let wait = Duration::from_secs(600);
    let layer = two_lanes(logs().queue(1).queue_timeout(wait));
    let handle = layer.handle();
    let (seen, calls) = mpsc::channel();
    let answer = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let service = Whereabouts {
        seen,
        answer: std::sync::Arc::clone(&answer),
    };
    let mut service = layer.layer(service);
    // The lane has two places.
    let running = [
        tokio::spawn(call(&mut service, request_in("logs")).await),
        tokio::spawn(call(&mut service, request_in("logs")).await),
    ];
    let waiting = tokio::spawn(call(&mut service, request_in("logs")).await);
    let queued = async {
        while handle.snapshot().lanes[1].queued == 0 {
            tokio::task::yield_now().await;
        }
    };
    within("the third one to wait", queued).await;
    answer.add_permits(3);
    for answered in running.into_iter().chain([waiting]) {
        assert_eq!(answered.await.unwrap().unwrap().status(), 200);
    }
    let mut calls: Vec<_> = calls.try_iter().collect();
    // Three times on the way in; then as it goes, the last one in the end.
    let last = calls.split_off(calls.len() - 2);
    assert_eq!(
        last,
        ["readied on gw-lane-logs-0", "called on gw-lane-logs-0"]
    );
    settles_at(&handle, 0).await;
}
