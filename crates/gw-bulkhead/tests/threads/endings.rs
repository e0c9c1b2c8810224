//! What is given back however a request ends, and when the threads end.

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::pin::pin;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use gw_bulkhead::threads::{LaneTaskLost, Threads};
use gw_bulkhead::{Bulkhead, HeldTooLong, Hold, Lane, Mode, SHUTTING_DOWN, UpgradePermit};
use gw_core::attempt::Failure;
use gw_core::stage::{NoFacts, Stage};
use gw_core::{Body, Rejection};
use gw_testkit::PATIENCE;
use gw_testkit::body::ScriptedBody;
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

use super::support::{call, in_flight, inner, poll, recorded, refused, request, request_in};
use super::{controlled, logs, response, settles_at, two_lanes};

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
) -> impl Service<
    Request<()>,
    Response = Response<Body>,
    Error = Infallible,
    Future = Ready<Result<Response<Body>, Infallible>>,
> + Clone
+ Send
+ 'static {
    let body = Arc::new(Mutex::new(Some(body)));
    service_fn(move |_: Request<()>| {
        // Of the lane's own runtime.
        tokio::time::pause();
        let body = body.lock().unwrap().take().unwrap();
        ready(Ok(response(Body::new(body))))
    })
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

#[tokio::test]
async fn calls_abandoned_while_the_thread_is_blocked_stay_bounded() {
    // Story: the bound was on callers that wait. 100,000 of them gave up while the lane's thread was blocked; their
    // tasks stayed, and 160 MiB with them.
    let layer = two_lanes(logs());
    let handle = layer.handle();
    let (service, inner) = inner();
    let (release, blocked) = mpsc::channel::<()>();
    let (starts, mut started) = tokio::sync::mpsc::unbounded_channel();
    let blocked = Mutex::new(blocked);
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
async fn a_body_that_ends_early_fails() {
    // Its time was over on the lane's side, and the kill switch came before the caller found out.
    let layer =
        Stage::<NoFacts>::into_layer_in(two_lanes(logs().max_hold(HOUR)), "post_auth_limit");
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
    // Not the upstream's doing. Story: only the observer was told so, and no breaker around the lane.
    assert_eq!(
        refused(&record),
        (Some("post_auth_limit"), Some("SHUTTING_DOWN"))
    );
    let rejection = Rejection::find(&*error).unwrap();
    assert_eq!(rejection.code(), &SHUTTING_DOWN);
    assert_eq!(rejection.failure(), Failure::Local);
}

/// Story: the timer of what had come in shadow ran out there, and nobody looked again. Where nobody read an answer either, its
/// place was held for good.
#[tokio::test]
async fn what_came_in_shadow_ends_on_the_lanes_side_too_once_the_lanes_enforce() {
    let layer = two_lanes(logs().max_hold(HOUR));
    let handle = layer.handle();
    handle.set_mode(Mode::Shadow);
    let (script, body) = ["a", "b", "c", "d", "e"]
        .into_iter()
        .fold(ScriptedBody::script(), |script, data| script.data(data))
        .build();
    let mut unread = layer.layer(answers_and_lets_time_pass(script));
    let future = tokio::spawn(call(&mut unread, request_in("logs")).await);
    let unread_body = future.await.unwrap().unwrap().into_body();
    // On the lane's thread the hour is over when this has its answer.
    let mut later = layer.layer(service_fn(async |_: Request<()>| {
        tokio::time::sleep(2 * HOUR).await;
        Ok::<_, Infallible>(response(""))
    }));
    let future = tokio::spawn(call(&mut later, request_in("logs")).await);
    assert_eq!(future.await.unwrap().unwrap().status(), 200);
    assert!(!body.is_dropped());
    handle.set_mode(Mode::Enforce);
    body.dropped().await;
    drop(unread_body);
    settles_at(&handle, 0).await;
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
    let mut held = Vec::new();
    for _ in 0..2 {
        // One place is free. When the first one runs there, the lane's thread is done with what it has given up.
        let future = call(&mut service, request_in("logs")).await;
        held.push((future, inner.next_call().await));
    }
    assert_eq!(in_flight(&handle), 2);
    let error = abandoned.frame().await.unwrap().unwrap_err();
    assert!(error.downcast_ref::<HeldTooLong>().is_some(), "{error}");
    assert_eq!(refused(&record), (Some("admit"), Some("GATEWAY_TIMEOUT")));
}

/// Story: the lane's clock was asked before the work was. An answer that was there when its time was over was refused, as if the
/// lane's threads had been stopped where the caller's clock was behind.
#[tokio::test]
async fn an_answer_beats_the_timer_of_the_lanes_side() {
    let layer = two_lanes(logs().max_hold(HOUR));
    let mut service = layer.layer(service_fn(async |_: Request<()>| {
        tokio::time::pause();
        tokio::time::advance(2 * HOUR).await;
        Ok::<_, Infallible>(response("done"))
    }));
    let answer = call(&mut service, request_in("logs")).await.await.unwrap();
    assert_eq!(answer.status(), 200);
    let body = answer.into_body().collect().await.unwrap();
    assert_eq!(body.to_bytes(), "done");
}

/// Story: the caller's clock was asked before the body was, and what was all at hand was cut.
#[tokio::test]
async fn what_ends_a_body_beats_the_timer_of_the_callers_side() {
    let layer = two_lanes(logs().max_hold(HOUR));
    let handle = layer.handle();
    let (mut service, inner) = controlled(&layer);
    let mut answer = async |body: Body| {
        let future = tokio::spawn(call(&mut service, request_in("logs")).await);
        inner.next_call().await.respond(response(body));
        future.await.unwrap().unwrap().into_body()
    };
    let whole = answer(Body::from("done")).await;
    let (script, sent) = ScriptedBody::script().hold().data("done").build();
    let streamed = answer(Body::new(script)).await;
    sent.resume();
    // The lane's thread is done with it.
    sent.dropped().await;
    pass(HOUR).await;
    for body in [whole, streamed] {
        assert_eq!(body.collect().await.unwrap().to_bytes(), "done");
    }
    let rejected = || handle.snapshot().lanes[1].rejected.max_hold;
    assert_eq!((in_flight(&handle), rejected()), (0, 0));

    // What is not the end of the answer is cut, though it is there.
    let (script, sent) = ScriptedBody::script().data("a").data("b").build();
    let goes_on = answer(Body::new(script)).await;
    sent.dropped().await;
    pass(HOUR).await;
    let error = goes_on.collect().await.unwrap_err();
    assert!(error.downcast_ref::<HeldTooLong>().is_some(), "{error}");
    assert_eq!((in_flight(&handle), rejected()), (0, 1));
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
            ready(Ok::<_, Infallible>(response(Body::new(script))))
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

/// Switches protocols and echoes, on the lane's thread, as the example of `UpgradePermit` does.
async fn echo(mut request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let permit = request.extensions().get::<UpgradePermit>().cloned();
    tokio::spawn(async move {
        let _held_until_the_end = permit;
        let connection = hyper::upgrade::on(&mut request).await.unwrap();
        let (mut read, mut write) = tokio::io::split(TokioIo::new(connection));
        _ = tokio::io::copy(&mut read, &mut write).await;
    });
    let mut granted = response(Body::empty());
    *granted.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let fields = granted.headers_mut();
    fields.insert(header::UPGRADE, "echo".parse().unwrap());
    fields.insert(header::CONNECTION, "upgrade".parse().unwrap());
    Ok(granted)
}

/// A connection through hyper that was upgraded. The server's side is done with it, and has dropped its service.
async fn upgraded<S, F>(service: &Bulkhead<S, Threads>) -> DuplexStream
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future = F>
        + Clone
        + Send
        + 'static,
    F: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
{
    let service = service.clone();
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Lane::new("logs"));
        service.clone().oneshot(request)
    });
    let (mut client, server) = tokio::io::duplex(1024);
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(server), service)
        .with_upgrades();
    let served = tokio::spawn(connection);
    let head = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(client.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
    served.await.unwrap().unwrap();
    client
}

