use std::convert::Infallible;
use std::time::Duration;

use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};

use super::*;
use crate::attempt::Failure;
use crate::body::Body;
use crate::context::RequestId;
use crate::rejection::{Code, FieldPath, GrpcStatus};
use crate::retry_after::RetryAfter;

const CODE: Code = Code::new(
    "RATE_LIMIT_EXCEEDED",
    StatusCode::TOO_MANY_REQUESTS,
    "Too many requests: 100 % of the quota.",
    GrpcStatus::ResourceExhausted,
);

fn rejection() -> Rejection {
    Rejection::new(&CODE)
        .retry_after(RetryAfter::at_least(Duration::from_millis(1500)))
        .detail("limit", 100i64)
        .detail("policy", "per_ip")
        .detail("field", FieldPath::new(["a", "b"]))
}

fn context(method: Method, content_type: Option<&'static str>) -> RejectContext {
    let mut request = Request::builder().method(method);
    if let Some(content_type) = content_type {
        request = request.header(header::CONTENT_TYPE, content_type);
    }
    let mut request = request.body(()).unwrap();
    request
        .extensions_mut()
        .insert(RequestId::new("id-1".parse().unwrap()).unwrap());
    RejectContext::of(&request)
}

fn answer(
    on_reject: &impl OnReject<Response<Body>, Infallible, Error = Infallible>,
) -> Response<Body> {
    on_reject
        .reject(rejection(), &context(Method::GET, None))
        .unwrap()
}

