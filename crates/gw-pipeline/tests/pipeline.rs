//! A whole pipeline: in front of axum's router, and as a service of its own.

#![allow(clippy::unwrap_used, reason = "assertions")]

use std::convert::Infallible;
use std::future::ready;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use bytes::Bytes;
use gw_core::context::{Deadline, RequestId};
use gw_core::record::Record;
use gw_core::stage::{FactSet, HasClientAddr, HasRoute, Stage};
use gw_pipeline::inbound::{
    self, BodyTimers, IdentityHeaders, IdentityHeadersLayer, IpFilterLayer, NotFound, RequestBody,
    RequestIdLayer, Route, RouteResolveLayer, RouteTable,
};
use gw_pipeline::outbound::AnswerLayer;
use gw_pipeline::pipeline::{InTime, InTimeBody};
use gw_pipeline::upstream::Failure;
use gw_pipeline::{
    Body, BoxError, Code, Identity, Lane, OnReject as _, PeerAddr, Pipeline, RejectContext,
    Rejection, Respond, RouteMatch, Timeouts, TrustedProxies, codes, plain,
};
use gw_testkit::body::ScriptedBody;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body_util::BodyExt as _;
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

fn routes() -> RouteTable {
    RouteTable::builder()
        .route(Route::path("slow", "/slow").deadline(Duration::from_secs(2)))
        .route(
            Route::path("create", "/items")
                .methods([Method::POST])
                .max_body_bytes(8),
        )
        .route(Route::prefix("all", "/all"))
        .build()
        .unwrap()
}

fn request(method: &str, target: &str) -> Request<Body> {
    let builder = Request::builder()
        .method(method)
        .uri(target)
        .header(header::HOST, "test.example");
    builder
        .extension(PeerAddr(SocketAddr::from(([192, 0, 2, 1], 49152))))
        .body(Body::empty())
        .unwrap()
}

async fn json(response: Response<Body>) -> serde_json::Value {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&bytes).unwrap()
}

/// A pipeline around `service`, with all stages of this crate.
fn pipeline<S, E>(
    service: S,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone
where
    S: Service<
            Request<gw_pipeline::inbound::RequestBody<Body>>,
            Response = Response<Body>,
            Error = E,
        > + Clone
        + Send
        + 'static,
    S::Future: Send,
    E: Into<BoxError> + Send,
{
    Pipeline::builder()
        .request_id(RequestIdLayer::new())
        .route_resolve(RouteResolveLayer::new(routes()))
        .ip_filter(IpFilterLayer::new(TrustedProxies::none()))
        .transform(IdentityHeadersLayer::new(IdentityHeaders::default()))
        .forward(service)
        .build()
}

#[tokio::test]
async fn a_request_passes_and_carries_what_was_found_out() {
    let service = service_fn(async |request: Request<_>| {
        assert_eq!(
            request.extensions().get::<RouteMatch>().unwrap().name(),
            "all"
        );
        assert!(request.extensions().get::<RequestId>().is_some());
        assert_eq!(request.uri(), "/all/b?q");
        assert!(!request.headers().contains_key("x-user-id"));
        Ok::<_, Infallible>(Response::new(Body::from("passed")))
    });
    let mut request = request("GET", "/all/a/../b?q");
    request
        .headers_mut()
        .insert("x-user-id", "admin".parse().unwrap());
    let response = pipeline(service).oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    assert_eq!(response.headers()["x-request-id"].len(), 36);
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "passed"
    );
}

#[tokio::test]
async fn errors_and_panics_become_envelopes_that_leak_nothing() {
    const SECRET: &str = "10.0.0.7:5432 password=hunter2";
    let fails = service_fn(async |_| Err::<Response<Body>, _>(std::io::Error::other(SECRET)));
    let panics = service_fn(
        async |_: Request<_>| -> Result<Response<Body>, Infallible> { panic!("{SECRET}") },
    );
    let failed = pipeline(fails)
        .oneshot(request("GET", "/all"))
        .await
        .unwrap();
    let panicked = pipeline(panics)
        .oneshot(request("GET", "/all"))
        .await
        .unwrap();
    for response in [failed, panicked] {
        assert_eq!(response.status(), 500);
        let id = response.headers()["x-request-id"]
            .to_str()
            .unwrap()
            .to_owned();
        assert!(!format!("{:?}", response.headers()).contains("hunter2"));
        let refused = response.extensions().get::<Rejection>().unwrap();
        assert!(
            std::error::Error::source(refused).is_some(),
            "the observer gets the cause"
        );
        let document = json(response).await;
        assert_eq!(document["error"]["code"], "INTERNAL");
        assert_eq!(document["error"]["request_id"], id);
        assert!(!document.to_string().contains("hunter2"));
    }
}

