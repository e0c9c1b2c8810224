use std::future::ready;

use gw_core::Problem;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use super::*;

/// A renderer that says nothing but that it was asked.
#[derive(Debug, Clone)]
struct Terse;

impl OnReject<Response<Body>, Infallible> for Terse {
    type Error = Infallible;

    fn reject(
        &self,
        rejection: Rejection,
        _: &RejectContext,
    ) -> Result<Response<Body>, Infallible> {
        let mut response = Response::new(Body::from("terse"));
        response.extensions_mut().insert(rejection);
        Ok(response)
    }

    fn inner(error: Infallible) -> Infallible {
        error
    }
}

/// What stands in `Retry-After` and in the field for gRPC clients, rendered by `on_reject` in place of an upstream's answer
/// that says `told`.
async fn replaced<R>(on_reject: R, grpc: bool, told: Option<&str>) -> (Option<u64>, Option<u64>)
where
    R: OnReject<Response<Body>, Infallible, Error = Infallible>,
{
    replaced_behind(None, on_reject, grpc, told).await
}

/// The same behind a layer that lets nobody pass for so many seconds.
async fn replaced_behind<R>(
    shut_for: Option<u64>,
    on_reject: R,
    grpc: bool,
    told: Option<&str>,
) -> (Option<u64>, Option<u64>)
where
    R: OnReject<Response<Body>, Infallible, Error = Infallible>,
{
    let mut upstream = Response::builder().status(503);
    if let Some(told) = told {
        upstream = upstream.header(header::RETRY_AFTER, told);
    }
    let mut upstream = upstream.body(Body::from("at db-7:5432")).unwrap();
    let replace = ReplaceBody(&codes::UPSTREAM_UNAVAILABLE);
    upstream.extensions_mut().insert(replace);
    shut(&mut upstream, shut_for);
    answered(on_reject, grpc, upstream).await
}

fn shut(answer: &mut Response<Body>, seconds: Option<u64>) {
    if let Some(seconds) = seconds {
        let after = RetryAfter::at_least(Duration::from_secs(seconds));
        NotBefore::leave(after, answer.extensions_mut());
    }
}

