//! A write is not sent twice: an upstream that ends its connection after each byte of request and answer, over HTTP/1 and
//! HTTP/2, on fresh connections and on used ones, and whose own record is the judge.
//!
//! The way there is that of a gateway: `Forward`, a `RetryLayer` in the slot of an upstream, its pool, and hyper. The first
//! connection breaks, and all later ones would answer. So whoever sends a second time is seen to do so.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::panic, reason = "a test")]

mod upstream;
mod wire;

use gw_core::Body;
use gw_core::context::UpstreamName;
use gw_pipeline::upstream::{Forward, Protocol as Spoken, Upstream as Target};
use gw_retry::{Backoff, Budget, RetryLayer, RetryPolicy};
use http::{Method, Request, Uri};
use http_body_util::BodyExt as _;
use std::time::Duration;
use tower::{Service, ServiceExt as _};

use upstream::{End, Fault, Plan, Record, Upstream};
use wire::{Answer, BODY, Protocol};

/// A request, and what the route says about it.
#[derive(Debug, Clone)]
struct Call {
    method: Method,
    keys: &'static [&'static str],
    body: &'static str,
    /// The route allows all that a route can allow.
    opted_in: bool,
    /// The route has no retries.
    alone: bool,
}

impl Call {
    const fn new(method: Method) -> Self {
        Self {
            method,
            keys: &[],
            body: "one order",
            opted_in: false,
            alone: false,
        }
    }

    const fn keys(mut self, keys: &'static [&'static str]) -> Self {
        self.keys = keys;
        self
    }

    const fn opted_in(mut self) -> Self {
        self.opted_in = true;
        self
    }

    const fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    const fn bodiless(mut self) -> Self {
        self.body = "";
        self
    }

    fn request(&self) -> Request<Body> {
        let mut request = Request::builder().method(self.method.clone()).uri("/");
        for key in self.keys {
            request = request.header("idempotency-key", *key);
        }
        request
            .header("host", "shop.example")
            .extension(UpstreamName::new("orders"))
            .body(Body::from(self.body))
            .unwrap()
    }
}

/// What must be sent once, whatever happens.
fn once() -> Vec<Call> {
    vec![
        Call::new(Method::POST),
        Call::new(Method::POST).keys(&["\"k\""]),
        Call::new(Method::PATCH),
        Call::new(Method::PUT),
        Call::new(Method::DELETE).bodiless(),
        Call::new(Method::POST).opted_in(),
        Call::new(Method::POST).keys(&[""]).opted_in(),
        Call::new(Method::POST).keys(&["\"k\"", "\"l\""]).opted_in(),
        Call::new(Method::PATCH).bodiless().opted_in(),
    ]
}

/// What may be sent again, so that the judge is seen to judge.
fn again() -> Vec<Call> {
    vec![
        Call::new(Method::GET).bodiless(),
        Call::new(Method::PUT).opted_in(),
        Call::new(Method::DELETE).bodiless().opted_in(),
        Call::new(Method::POST).keys(&["\"k\""]).opted_in(),
    ]
}

fn layer(call: &Call) -> RetryLayer {
    let policy =
        RetryPolicy::builder().backoff(Backoff::exponential(Duration::ZERO, Duration::ZERO));
    let policy = policy.max_attempts(if call.alone { 1 } else { 3 });
    let policy = match call.opted_in {
        false => policy,
        true => policy
            .methods([Method::GET, Method::PUT, Method::DELETE])
            .keyed_methods([Method::POST, Method::PATCH])
            .idempotent_grpc(true),
    };
    let budget = Budget::builder("orders").min_per_second(1_000).build();
    RetryLayer::builder(budget.unwrap())
        .policy(policy.build().unwrap())
        .build()
}

/// What became of one request: the status and the body, unless it failed.
type Outcome = Option<(u16, Option<String>)>;

/// Sends `call` through a gateway of its own to an upstream that does as planned.
async fn run(upstream: &Upstream, call: &Call, plan: Plan) -> (Outcome, Record) {
    upstream.begin(plan);
    let endpoint = Uri::try_from(format!("http://{}", upstream.addr)).unwrap();
    let spoken = match upstream.protocol {
        Protocol::Http1 => Spoken::Http1,
        Protocol::Http2 => Spoken::Http2,
    };
    let target = Target::builder(UpstreamName::new("orders"))
        .endpoint(endpoint)
        .protocol(spoken)
        .retry(layer(call))
        .build()
        .unwrap();
    let forward = Forward::new([target]).unwrap().pseudonym("edge").unwrap();
    if plan.reused {
        let warm = Call::new(Method::GET).bodiless().request();
        let warm = send(&forward, warm).await;
        assert_eq!(warm, Some((200, Some(BODY.to_owned()))));
    }
    let outcome = send(&forward, call.request()).await;
    let mut record = upstream.record();
    if plan.reused {
        record.begun -= 1;
        record.whole.remove(0);
    }
    (outcome, record)
}

async fn send<S, ResB>(forward: &Forward<S>, request: Request<Body>) -> Outcome
where
    Forward<S>: Service<Request<Body>, Response = http::Response<ResB>>,
    ResB: http_body::Body<Data = bytes::Bytes>,
{
    let exchange = async {
        let response = forward.clone().oneshot(request).await.ok()?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.ok();
        let body = body.map(|body| String::from_utf8(body.to_bytes().to_vec()).unwrap());
        Some((status, body))
    };
    gw_testkit::within("a request to end", exchange).await
}