/// Whether a stage answers or fails, and whether the client reads HTTP's status or gRPC's.
#[tokio::test]
async fn who_is_to_come_back_is_told_when() {
    let refused = || Rejection::new(&codes::SHUTTING_DOWN);
    for grpc in [false, true] {
        for answers in [false, true] {
            let service = service_fn(move |request: Request<_>| {
                let context = RejectContext::of(&request);
                let answer: Result<_, Infallible> = Respond::new().reject(refused(), &context);
                ready(if answers {
                    Ok(answer.unwrap())
                } else {
                    Err(refused())
                })
            });
            let mut request = request("POST", "/all");
            if grpc {
                let value = HeaderValue::from_static("application/grpc");
                request.headers_mut().insert(header::CONTENT_TYPE, value);
            }
            let response = pipeline(service).oneshot(request).await.unwrap();
            assert_eq!(response.status(), if grpc { 200 } else { 503 });
            let when = response.headers()["retry-after"].to_str().unwrap();
            assert!(matches!(when, "1" | "2"), "{when}");
            let pushback = response.headers().get("grpc-retry-pushback-ms");
            let expected = grpc.then(|| format!("{when}000"));
            assert_eq!(pushback.map(|it| it.to_str().unwrap()), expected.as_deref());
        }
    }
}