async fn answered<R>(on_reject: R, grpc: bool, answer: Response<Body>) -> (Option<u64>, Option<u64>)
where
    R: OnReject<Response<Body>, Infallible, Error = Infallible>,
{
    let mut answer = Some(Ok::<_, Infallible>(answer));
    let inner = tower::service_fn(move |_: Request<()>| ready(answer.take().unwrap()));
    let service = AnswerLayer::new().on_reject(on_reject).layer(inner);
    let mut request = Request::post("/").body(()).unwrap();
    if grpc {
        let value = HeaderValue::from_static("application/grpc");
        request.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    let response = service.oneshot(request).await.unwrap();
    let number = |name: &HeaderName| {
        let value = response.headers().get(name)?;
        value.to_str().unwrap().parse().ok()
    };
    (number(&header::RETRY_AFTER), number(&PUSHBACK))
}

#[tokio::test]
async fn whatever_renders_it_a_replaced_answer_says_when() {
    assert_eq!(replaced(Terse, false, Some("7")).await, (Some(7), None));
    assert_eq!(
        replaced(Terse, true, Some("7")).await,
        (Some(7), Some(7000))
    );
    for told in [None, Some("0")] {
        let (seconds, pushback) = replaced(Terse, false, told).await;
        assert!(matches!(seconds, Some(1 | 2)), "{seconds:?}");
        assert_eq!(pushback, None);
        let (seconds, pushback) = replaced(Terse, true, told).await;
        assert!(matches!(seconds, Some(1 | 2)), "{seconds:?}");
        assert_eq!(pushback, seconds.map(|it| it * 1000));
    }
}

/// Story: of a gRPC call that an upstream had answered 503 the log had a status of 200, and nothing else. With a 502 the call was
/// UNAVAILABLE, which callers try again, and had been sent.
#[tokio::test]
async fn a_grpc_call_whose_answer_is_replaced_has_a_code_on_record() {
    let unavailable = (503, &codes::UPSTREAM_UNAVAILABLE);
    let broken = (502, &codes::BAD_GATEWAY);
    for (content_type, (answered, replaced), status) in [
        ("application/grpc", unavailable, Some("14")),
        ("application/grpc", broken, Some("13")),
        // Whose status says it.
        ("application/json", unavailable, None),
    ] {
        let code = status.map(|_| replaced);
        let inner = tower::service_fn(|_: Request<()>| {
            let mut upstream = Response::new(Body::from("at db-7:5432"));
            *upstream.status_mut() = StatusCode::from_u16(answered).unwrap();
            upstream.extensions_mut().insert(ReplaceBody(replaced));
            ready(Ok::<_, Infallible>(upstream))
        });
        let record = Record::default();
        let request = Request::post("/")
            .header(header::CONTENT_TYPE, content_type)
            .extension(record.clone());
        let request = request.body(()).unwrap();
        let answer = AnswerLayer::new().layer(inner).oneshot(request).await;
        let answer = answer.unwrap();
        let told = answer.headers().get("grpc-status");
        assert_eq!(told.map(|it| it.to_str().unwrap()), status);
        assert!(answer.extensions().get::<Rejection>().is_none());
        let exchange = record.exchange();
        assert_eq!(exchange.code, code, "{content_type}");
        assert_eq!(exchange.refused_by, code.map(|_| "forward"));
    }
}

/// Story: of what a timer in a slot had refused, the log did not say which timer it was.
#[tokio::test]
async fn what_a_stage_has_noted_as_the_cause_of_its_refusal_stays() {
    for (refused, cause) in [
        (&codes::GATEWAY_TIMEOUT, Some("deadline_passed")),
        // Of another one than is answered.
        (&codes::OVERLOADED, None),
    ] {
        let record = Record::default();
        record.update(|exchange| {
            exchange.code = Some(&codes::GATEWAY_TIMEOUT);
            exchange.cause = Some("deadline_passed");
        });
        let inner = tower::service_fn(|_: Request<()>| {
            let mut answer = Response::new(Body::empty());
            answer.extensions_mut().insert(Rejection::new(refused));
            ready(Ok::<_, Infallible>(answer))
        });
        let request = Request::builder().extension(record.clone());
        let request = request.body(()).unwrap();
        let answered = AnswerLayer::new().layer(inner).oneshot(request).await;
        answered.unwrap();
        let noted = record.exchange();
        assert_eq!((noted.code, noted.cause), (Some(refused), cause));
    }
}

/// The field passes, for those who trust it.
#[tokio::test]
async fn an_upstream_puts_nobody_off_for_longer_than_an_hour_by_our_word() {
    let forever = u64::from(u32::MAX);
    for (told, pushback) in [(3600, 3_600_000), (3601, 3_600_000), (forever, 3_600_000)] {
        let text = told.to_string();
        let expected = (Some(told), Some(pushback));
        assert_eq!(replaced(Respond::new(), true, Some(&text)).await, expected);
        assert_eq!(replaced(Terse, true, Some(&text)).await, expected);
    }
}

/// Of a refusal, too: by its hint, else by the field that a stage has set, else soon.
#[tokio::test]
async fn both_fields_of_a_refusal_say_the_same() {
    let refused = |hint: Option<u64>, field: Option<u64>| {
        let mut rejection = Rejection::new(&codes::SHUTTING_DOWN);
        if let Some(hint) = hint {
            rejection = rejection.retry_after(RetryAfter::at_least(Duration::from_secs(hint)));
        }
        let mut response = Terse.reject(rejection, &RejectContext::default()).unwrap();
        if let Some(field) = field {
            let fields = response.headers_mut();
            fields.insert(header::RETRY_AFTER, HeaderValue::from(field));
        }
        response
    };
    for answer in [refused(Some(9), None), refused(None, Some(9))] {
        assert_eq!(answered(Terse, true, answer).await, (Some(9), Some(9000)));
    }
    let (seconds, pushback) = answered(Terse, true, refused(None, None)).await;
    assert!(matches!(seconds, Some(1 | 2)), "{seconds:?}");
    assert_eq!(pushback, seconds.map(|it| it * 1000));
}

/// Story: a limit that was used up told `r=0;t=60`, and raised what asked to come back sooner; but what this layer itself adds to a
/// 503 that says nothing came after that, and asked to come back within two seconds.
#[tokio::test]
async fn nobody_is_asked_back_before_a_layer_further_in_lets_pass() {
    let seven = (Some(7), Some(7000));
    for told in [
        None,
        Some("0"),
        Some("6"),
        Some("Sun, 06 Nov 1994 08:49:37 GMT"),
    ] {
        let rendered = replaced_behind(Some(7), Respond::new(), true, told).await;
        assert_eq!(rendered, seven, "{told:?}");
        assert_eq!(replaced_behind(Some(7), Terse, true, told).await, seven);
        let http = replaced_behind(Some(7), Terse, false, told).await;
        assert_eq!(http, (Some(7), None));
    }
    // Later is well, and the layer's word goes beyond what an upstream's does.
    let later = replaced_behind(Some(7), Terse, true, Some("9")).await;
    assert_eq!(later, (Some(9), Some(9000)));
    let longer = replaced_behind(Some(7200), Terse, true, Some("7200")).await;
    assert_eq!(longer, (Some(7200), Some(7_200_000)));
    for hint in [None, Some(RetryAfter::at_least(Duration::from_secs(2)))] {
        let rejection = Rejection::new(&codes::SHUTTING_DOWN);
        let rejection = match hint {
            Some(hint) => rejection.retry_after(hint),
            None => rejection,
        };
        let mut refused = Terse.reject(rejection, &RejectContext::default()).unwrap();
        shut(&mut refused, Some(7));
        assert_eq!(answered(Terse, true, refused).await, seven, "{hint:?}");
    }
}

/// Story: an upstream's 501 was passed as such, and the document in its place said 502.
#[tokio::test]
async fn the_document_in_place_of_an_answer_says_its_status() {
    for status in [501, 503, 507, 520] {
        let mut answer = Response::new(Body::from("at db-7"));
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        let replace = ReplaceBody(&codes::BAD_GATEWAY);
        answer.extensions_mut().insert(replace);
        let mut answer = Some(Ok::<_, Infallible>(answer));
        let inner = tower::service_fn(move |_: Request<()>| ready(answer.take().unwrap()));
        let service = AnswerLayer::new().on_reject(Problem::new()).layer(inner);
        let request = Request::post("/").body(()).unwrap();
        let response = service.oneshot(request).await.unwrap();
        assert_eq!(response.status(), status);
        let text = response.into_body().collect().await.unwrap().to_bytes();
        let document: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(document["status"], status);
        assert_eq!(document["code"], "BAD_GATEWAY");
    }
}

/// Panics in place of getting ready, each time.
struct Unready;

impl Service<Request<()>> for Unready {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        panic!("at db-7:5432")
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        unreachable!("it is never ready")
    }
}

/// It ended the connection, with all that was under way on it, as only a panic in a call and in its future were looked for.
#[tokio::test]
async fn a_panic_before_the_call_is_answered_too() {
    let mut service = AnswerLayer::new().layer(Unready);
    for _ in 0..2 {
        let request = Request::new(());
        let response = service.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(response.status(), 500);
        let rejection = response.extensions().get::<Rejection>().unwrap();
        assert_eq!(rejection.code(), &codes::INTERNAL);
    }
}

/// Story: the instance that a connection over HTTP/1 had was finished, and answered 500 for as long as the client kept it.
#[tokio::test]
async fn a_service_that_is_finished_ends_its_connection() {
    for (version, close) in [
        (Version::HTTP_10, Some("close")),
        (Version::HTTP_11, Some("close")),
        (Version::HTTP_2, None),
    ] {
        let mut service = AnswerLayer::new().layer(Unready);
        let mut request = Request::new(());
        *request.version_mut() = version;
        let response = service.ready().await.unwrap().call(request).await.unwrap();
        let says = response.headers().get(header::CONNECTION);
        assert_eq!(says.map(|it| it.to_str().unwrap()), close, "{version:?}");
    }
}