/// All points at which a connection can end on the way to the end of `answer`, and whether that end is all of it.
async fn points(upstream: &Upstream, call: &Call, reused: bool, answer: Answer) -> Vec<Fault> {
    // To learn how long the request is, with what the gateway adds to it.
    let whole = Plan {
        reused,
        fault: Fault::Wrote(usize::MAX),
        end: End::Close,
        answer: Answer::Ok,
    };
    let (_, record) = run(upstream, call, whole).await;
    let (bytes, _) = answer.bytes(upstream.protocol, 1);
    let read = (1..=record.request_bytes).map(Fault::Read);
    let wrote = (0..=bytes.len()).map(Fault::Wrote);
    let before = [Fault::AtOnce, Fault::Unread].into_iter().chain(read);
    // The request is the same whatever the answer.
    let before = before.filter(|_| answer == Answer::Ok);
    before.chain(wrote).collect()
}

/// Judges all calls at all points; how many exchanges that were.
async fn judge(
    protocol: Protocol,
    calls: Vec<Call>,
    answers: &[Answer],
    verdict: impl Fn(Plan, &Outcome, &Record, usize) -> bool,
) {
    let upstream = Upstream::start(protocol).await;
    let mut exchanges = 0;
    for (call, reused) in calls.iter().flat_map(|call| [(call, false), (call, true)]) {
        for answer in answers {
            for fault in points(&upstream, call, reused, *answer).await {
                for end in [End::Reset, End::Close] {
                    let plan = Plan {
                        reused,
                        fault,
                        end,
                        answer: *answer,
                    };
                    let (outcome, record) = run(&upstream, call, plan).await;
                    let (_, head) = answer.bytes(protocol, 1);
                    let fine = verdict(plan, &outcome, &record, head);
                    assert!(fine, "{call:?}\n{plan:?}\n{outcome:?}\n{record:?}");
                    for body in &record.whole {
                        assert_eq!(*body, call.body.as_bytes(), "{call:?} {plan:?}");
                    }
                    exchanges += 1;
                }
            }
        }
    }
    let few = exchanges < 800 * calls.len();
    assert!(!few, "the points have got lost: {exchanges}");
}

/// Whether the answer that was written ahead of the end says that nothing was done.
fn is_proof(plan: Plan, head: usize) -> bool {
    plan.answer.is_proof() && matches!(plan.fault, Fault::Wrote(bytes) if bytes >= head)
}

fn sent_once(plan: Plan, _: &Outcome, record: &Record, head: usize) -> bool {
    record.broke && record.begun <= 1 + usize::from(is_proof(plan, head))
}

/// Until there is a head: sent again, and answered. From then on: what has come is the answer.
fn sent_again(plan: Plan, outcome: &Outcome, record: &Record, head: usize) -> bool {
    let answered = *outcome == Some((200, Some(BODY.to_owned())));
    let expected = match plan.fault {
        // Nobody has read anything of the first one.
        Fault::AtOnce => record.whole.len() == 1 && answered,
        Fault::Unread | Fault::Read(_) => !record.whole.is_empty() && answered,
        Fault::Wrote(bytes) if bytes < head || plan.answer == Answer::Unavailable => {
            record.begun == 2 && answered
        }
        Fault::Wrote(_) if is_proof(plan, head) => record.begun == 2 && answered,
        // A reset may overtake the head that was written in front of it.
        Fault::Wrote(_) => record.begun == 1 || plan.end == End::Reset && record.begun == 2,
    };
    record.broke && expected
}

/// Without retries: a used connection that ends before a byte of the answer is one that the upstream had closed already, for all
/// that anybody can know. What is safe is sent again then, once, and nothing else is.
fn sent_again_if_it_may(plan: Plan, outcome: &Outcome, record: &Record, _: usize) -> bool {
    let answered = *outcome == Some((200, Some(BODY.to_owned())));
    let again = record.broke && record.connections == 2 && record.begun <= 2 && answered;
    let once = record.broke && record.connections == 1 && record.begun <= 1;
    match plan.fault {
        // A reset may overtake what was written in front of it.
        Fault::Wrote(bytes) if bytes > 0 => once || again && plan.reused && plan.end == End::Reset,
        _ if plan.reused => again,
        _ => once && outcome.is_none(),
    }
}

const HTTP1: [Answer; 3] = [Answer::Ok, Answer::Chunked, Answer::Unavailable];
const HTTP2: [Answer; 5] = [
    Answer::Ok,
    Answer::Chunked,
    Answer::Unavailable,
    Answer::Refused,
    Answer::LeftOut,
];

#[tokio::test]
async fn writes_over_http1_are_sent_once() {
    judge(Protocol::Http1, once(), &HTTP1, sent_once).await;
}

#[tokio::test]
async fn writes_over_http2_are_sent_once() {
    judge(Protocol::Http2, once(), &HTTP2, sent_once).await;
}

#[tokio::test]
async fn what_is_safe_is_sent_again_where_a_used_connection_ends() {
    let get = Call::new(Method::GET).bodiless().alone();
    judge(Protocol::Http1, vec![get], &HTTP1, sent_again_if_it_may).await;
}

#[tokio::test]
async fn what_may_be_sent_again_over_http1_is() {
    judge(Protocol::Http1, again(), &HTTP1, sent_again).await;
}

#[tokio::test]
async fn what_may_be_sent_again_over_http2_is() {
    judge(Protocol::Http2, again(), &HTTP2, sent_again).await;
}