#[tokio::test]
async fn what_has_no_route_is_refused_last() {
    let service = service_fn(async |_| Ok::<_, Infallible>(Response::new(Body::from("reached"))));
    let missing = pipeline(service)
        .oneshot(request("GET", "/nowhere"))
        .await
        .unwrap();
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    assert_eq!(json(missing).await["error"]["code"], "ROUTE_NOT_FOUND");

    let wrong = pipeline(service)
        .oneshot(request("DELETE", "/items"))
        .await
        .unwrap();
    assert_eq!(wrong.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(wrong.headers()[header::ALLOW], "POST");

    // The stages in between see it first: a denied address never learns that there is no route.
    let order = |rule| {
        let everyone = ["0.0.0.0/0".parse().unwrap()];
        Pipeline::builder()
            .route_resolve(RouteResolveLayer::new(routes()).not_found(rule))
            .ip_filter(IpFilterLayer::new(TrustedProxies::none()).deny(everyone))
            .forward(service)
            .build()
    };
    let late = order(NotFound::AfterAuth)
        .oneshot(request("GET", "/nowhere"))
        .await
        .unwrap();
    assert_eq!(late.status(), StatusCode::FORBIDDEN);
    let early = order(NotFound::Early)
        .oneshot(request("GET", "/nowhere"))
        .await
        .unwrap();
    assert_eq!(early.status(), StatusCode::NOT_FOUND);
}

/// Story: a content type alone let any body come as slowly as it liked, on any route.
#[tokio::test(start_paused = true)]
async fn only_grpc_calls_may_be_silent_and_only_where_a_route_says_so() {
    const LATE: u64 = BodyTimers::GRACE.as_secs();
    let route = |path| Route::path(path, path).deadline(Duration::from_secs(60));
    let table = RouteTable::builder()
        .route(route("/calls").grpc_streams(Timeouts::default()))
        .route(route("/plain"))
        .build()
        .unwrap();
    let pipeline = Pipeline::builder()
        .route_resolve(RouteResolveLayer::new(table))
        .forward(service_fn(async |request: Request<RequestBody<_>>| {
            let body = request.into_body().collect().await?;
            Ok::<_, BoxError>(Response::new(Body::from(body.to_bytes())))
        }))
        .build();
    let grpc = "application/grpc+proto";
    for (path, method, version, content_type, seconds) in [
        ("/calls", "POST", Version::HTTP_2, grpc, 60),
        ("/plain", "POST", Version::HTTP_2, grpc, LATE),
        ("/calls", "PUT", Version::HTTP_2, grpc, LATE),
        ("/calls", "POST", Version::HTTP_11, grpc, LATE),
        ("/calls", "POST", Version::HTTP_2, "application/json", LATE),
    ] {
        let (body, _) = ScriptedBody::script().data("x").hold().build();
        let mut request = request(method, path).map(|_| Body::new(body));
        *request.version_mut() = version;
        let content_type = HeaderValue::from_static(content_type);
        request.headers_mut().insert("content-type", content_type);
        let start = tokio::time::Instant::now();
        pipeline.clone().oneshot(request).await.unwrap();
        assert_eq!(start.elapsed().as_secs(), seconds, "{method} {path}");
    }
}

/// Story: streams that were silent for 15 s before their head, or 30 s after it, were cut however long their deadline was.
#[tokio::test]
async fn grpc_calls_have_the_timers_that_the_route_gives_them() {
    let timers = |seconds| {
        let time = Duration::from_secs(seconds);
        Timeouts::new().attempt(time).first_byte(time).idle(time)
    };
    let table = RouteTable::builder()
        .route(
            Route::path("both", "/both")
                .timeouts(timers(5))
                .grpc_streams(timers(3600)),
        )
        .route(Route::path("plain", "/plain").timeouts(timers(5)))
        .build()
        .unwrap();
    let pipeline = Pipeline::builder()
        .route_resolve(RouteResolveLayer::new(table))
        .forward(service_fn(async |request: Request<RequestBody<_>>| {
            let mut response = Response::new(Body::from(""));
            let timers = request.extensions().get::<Timeouts>().copied();
            response.extensions_mut().insert(timers);
            Ok::<_, BoxError>(response)
        }))
        .build();
    for (path, content_type, seconds) in [
        ("/both", "application/grpc", 3600),
        ("/both", "application/json", 5),
        ("/plain", "application/grpc", 5),
    ] {
        let mut request = request("POST", path);
        *request.version_mut() = Version::HTTP_2;
        let value = HeaderValue::from_static(content_type);
        request.headers_mut().insert("content-type", value);
        let response = pipeline.clone().oneshot(request).await.unwrap();
        let seen = response.extensions().get::<Option<Timeouts>>().unwrap();
        assert_eq!(*seen, Some(timers(seconds)), "{path} {content_type}");
    }
}

#[tokio::test]
async fn a_lanes_own_listener_has_its_routes_only() {
    let logs = Lane::new("logs");
    let table = RouteTable::builder()
        .route(Route::prefix("logs", "/logs").lane(logs.clone()))
        .route(Route::prefix("core", "/core").lane(Lane::new("core")))
        .build()
        .unwrap();
    let (sender, lanes) = std::sync::mpsc::channel();
    let note = tower::util::MapRequestLayer::new(move |request: Request<_>| {
        let lane = request.extensions().get::<Lane>();
        sender.send(lane.map(|it| it.as_str().to_owned())).unwrap();
        request
    });
    let pipeline = Pipeline::builder()
        .route_resolve(RouteResolveLayer::new(table).only_lane(logs))
        .admit(plain(note))
        .forward(service_fn(async |_: Request<_>| {
            Ok::<_, Rejection>(Response::new(Body::empty()))
        }))
        .build();
    for (path, status, route) in [
        ("/logs/x", 200, Some(0)),
        // Who calls what is not there takes a place of this lane, and none of another.
        ("/core", 404, None),
        ("/nowhere", 404, None),
    ] {
        let record = Record::default();
        let mut request = request("GET", path);
        request.extensions_mut().insert(record.clone());
        let response = pipeline.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(lanes.try_recv().unwrap().as_deref(), Some("logs"), "{path}");
        let found = record
            .exchange()
            .route
            .as_ref()
            .and_then(RouteMatch::ordinal);
        assert_eq!(found, route, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_ends_an_exchange() {
    let never = service_fn(async |_| {
        std::future::pending::<()>().await;
        Ok::<_, Infallible>(Response::new(Body::empty()))
    });
    let start = tokio::time::Instant::now();
    let response = pipeline(never)
        .oneshot(request("GET", "/slow"))
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(start.elapsed(), Duration::from_secs(2));

    // It counts from the head, whatever the request waited for in front of the route stage.
    let start = tokio::time::Instant::now();
    let mut late = request("GET", "/slow");
    late.extensions_mut().insert(Record::begun(start));
    tokio::time::advance(Duration::from_millis(1500)).await;
    let response = pipeline(never).oneshot(late).await.unwrap();
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(start.elapsed(), Duration::from_secs(2));

    let streams = service_fn(async |_| {
        let (body, _) = ScriptedBody::script().data("begun").hold().build();
        Ok::<_, Infallible>(Response::new(Body::new(body)))
    });
    let mut response = pipeline(streams)
        .oneshot(request("GET", "/slow"))
        .await
        .unwrap();
    assert_eq!(
        response
            .body_mut()
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_data()
            .unwrap(),
        "begun"
    );
    assert!(
        response.body_mut().frame().await.unwrap().is_err(),
        "cut, and not ended as if complete"
    );
}

#[tokio::test]
async fn a_body_over_the_routes_limit_is_refused() {
    // Story: a service had to know of `ClientFault`; what it made of the body's error by itself was answered 500.
    let reads = service_fn(async |request: Request<RequestBody<Body>>| {
        let body = request.into_body().collect().await?;
        Ok::<_, BoxError>(Response::new(Body::from(body.to_bytes())))
    });
    let send = |body: &'static str, declared: bool| async move {
        let mut request = request("POST", "/items");
        if declared {
            request
                .headers_mut()
                .insert(header::CONTENT_LENGTH, body.len().into());
        }
        *request.body_mut() = Body::from(body);
        pipeline(reads).oneshot(request).await.unwrap().status()
    };
    assert_eq!(send("12345678", true).await, StatusCode::OK);
    assert_eq!(send("123456789", true).await, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(
        send("123456789", false).await,
        StatusCode::PAYLOAD_TOO_LARGE
    );
}

#[tokio::test]
async fn a_pipeline_without_end_goes_around_an_axum_router() {
    let layer = Pipeline::builder()
        .request_id(RequestIdLayer::new())
        .route_resolve(RouteResolveLayer::new(routes()))
        .into_layer();
    let router = Router::new()
        .route("/all", get(|| async { "axum" }))
        .route("/items", post(|body: Bytes| async move { body }));
    let router = Router::new().fallback_service(layer.layer(router));
    let get = |target| {
        router
            .clone()
            .oneshot(request("GET", target).map(axum::body::Body::new))
    };
    assert_eq!(get("/all").await.unwrap().status(), 200);
    assert_eq!(get("//all").await.unwrap().status(), 200);
    // axum has no handler for it, but the table has a route: the answer is axum's.
    assert_eq!(get("/all/x").await.unwrap().status(), 404);
    let response = get("/nowhere").await.unwrap();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
}

/// Story: `Router::layer` put the pipeline behind axum's routing, which had chosen `/admin/{section}` for `/admin/..`; the
/// pipeline took it for `/`, which is for all, and the admin's handler was called.
#[tokio::test]
async fn no_path_is_one_routes_for_axum_and_anothers_for_the_pipeline() {
    let table = RouteTable::builder()
        .route(Route::path("public", "/"))
        .route(Route::prefix("admin", "/admin"))
        .build()
        .unwrap();
    let scopes = inbound::ScopesLayer::by_route(&table, [("admin", ["admin"])]).unwrap();
    let pipeline = Pipeline::builder()
        .route_resolve(RouteResolveLayer::new(table))
        .ip_filter(IpFilterLayer::new(TrustedProxies::none()))
        .authenticate(TokenLayer)
        .authorize(scopes)
        .into_layer();
    let routes = Router::new()
        .route("/", get(|| async { "public" }))
        .route("/admin/{section}", get(|| async { "admin" }));
    let around = Router::new().fallback_service(pipeline.clone().layer(routes.clone()));
    let nested = Router::new().nest("/api", routes.clone().layer(pipeline.clone()));
    let inside = routes.layer(pipeline);
    let mut forms = vec![(around, "", 200)];
    if cfg!(any(feature = "axum", feature = "tonic")) {
        forms.extend([(inside, "", 400), (nested, "/api", 400)]);
    }
    for (app, prefix, ambiguous) in forms {
        let get = async |target: &str| {
            let request = request("GET", &format!("{prefix}{target}"));
            let request = request.map(axum::body::Body::new);
            let answer = app.clone().oneshot(request).await.unwrap();
            let status = answer.status();
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert_ne!(body, "admin", "{prefix}{target}");
            status
        };
        assert_eq!(get("/admin/users").await, 403);
        for target in ["/admin/..", "/admin/%2e%2E"] {
            assert_eq!(get(target).await, ambiguous, "{prefix}{target}");
        }
        if prefix.is_empty() {
            assert_eq!(get("/").await, 200);
        }
    }
}

/// A stage of a user's own, which states what it needs and gives.
#[derive(Clone)]
struct TokenLayer;

impl<F: FactSet + HasRoute + HasClientAddr> Stage<F> for TokenLayer {
    type Facts = F::WithIdentity;
    type Layer = Self;

    fn into_layer(self) -> Self {
        self
    }
}

impl<S> tower::Layer<S> for TokenLayer {
    type Service = Token<S>;

    fn layer(&self, inner: S) -> Token<S> {
        Token(inner)
    }
}

#[derive(Clone)]
struct Token<S>(S);

impl<S: Service<Request<B>>, B> Service<Request<B>> for Token<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        request
            .extensions_mut()
            .insert(Identity::new(Default::default()));
        self.0.call(request)
    }
}

/// A stage that needs an identity.
#[derive(Clone)]
struct ScopesLayer;

impl<F: FactSet + gw_pipeline::HasIdentity> Stage<F> for ScopesLayer {
    type Facts = F;
    type Layer = tower::layer::util::Identity;

    fn into_layer(self) -> Self::Layer {
        tower::layer::util::Identity::new()
    }
}

#[tokio::test]
async fn stages_from_elsewhere_fit() {
    let builder = Pipeline::builder()
        .answer(AnswerLayer::new())
        .route_resolve(RouteResolveLayer::new(routes()))
        .ip_filter(IpFilterLayer::new(TrustedProxies::none()))
        .admit(plain(tower::limit::GlobalConcurrencyLimitLayer::new(1)))
        .authenticate(TokenLayer)
        .authorize(ScopesLayer)
        .validate(plain(tower_http::limit::RequestBodyLimitLayer::new(1)))
        .forward(service_fn(async |request: Request<_>| {
            assert!(request.extensions().get::<Identity>().is_some());
            Ok::<_, Infallible>(Response::new(Body::from("passed")))
        }));
    let slots: Vec<_> = builder
        .describe()
        .stages()
        .iter()
        .map(|stage| stage.slot())
        .collect();
    let expected = [
        "answer",
        "route_resolve",
        "ip_filter",
        "admit",
        "authenticate",
        "authorize",
        "validate",
        "forward",
    ];
    assert_eq!(slots, expected);
    let response = builder
        .build()
        .oneshot(request("GET", "/all"))
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn without_a_pipeline_nothing_passes_that_has_no_route() {
    // Story: the late refusal is answered by the pipeline's end. As a plain layer, the stage had none behind it, and let
    // every unmatched request through.
    let service = service_fn(async |_| Ok::<_, Infallible>(Response::new(Body::from("reached"))));
    let resolve = RouteResolveLayer::new(routes()).not_found(NotFound::AfterAuth);
    let layered = tower::Layer::layer(&resolve, service);
    for (method, target, status) in [("GET", "/nowhere", 404), ("DELETE", "/items", 405)] {
        let response = layered
            .clone()
            .oneshot(request(method, target))
            .await
            .unwrap();
        assert_eq!(response.status(), status);
    }
    let response = layered.oneshot(request("GET", "/all")).await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_cuts_a_body_that_never_waits() {
    // Story: the timer was looked at only while the body was pending. A slow reader of a fast upstream held its place in
    // the lane for hours, since there was always more to read.
    let fast = service_fn(async |_| {
        let script = (0..1000).fold(ScriptedBody::script(), |s, _| s.data("x"));
        Ok::<_, Infallible>(Response::new(Body::new(script.build().0)))
    });
    let record = Record::default();
    let mut request = request("GET", "/slow");
    request.extensions_mut().insert(record.clone());
    let mut response = pipeline(fast).oneshot(request).await.unwrap();
    let mut frames = 0;
    while let Some(Ok(_)) = response.body_mut().frame().await {
        frames += 1;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(frames, 2, "the route's deadline is two seconds");
    assert_eq!(refused(&record), (Some("forward"), Some("GATEWAY_TIMEOUT")));
}

/// Story: the refusal said that it was none of the service's doing that it had not answered, so whoever finds the limit of a lane
/// by such refusals had to guess.
#[tokio::test(start_paused = true)]
async fn who_was_waited_for_until_the_deadline_is_told() {
    type Asks = fn(tokio::time::Instant) -> Deadline;
    let seconds = Duration::from_secs;
    let of_ours: Asks = |now| Deadline::at(now + Duration::from_secs(2));
    let of_the_client: Asks = |now| Deadline::at(now + Duration::from_secs(2)).by_client();
    let passed: Asks = |now| Deadline::at(now);
    for (deadline, failure, waited) in [
        (of_ours, Failure::Unknown, seconds(2)),
        (of_the_client, Failure::Local, seconds(2)),
        // It was not called.
        (passed, Failure::Refused, seconds(0)),
    ] {
        let never = service_fn(async |_: Request<Body>| {
            std::future::pending::<()>().await;
            Ok::<_, BoxError>(Response::new(Body::empty()))
        });
        let now = tokio::time::Instant::now();
        let mut request = request("GET", "/slow");
        request.extensions_mut().insert(deadline(now));
        let error = InTime::new(never).oneshot(request).await.unwrap_err();
        let refused = Rejection::find(&*error).unwrap();
        assert_eq!((refused.failure(), now.elapsed()), (failure, waited));
    }
}

/// Story: the log had no cause where the deadline of a local service's route had passed, and a 504 without one is, as the manual has
/// it, the upstream's own or that of a lane's `max_hold`.
#[tokio::test(start_paused = true)]
async fn the_observer_learns_that_it_was_the_deadline() {
    let service = service_fn(async |request: Request<_>| {
        if request.headers().contains_key("hangs") {
            std::future::pending::<()>().await;
        }
        let (body, _) = ScriptedBody::script().data("begun").hold().build();
        Ok::<_, Infallible>(Response::new(Body::new(body)))
    });
    // Before the head, after it, and before the service is called.
    for (hangs, waited) in [(true, 0), (false, 0), (false, 2)] {
        let record = Record::begun(tokio::time::Instant::now());
        tokio::time::advance(Duration::from_secs(waited)).await;
        let mut request = request("GET", "/slow");
        request.extensions_mut().insert(record.clone());
        if hangs {
            let hangs = HeaderValue::from_static("yes");
            request.headers_mut().insert("hangs", hangs);
        }
        let response = pipeline(service).oneshot(request).await.unwrap();
        _ = response.into_body().collect().await;
        assert_eq!(refused(&record), (Some("forward"), Some("GATEWAY_TIMEOUT")));
        let cause = record.exchange().cause;
        assert_eq!(cause, Some("deadline_passed"), "{hangs} {waited}");
    }
}

/// Story: the timer was looked at before the body was. An answer that a local service had ready at the very deadline went out as a
/// broken 200: its head beat the timer, and its body, all at hand, did not.
#[tokio::test(start_paused = true)]
async fn a_body_that_is_ready_beats_the_deadline_that_comes_with_it() {
    let at_the_deadline = |body: fn() -> Body| {
        service_fn(move |_| async move {
            tokio::time::sleep(Duration::from_secs(2)).await;
            Ok::<_, Infallible>(Response::new(body()))
        })
    };
    let whole = || Body::from("done");
    let with_trailers = || {
        let script = ScriptedBody::script().trailers([("a", "b")]);
        Body::new(script.build().0)
    };
    let failed = || {
        let script = ScriptedBody::script().error("the body's own");
        Body::new(script.build().0)
    };
    let end = async |body: fn() -> Body| {
        let slow = request("GET", "/slow");
        let response = pipeline(at_the_deadline(body)).oneshot(slow).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.into_body().collect().await
    };
    assert_eq!(end(whole).await.unwrap().to_bytes(), "done");
    assert!(end(with_trailers).await.unwrap().trailers().is_some());
    let error = end(failed).await.unwrap_err();
    assert_eq!(error.to_string(), "the body's own");

    // What is not the end of the answer is cut, though it is there.
    let goes_on = || Body::new(ScriptedBody::script().data("a").data("b").build().0);
    let error = end(goes_on).await.unwrap_err();
    assert_eq!(error.to_string(), "the deadline of the exchange passed");
}

/// Story: a declared length over the limit was refused before the IP filter and the limiter, so that whoever they shut
/// out could still learn which paths exist and how much they take.
#[tokio::test]
async fn a_declared_length_tells_nothing_to_those_who_are_shut_out() {
    let service = service_fn(
        async |_: Request<gw_pipeline::inbound::RequestBody<Body>>| {
            Ok::<_, Rejection>(Response::new(Body::empty()))
        },
    );
    let statuses = |not_found| async move {
        let nobody =
            IpFilterLayer::new(TrustedProxies::none()).deny(["0.0.0.0/0".parse().unwrap()]);
        let pipeline = Pipeline::builder()
            .route_resolve(RouteResolveLayer::new(routes()).not_found(not_found))
            .ip_filter(nobody)
            .forward(service)
            .build();
        let mut request = request("POST", "/items");
        request
            .headers_mut()
            .insert(header::CONTENT_LENGTH, 9.into());
        *request.body_mut() = Body::from("123456789");
        pipeline.oneshot(request).await.unwrap().status()
    };
    assert_eq!(statuses(NotFound::AfterAuth).await, StatusCode::FORBIDDEN);
    assert_eq!(
        statuses(NotFound::Early).await,
        StatusCode::PAYLOAD_TOO_LARGE
    );
}

/// Story: what the route stage refuses never comes to the one that finds the client behind its proxies, and the access log named the
/// balancer.
#[tokio::test]
async fn the_observer_learns_who_sent_what_is_refused_at_once() {
    let service = service_fn(async |_: Request<inbound::RequestBody<Body>>| {
        Ok::<_, Infallible>(Response::new(Body::empty()))
    });
    let client = async |proxies: TrustedProxies, target: &str| {
        let resolve = RouteResolveLayer::new(routes()).not_found(NotFound::Early);
        let pipeline = Pipeline::builder()
            .route_resolve(resolve.trusted_proxies(proxies.clone()))
            .ip_filter(IpFilterLayer::new(proxies))
            .forward(service)
            .build();
        let record = Record::default();
        let mut request = request("GET", target);
        request.extensions_mut().insert(record.clone());
        request
            .headers_mut()
            .insert("x-forwarded-for", "203.0.113.9".parse().unwrap());
        let status = pipeline.oneshot(request).await.unwrap().status();
        let client = record.exchange().client.unwrap().ip();
        (status.as_u16(), client.to_string())
    };
    let balancer = || TrustedProxies::new(["192.0.2.0/24".parse().unwrap()]);
    let long = format!("/{}", "a".repeat(10_000));
    for (target, status) in [
        ("/all", 200),
        ("/nowhere", 404),
        ("/a%2Fb", 400),
        (&*long, 414),
    ] {
        let seen = client(balancer(), target).await;
        assert_eq!(seen, (status, "203.0.113.9".to_owned()), "{target}");
        // Anybody can send such a field.
        let seen = client(TrustedProxies::none(), target).await;
        assert_eq!(seen, (status, "192.0.2.1".to_owned()), "{target}");
    }
}

/// Who refused or failed, and why.
fn refused(record: &Record) -> (Option<&'static str>, Option<&'static str>) {
    let exchange = record.exchange();
    (exchange.refused_by, exchange.code.map(Code::name))
}

#[tokio::test(start_paused = true)]
async fn the_observer_learns_the_id_and_who_refused() {
    let service = service_fn(async |request: Request<_>| match request.uri().path() {
        "/slow" => std::future::pending().await,
        "/all/fails" => Err(BoxError::from("a cause")),
        "/all/refuses" => Err(Rejection::new(&gw_pipeline::codes::BAD_GATEWAY).into()),
        "/all/panics" => panic!("a test"),
        _ => Ok(Response::new(Body::from("passed"))),
    });
    for (method, target, stage, code) in [
        ("GET", "/all", None, None),
        (
            "GET",
            "/all/..%2fb",
            Some("route_resolve"),
            Some("MALFORMED_REQUEST"),
        ),
        (
            "GET",
            "/nothing",
            Some("route_resolve"),
            Some("ROUTE_NOT_FOUND"),
        ),
        (
            "GET",
            "/items",
            Some("route_resolve"),
            Some("METHOD_NOT_ALLOWED"),
        ),
        ("GET", "/slow", Some("forward"), Some("GATEWAY_TIMEOUT")),
        ("GET", "/all/fails", Some("forward"), Some("INTERNAL")),
        ("GET", "/all/refuses", Some("forward"), Some("BAD_GATEWAY")),
        // Nobody says which stage it was.
        ("GET", "/all/panics", None, Some("INTERNAL")),
    ] {
        let record = Record::default();
        let mut request = request(method, target);
        request.extensions_mut().insert(record.clone());
        let response = pipeline(service).oneshot(request).await.unwrap();
        let id = record.exchange().request_id.unwrap();
        assert_eq!(response.headers()["x-request-id"], id.as_str(), "{target}");
        assert_eq!(refused(&record), (stage, code), "{target}");
    }
    let record = Record::default();
    let mut request = request("GET", "/all");
    request.extensions_mut().insert(record.clone());
    let everybody = ["0.0.0.0/0".parse().unwrap()];
    let pipeline = Pipeline::builder()
        .route_resolve(RouteResolveLayer::new(routes()))
        .ip_filter(IpFilterLayer::new(TrustedProxies::none()).deny(everybody))
        .forward(service)
        .build();
    pipeline.oneshot(request).await.unwrap();
    assert_eq!(
        refused(&record),
        (Some("ip_filter"), Some("ADDRESS_DENIED"))
    );
}

/// Story: what stood in the extensions before the route was found took the place of what the route says.
#[tokio::test]
async fn what_the_route_says_counts_and_what_it_leaves_open_stays() {
    let table = RouteTable::builder()
        .route(Route::path("fast", "/fast").lane(Lane::new("fast")))
        .route(Route::path("open", "/open"))
        .build()
        .unwrap();
    let lane = service_fn(
        async |request: Request<gw_pipeline::inbound::RequestBody<Body>>| {
            let lane = request.extensions().get::<Lane>().map(Lane::as_str);
            Ok::<_, Infallible>(Response::new(Body::from(lane.unwrap_or("none").to_owned())))
        },
    );
    let service = tower::Layer::layer(&RouteResolveLayer::new(table), lane);
    for (target, behind_another_route, expected) in [
        ("/fast", false, "fast"),
        ("/open", false, "slow"),
        ("/fast", true, "fast"),
        ("/open", true, "none"),
    ] {
        let mut request = request("GET", target);
        request.extensions_mut().insert(Lane::new("slow"));
        if behind_another_route {
            let outer = RouteMatch::new(0, "outer", "/");
            request.extensions_mut().insert(outer);
        }
        let response = service.clone().oneshot(request).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, expected, "{target} {behind_another_route}");
    }
}

/// A layer further in reads the settings of the route that it serves.
#[tokio::test]
async fn a_route_gives_its_requests_what_layers_read() {
    #[derive(Clone)]
    struct Setting(&'static str);
    let table = RouteTable::builder()
        .route(
            Route::path("set", "/set")
                .extension(Setting("first"))
                .extension(Setting("last")),
        )
        .route(Route::path("unset", "/unset"))
        .build()
        .unwrap();
    let telling = service_fn(
        async |request: Request<gw_pipeline::inbound::RequestBody<Body>>| {
            let setting = request.extensions().get::<Setting>();
            let setting = setting.map_or("none", |Setting(value)| value);
            Ok::<_, Infallible>(Response::new(Body::from(setting.to_owned())))
        },
    );
    let service = tower::Layer::layer(&RouteResolveLayer::new(table), telling);
    for (target, expected) in [("/set", "last"), ("/unset", "none")] {
        let response = service.clone().oneshot(request("GET", target)).await;
        let body = response.unwrap().into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), expected, "{target}");
    }
}

/// tower-http's `TimeoutLayer` and `CorsLayer` make such bodies.
#[test]
fn a_default_body_has_ended() {
    assert!(http_body::Body::is_end_stream(
        &InTimeBody::<Body>::default()
    ));
}
