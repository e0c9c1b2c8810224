//! Which thread a request runs on, and what that means for the others.

use std::convert::Infallible;
use std::future::Future;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use gw_bulkhead::Mode;
use gw_bulkhead::{BulkheadLayer, LaneConfig};
use gw_core::Body;
use gw_testkit::body::ScriptedBody;
use gw_testkit::{PATIENCE, within};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tokio::sync::oneshot;
use tower::{Layer as _, service_fn};

use super::support::{call, in_flight, places, request, request_in};
use super::{logs, response, settles_at, two_lanes};

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

/// Story: streams and upgraded connections, which only wait, counted as work. All short requests of a lane ran on the one thread that
/// had none of them.
#[tokio::test]
async fn streams_that_only_wait_are_no_work() {
    let layer = BulkheadLayer::builder(places(100))
        .lane(LaneConfig::new("core").threads(3))
        .with_threads()
        .build()
        .unwrap();
    let mut service = layer.layer(service_fn(move |request: Request<()>| {
        let thread = thread::current().name().unwrap_or_default().to_owned();
        let mut answer = response(thread.clone());
        if request.uri().path() == "/stream" {
            *answer.body_mut() = Body::new(ScriptedBody::script().hold().build().0);
        }
        let name = http::HeaderValue::try_from(thread).unwrap();
        answer.headers_mut().insert("thread", name);
        std::future::ready(Ok::<_, Infallible>(answer))
    }));
    let mut ask = async |path: &'static str| {
        let mut request = request();
        *request.uri_mut() = path.parse().unwrap();
        let answer = call(&mut service, request).await.await.unwrap();
        let thread = answer.headers()["thread"].to_str().unwrap().to_owned();
        (thread, answer)
    };
    let streams = [ask("/stream").await, ask("/stream").await];
    let mut turns = Vec::new();
    for _ in 0..6 {
        turns.push(ask("/").await.0);
    }
    let threads = [2, 0, 1, 2, 0, 1].map(|number| format!("gw-lane-core-{number}"));
    assert_eq!(turns, threads);
    drop(streams);
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