async fn json_of(response: Response<Body>) -> Value {
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

#[tokio::test]
async fn the_envelope() {
    let response = answer(&Respond::new().documentation_url("https://docs.example.com/errors/"));
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    assert_eq!(response.headers()[header::RETRY_AFTER], "2");
    assert_eq!(response.extensions().get(), Some(&rejection()));
    let expected = json!({"error": {
        "code": "RATE_LIMIT_EXCEEDED",
        "message": "Too many requests: 100 % of the quota.",
        "details": {"limit": 100, "policy": "per_ip", "field": "/a/b"},
        "request_id": "id-1",
        "documentation_url": "https://docs.example.com/errors/rate-limit-exceeded",
    }});
    assert_eq!(json_of(response).await, expected);
}

#[test]
fn one_slash_stands_between_base_and_page() {
    // Story: a base without a slash at its end made `.../errorsrate-limit-exceeded` of every link.
    for (base, page, url) in [
        (
            "https://d.example/errors",
            "full",
            "https://d.example/errors/full",
        ),
        (
            "https://d.example/errors/",
            "full",
            "https://d.example/errors/full",
        ),
        (
            "https://d.example/errors",
            "/full",
            "https://d.example/errors/full",
        ),
        (
            "https://d.example/errors/",
            "/full",
            "https://d.example/errors/full",
        ),
        (
            "https://d.example/errors#",
            "full",
            "https://d.example/errors#full",
        ),
        (
            "https://d.example/?code=",
            "full",
            "https://d.example/?code=full",
        ),
    ] {
        let joined = Documentation::below(base.into()).url(page);
        assert_eq!(joined.as_deref(), Some(url));
    }
    assert_eq!(Documentation::default().url("full"), None);
}

#[test]
fn all_lines_of_a_field_are_in_the_answer() {
    let rejection = ["Basic", "Bearer"]
        .into_iter()
        .fold(rejection(), |r, scheme| {
            r.field(header::WWW_AUTHENTICATE, HeaderValue::from_static(scheme))
        });
    let answer: Result<Response<Body>, Infallible> =
        Respond::new().reject(rejection, &RejectContext::default());
    let answer = answer.unwrap();
    let lines = answer.headers().get_all(header::WWW_AUTHENTICATE);
    assert_eq!(lines.iter().collect::<Vec<_>>(), ["Basic", "Bearer"]);
}

#[test]
fn the_answer_has_what_is_for_its_extensions() {
    let rejection = rejection().extension(1_u8).extension(2_u8).extension("two");
    for caller in [Caller::Http, Caller::Grpc] {
        let context = RejectContext {
            caller,
            ..RejectContext::default()
        };
        let answer: Result<Response<Body>, Infallible> =
            Respond::new().reject(rejection.clone(), &context);
        let answer = answer.unwrap();
        assert_eq!(answer.extensions().get(), Some(&2_u8));
        assert_eq!(answer.extensions().get(), Some(&"two"));
        assert!(answer.extensions().get::<Rejection>().is_some());
    }
}

#[tokio::test]
async fn the_link_of_a_base_without_a_slash() {
    let answer = answer(&Respond::new().documentation_url("https://d.example/errors"));
    assert_eq!(
        json_of(answer).await["error"]["documentation_url"],
        "https://d.example/errors/rate-limit-exceeded"
    );
}

#[tokio::test]
async fn a_problem_document() {
    let response = answer(&Problem::new());
    assert_eq!(
        response.headers()[header::CONTENT_TYPE],
        "application/problem+json"
    );
    let document = json_of(response).await;
    assert_eq!(document["type"], "about:blank");
    assert_eq!(document["title"], "Too Many Requests");
    assert_eq!(document["detail"], CODE.message());
    assert_eq!(document["status"], 429);
    assert_eq!(document["code"], "RATE_LIMIT_EXCEEDED");
    assert_eq!(document["details"]["limit"], 100);
    assert_eq!(document["request_id"], "id-1");
}

/// RFC 9457 section 3.1.2: the document says what the status line says. There are statuses without a phrase.
#[tokio::test]
async fn the_answer_may_have_another_status_than_its_code() {
    for (status, title) in [(501, Some("Not Implemented")), (520, None)] {
        let context = RejectContext {
            status: StatusCode::from_u16(status).ok(),
            ..RejectContext::default()
        };
        let answer: Result<Response<Body>, Infallible> =
            Problem::new().reject(rejection(), &context);
        let answer = answer.unwrap();
        assert_eq!(answer.status(), status);
        let document = json_of(answer).await;
        assert_eq!(document["status"], status);
        let phrase = document.get("title").and_then(Value::as_str);
        assert_eq!(phrase, title);
        assert_eq!(document["detail"], CODE.message());
        // The status of a call is not that of HTTP.
        let grpc = RejectContext {
            caller: Caller::Grpc,
            ..context
        };
        let answer: Result<Response<Body>, Infallible> = Problem::new().reject(rejection(), &grpc);
        assert_eq!(answer.unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn a_problem_of_a_registered_type() {
    const TYPE: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";
    let names = ["a", "b"].map(Arc::from);
    let rejection = rejection()
        .problem_type(TYPE)
        .problem_names("violated-policies", names);
    assert_ne!(rejection, self::rejection());
    for on_reject in [
        Problem::new(),
        Problem::new().documentation_url("https://d.example"),
    ] {
        let answer: Result<Response<Body>, Infallible> =
            on_reject.reject(rejection.clone(), &RejectContext::default());
        let document = json_of(answer.unwrap()).await;
        assert_eq!(document["type"], TYPE);
        assert_eq!(document["title"], CODE.message());
        assert_eq!(document.get("detail"), None);
        assert_eq!(document["violated-policies"], json!(["a", "b"]));
        assert_eq!(document["details"]["limit"], 100);
    }
    // The envelope knows no types.
    let answer: Result<Response<Body>, Infallible> =
        Respond::new().reject(rejection, &RejectContext::default());
    let text = json_of(answer.unwrap()).await.to_string();
    assert!(!text.contains("violated") && !text.contains(TYPE), "{text}");
}

#[test]
fn head_gets_the_fields_of_get_and_no_body() {
    let full: Response<Full<Bytes>> = reject(&Respond::new(), Method::GET, None);
    let head: Response<Full<Bytes>> = reject(&Respond::new(), Method::HEAD, None);
    let length = full.body().size_hint().exact().unwrap();
    assert!(length > 0);
    assert_eq!(head.headers()[header::CONTENT_LENGTH], length.to_string());
    assert!(head.body().is_end_stream());
}

#[test]
fn grpc_gets_trailers_only() {
    for kind in [
        "application/grpc",
        "application/grpc+proto",
        "Application/GRPC;x=y",
    ] {
        let response: Response<Body> = reject(&Respond::new(), Method::POST, Some(kind));
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["grpc-status"], "8");
        assert_eq!(
            response.headers()["grpc-message"],
            "Too many requests: 100 %25 of the quota."
        );
        assert_eq!(response.headers()["grpc-retry-pushback-ms"], "2000");
        assert!(response.body().is_end_stream());
    }
    for kind in [
        "application/grpc-web",
        "application/grpcx",
        "application/json",
    ] {
        let response: Response<Body> = reject(&Respond::new(), Method::POST, Some(kind));
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS, "{kind}");
    }
}

/// Story: callers that try again what is UNAVAILABLE sent calls again that had been read, and none that had not been sent in time.
#[test]
fn a_grpc_caller_learns_whether_the_call_was_sent() {
    const CUT: Code = Code::new("A", StatusCode::BAD_GATEWAY, "", GrpcStatus::Unavailable);
    const LATE: Code = Code::new(
        "B",
        StatusCode::GATEWAY_TIMEOUT,
        "",
        GrpcStatus::DeadlineExceeded,
    );
    let (late, internal, unavailable) = ("4", "13", "14");
    for (code, failure, status) in [
        (&CUT, Failure::NotSent, unavailable),
        (&CUT, Failure::Unprocessed, unavailable),
        (&CUT, Failure::Refused, unavailable),
        (&CUT, Failure::Local, unavailable),
        (&CUT, Failure::Unknown, internal),
        (&LATE, Failure::NotSent, unavailable),
        (&LATE, Failure::Unprocessed, unavailable),
        (&LATE, Failure::Refused, late),
        (&LATE, Failure::Local, late),
        (&LATE, Failure::Unknown, late),
    ] {
        let refused = Rejection::new(code).failed(failure);
        let context = context(Method::POST, Some("application/grpc"));
        let answer: Result<Response<Body>, Infallible> = Respond::new().reject(refused, &context);
        let answer = answer.unwrap();
        assert_eq!(answer.headers()["grpc-status"], status, "{failure:?}");
    }
}

/// Story: a refused CONNECT with a content type of gRPC was answered 200, which says that the tunnel stands.
#[test]
fn a_call_of_grpc_is_a_post() {
    for method in ["CONNECT", "TRACE", "GET", "HEAD", "PUT", "OPTIONS"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let response: Response<Body> =
            reject(&Respond::new(), method.clone(), Some("application/grpc"));
        let status = response.status();
        assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "{method}");
        assert!(!response.headers().contains_key("grpc-status"));
        assert_eq!(response.body().is_end_stream(), method == Method::HEAD);
    }
}

#[test]
fn any_body_can_be_answered_with() {
    struct Mine(Bytes);
    // A layer with this renderer can be shown, though its bodies cannot.
    let shown = format!("{:?}", RespondWith::new(Mine));
    assert!(shown.starts_with("RespondWith"), "{shown}");
    let response: Response<Mine> = reject(&RespondWith::new(Mine), Method::GET, None);
    assert!(!response.body().0.is_empty());
}

#[test]
fn fail_passes_the_refusal_on() {
    let on_reject: &dyn OnReject<(), std::io::Error, Error = LayerError<std::io::Error>> = &Fail;
    let error = on_reject
        .reject(rejection(), &RejectContext::default())
        .unwrap_err();
    assert_eq!(error.to_string(), "refused by the layer");
    assert_eq!(
        error.source().unwrap().to_string(),
        "request refused: RATE_LIMIT_EXCEEDED"
    );
}

fn reject<B>(
    on_reject: &impl OnReject<Response<B>, Infallible, Error = Infallible>,
    method: Method,
    content_type: Option<&'static str>,
) -> Response<B> {
    on_reject
        .reject(rejection(), &context(method, content_type))
        .unwrap()
}