/// Story: a tunnel in a lane with threads runs on them, and they did not know of it. They ended with the last clone of the
/// service, or with a drain that it held no place against, and cut it in the middle.
#[tokio::test]
async fn threads_run_on_for_upgraded_connections() {
    for (drained, logs) in [
        (false, logs()),
        (false, logs().hold(Hold::Head)),
        (false, logs().hold(Hold::Head).max_hold(HOUR)),
        (true, logs().hold(Hold::Head)),
    ] {
        let layer = two_lanes(logs);
        let handle = layer.handle();
        let (ended, ends) = mpsc::channel();
        let service = layer.layer(service_fn(move |request: Request<Incoming>| {
            AT_END.set(Some(AtEnd(ended.clone())));
            echo(request)
        }));
        let mut client = upgraded(&service).await;
        let kept = if drained {
            handle.drain().await;
            Some((layer, service))
        } else {
            drop((layer, service));
            None
        };
        for _ in 0..10 {
            client.write_all(b"ping").await.unwrap();
            let mut echoed = [0; 4];
            client.read_exact(&mut echoed).await.unwrap();
            assert_eq!(&echoed, b"ping");
        }
        assert_eq!(ends.try_recv(), Err(mpsc::TryRecvError::Empty));
        drop(client);
        tokio::task::spawn_blocking(move || ends.recv_timeout(PATIENCE))
            .await
            .unwrap()
            .unwrap();
        drop(kept);
    }
}
