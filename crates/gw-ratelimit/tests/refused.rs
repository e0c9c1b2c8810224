//! Refusals further in that pass as errors, for somebody further out to answer: the clock paused, no server.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::error::Error;
use std::fmt;
use std::future::ready;
use std::time::Duration;

use gw_core::retry_after::NotBefore;
use gw_core::{Body, BoxError, Code, GrpcStatus, Rejection, RetryAfter};
use gw_ratelimit::{Adjust, Headers, Policy, Quota, RateLimitBuilder, RateLimitLayer};
use http::{Request, Response, StatusCode, header};
use tower::{Layer, Service, ServiceExt as _, service_fn};

const OPEN: Code = Code::new(
    "CIRCUIT_OPEN",
    StatusCode::SERVICE_UNAVAILABLE,
    "",
    GrpcStatus::Unavailable,
);
const LOST: Code = Code::new(
    "ROUTE_NOT_FOUND",
    StatusCode::NOT_FOUND,
    "",
    GrpcStatus::Unimplemented,
);

type Answer = Response<Body>;

/// Fails with what `error` makes.
fn failing<E: Send + 'static>(
    error: impl Fn() -> E + Clone,
) -> impl Service<Request<()>, Response = Answer, Error = E> + Clone {
    service_fn(move |_| ready(Err(error())))
}

fn one_an_hour() -> RateLimitBuilder<impl Sized> {
    RateLimitLayer::builder().policy(Policy::new("p", Quota::per_hour(1)))
}

/// What a service around `inner` fails with.
async fn error<K, S>(layer: RateLimitLayer<K>, inner: S) -> S::Error
where
    S: Service<Request<()>, Response = Answer, Error: 'static>,
{
    let Err(error) = layer.layer(inner).oneshot(Request::new(())).await else {
        panic!("the service fails")
    };
    error
}

fn fields<'a>(refused: &'a Rejection, name: &str) -> Vec<&'a str> {
    let fields = refused.fields().iter().filter(|(known, _)| known == name);
    fields.map(|(_, value)| value.to_str().unwrap()).collect()
}

fn after(seconds: u64) -> RetryAfter {
    RetryAfter::at_least(Duration::from_secs(seconds))
}

/// Story: a 404, an open breaker, a connection that was refused: behind a pipeline's limits all of them are errors, and their
/// answers told nobody of the limits. The one for the open breaker asked to come back in a second who had to wait an hour.
#[tokio::test(start_paused = true)]
async fn its_answer_tells_of_the_limits() {
    let refused = || Rejection::new(&OPEN).retry_after(after(1));
    let boxed = failing(move || BoxError::from(refused()));
    let boxed = error(one_an_hour().build().unwrap(), boxed).await;
    let bare = error(one_an_hour().build().unwrap(), failing(refused)).await;
    for told in [*boxed.downcast::<Rejection>().unwrap(), bare] {
        assert_eq!(fields(&told, "ratelimit-policy"), [r#""p";q=1;w=3600"#]);
        assert_eq!(fields(&told, "ratelimit"), [r#""p";r=0;t=3600"#]);
        assert!(told.retry_after_hint() >= Some(after(3600)));
        assert!(NotBefore::of(told.extensions().unwrap()) >= Some(after(3600)));
        assert_eq!(told.code(), &OPEN);
    }
    // Nobody is asked to come back, and is not told when.
    let lost = failing(|| Rejection::new(&LOST));
    let lost = error(one_an_hour().build().unwrap(), lost).await;
    assert_eq!(fields(&lost, "ratelimit"), [r#""p";r=0;t=3600"#]);
    assert_eq!(lost.retry_after_hint(), None);
}

#[tokio::test(start_paused = true)]
async fn limits_around_limits_tell_of_both() {
    let named = |name: &'static str, burst| {
        RateLimitLayer::builder()
            .policy(Policy::new(name, Quota::per_second(1).burst(burst)))
            .headers(Headers::Draft11AndLegacy)
            .build()
            .unwrap()
    };
    let refused = || Rejection::new(&LOST).field(header::ALLOW, "GET".parse().unwrap());
    let inner = named("inner", 3).layer(failing(move || BoxError::from(refused())));
    let told = error(named("outer", 2), inner).await;
    let told = told.downcast::<Rejection>().unwrap();
    assert_eq!(
        fields(&told, "ratelimit"),
        [r#""inner";r=2;t=2"#, r#""outer";r=1;t=1"#]
    );
    // One set of numbers, that of who leaves the least.
    assert_eq!(fields(&told, "x-ratelimit-remaining"), ["1"]);
    assert_eq!(fields(&told, "allow"), ["GET"]);
}

/// Story: a login by a service that answered 503 was paid back, and one that could not be reached was not.
#[tokio::test(start_paused = true)]
async fn it_is_charged_and_paid_back_by_its_status() {
    for (code, left, headers) in [
        (&OPEN, 10, Headers::Draft11),
        (&LOST, 4, Headers::Draft11),
        (&OPEN, 10, Headers::None),
        (&LOST, 4, Headers::None),
    ] {
        let policy = Policy::new("p", Quota::per_hour(1).burst(10));
        let policy = policy.charge_response(|answer| match answer.status.as_u16() {
            404 => Adjust::Charge(5),
            500.. => Adjust::Refund(u32::MAX),
            _ => Adjust::Nothing,
        });
        let layer = RateLimitLayer::builder().policy(policy).headers(headers);
        let layer = layer.build().unwrap();
        let handle = layer.handle();
        let told = error(layer, failing(move || Rejection::new(code))).await;
        assert_eq!(handle.peek("p", &()).unwrap().remaining(), left);
        let said = format!(r#""p";r={left};"#);
        let says = fields(&told, "ratelimit");
        match headers {
            Headers::None => assert!(says.is_empty(), "{says:?}"),
            _ => assert!(says.iter().all(|it| it.starts_with(&said)), "{says:?}"),
        }
    }
}

#[derive(Debug)]
struct Wrapped(Rejection);

impl fmt::Display for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("wrapped")
    }
}

impl Error for Wrapped {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

/// An error of the service's own is nobody else's to change, whatever it stems from.
#[tokio::test(start_paused = true)]
async fn other_errors_stay_as_they_are() {
    let layer = || {
        let policy = Policy::new("p", Quota::per_hour(1).burst(10));
        let policy = policy.charge_response(|_| panic!("there is no answer"));
        RateLimitLayer::builder().policy(policy).build().unwrap()
    };
    /// No `Error`, and nothing that could be boxed as one.
    #[derive(Debug, PartialEq)]
    struct Odd(u8);
    assert_eq!(error(layer(), failing(|| Odd(7))).await, Odd(7));
    let text = failing(|| BoxError::from("reset"));
    assert_eq!(error(layer(), text).await.to_string(), "reset");
    let wrapped = failing(|| BoxError::from(Wrapped(Rejection::new(&OPEN))));
    let wrapped = error(layer(), wrapped).await;
    assert_eq!(
        wrapped.downcast::<Wrapped>().unwrap().0,
        Rejection::new(&OPEN)
    );
}
