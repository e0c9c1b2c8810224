use std::fmt::Debug;
use std::pin::Pin;

use gw_core::Rejection;
use http::Response;
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::task::JoinHandle;
use tower_layer::Layer;

use super::bodies::AnyBody;
use super::limit::ready;
use super::subject::{
    Admits, FAILED, Inner, InnerHandle, Layered, Outcome, answer_to, answered, apply, inner,
    is_refusal, request,
};
use crate::body::ScriptedBody;
use crate::patience::within;

/// However an exchange ends, what it held can be used again, and only once.
///
/// Each round fills the limit, ends all exchanges in one way, and fills it again; at the end the limit is still what it
/// was.
pub async fn gives_back_once<L, B, S, Q>(layer: L, admits: Admits)
where
    B: AnyBody,
    Q: Send + 'static,
    L: Layer<Inner<B, Q>, Service = S>,
    S: Layered + 'static,
{
    let Some(limit) = limit_in_flight(admits) else {
        return;
    };
    let (service, handle) = inner::<B, Q>();
    for ending in ENDINGS {
        if !ending.needs_a_stream() || B::STREAMS {
            let calls = fill::<L, B, S, Q>(&layer, &service, &handle, limit).await;
            for call in calls {
                ending.end::<B, S, Q>(&handle, call).await;
            }
        }
    }
    let calls = fill::<L, B, S, Q>(&layer, &service, &handle, limit).await;
    let mut layered = apply::<L, B, Q>(&layer, &service);
    ready(&mut layered).await;
    let answer = answered(within("a refusal", layered.call(request())).await);
    assert!(is_refusal(&answer), "something was given back twice");
    calls.iter().for_each(JoinHandle::abort);
}

/// What a body holds is given back when its last frame is handed out, data or trailers: a server need not poll again after that.
pub async fn gives_back_at_the_last_frame<L, B, S, Q>(layer: L, admits: Admits)
where
    B: AnyBody,
    Q: Send + 'static,
    L: Layer<Inner<B, Q>, Service = S>,
    S: Layered + 'static,
{
    let Some(limit) = limit_in_flight(admits) else {
        return;
    };
    let (service, handle) = inner::<B, Q>();
    let mut kept = Vec::new();
    let mut calls = fill::<L, B, S, Q>(&layer, &service, &handle, limit).await;
    for trailers in [false, true] {
        if trailers && !B::STREAMS {
            break;
        }
        for call in calls {
            let script = ScriptedBody::script().data("data");
            let (script, _) = match trailers {
                true => script.trailers([("x-end", "1")]).build(),
                false => script.build(),
            };
            let answer = Response::new(B::streaming(script));
            handle.next_call().await.respond(answer);
            let mut body = Box::pin(answer_to(call).await.into_body());
            let frame = next_frame(&mut body).await;
            assert_eq!(frame.into_data().expect("data"), "data");
            if trailers {
                assert!(next_frame(&mut body).await.is_trailers());
            }
            assert!(
                http_body::Body::is_end_stream(&body),
                "the end of the stream is hidden"
            );
            kept.push(body);
        }
        // The bodies still exist, and are not polled again.
        calls = fill::<L, B, S, Q>(&layer, &service, &handle, limit).await;
    }
    calls.iter().for_each(JoinHandle::abort);
    drop(kept);
}

/// A body that is still on its way keeps what its request was given.
pub async fn holds_until_the_body_ends<L, B, S, Q>(layer: L, admits: Admits)
where
    B: AnyBody,
    Q: Send + 'static,
    L: Layer<Inner<B, Q>, Service = S>,
    S: Layered + 'static,
{
    let Some(limit) = limit_in_flight(admits).filter(|_| B::STREAMS) else {
        return;
    };
    let (service, handle) = inner::<B, Q>();
    let mut bodies = Vec::new();
    for call in fill::<L, B, S, Q>(&layer, &service, &handle, limit).await {
        let (script, _) = ScriptedBody::script().data("data").hold().build();
        let answer = Response::new(B::streaming(script));
        handle.next_call().await.respond(answer);
        bodies.push(answer_to(call).await.into_body());
    }
    let mut layered = apply::<L, B, Q>(&layer, &service);
    ready(&mut layered).await;
    let answer = answered(within("a refusal", layered.call(request())).await);
    assert!(is_refusal(&answer), "given back before the body ended");
    drop(bodies);
}

fn limit_in_flight(admits: Admits) -> Option<usize> {
    match admits {
        Admits::InFlight(limit) => Some(limit),
        Admits::All | Admits::Total(_) => None,
    }
}

type Call<S> = JoinHandle<Outcome<S>>;

/// Starts as many calls as the limit admits, and waits until all of them are in flight.
async fn fill<L, B, S, Q>(
    layer: &L,
    service: &Inner<B, Q>,
    handle: &InnerHandle<B, Q>,
    limit: usize,
) -> Vec<Call<S>>
where
    B: AnyBody,
    Q: Send + 'static,
    L: Layer<Inner<B, Q>, Service = S>,
    S: Layered + 'static,
{
    let mut calls = Vec::new();
    for _ in 0..limit {
        let mut layered = apply::<L, B, Q>(layer, service);
        ready(&mut layered).await;
        calls.push(tokio::spawn(layered.call(request())));
    }
    handle.flying(limit).await;
    calls
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    EndOfStream,
    EmptyBody,
    BodyError,
    BodyDropped,
    FutureDropped,
    InnerError,
    Panic,
    BodyPanic,
}

const ENDINGS: [Ending; 8] = [
    Ending::EndOfStream,
    Ending::EmptyBody,
    Ending::BodyError,
    Ending::BodyDropped,
    Ending::FutureDropped,
    Ending::InnerError,
    Ending::Panic,
    Ending::BodyPanic,
];

impl Ending {
    fn needs_a_stream(self) -> bool {
        matches!(self, Self::BodyError | Self::BodyDropped | Self::BodyPanic)
    }

    async fn end<B, S, Q>(self, handle: &InnerHandle<B, Q>, call: Call<S>)
    where
        B: AnyBody,
        S: Layered,
    {
        let mut inner = handle.next_call().await;
        let script = ScriptedBody::script().data("data");
        let script = match self {
            Self::FutureDropped => {
                call.abort();
                assert!(call.await.is_err_and(|error| error.is_cancelled()));
                return inner.abandoned().await;
            }
            Self::InnerError => {
                inner.fail(Rejection::new(&FAILED));
                // A layer may pass the error on or answer it.
                return drop(within("what the layer makes of an error", call).await);
            }
            Self::Panic => {
                inner.panic("a fault in the service");
                // A layer may pass the panic on or answer it.
                return drop(within("the layer's answer to a panic", call).await);
            }
            Self::EndOfStream => script.trailers([("x-end", "1")]),
            Self::EmptyBody => ScriptedBody::script(),
            Self::BodyError => script.error("cut"),
            Self::BodyDropped => script.hold(),
            Self::BodyPanic => script.panic("a fault in the body"),
        };
        let (body, _) = script.build();
        inner.respond(Response::new(B::streaming(body)));
        let mut body = Box::pin(answer_to(call).await.into_body());
        match self {
            Self::BodyDropped => drop(body),
            Self::BodyError => {
                let frame = within("a frame", body.frame()).await;
                assert!(frame.expect("a frame").is_ok());
                let error = within("the body's error", body.frame()).await;
                assert!(error.expect("an error").is_err());
                // Not polled again: the error has ended it.
                Kept::keep(body);
            }
            // On a task of its own, so that the panic ends that task and not the test.
            Self::BodyPanic => drop(tokio::spawn(collect(body)).await),
            _ => collect(body).await,
        }
    }
}

async fn next_frame<B>(body: &mut Pin<Box<B>>) -> Frame<B::Data>
where
    B: http_body::Body<Error: Debug>,
{
    let frame = within("a frame", body.frame()).await;
    frame.expect("a frame").expect("a whole body")
}

async fn collect<B: http_body::Body + Send + 'static>(body: Pin<Box<B>>) {
    _ = within("the end of the body", body.collect()).await;
}

/// Keeps a body alive until the test's runtime ends, as a server may that has more to do.
struct Kept;

impl Kept {
    fn keep<B: 'static>(body: Pin<Box<B>>) {
        thread_local! {
            static KEPT: std::cell::RefCell<Vec<Box<dyn std::any::Any>>> = const { std::cell::RefCell::new(Vec::new()) };
        }
        KEPT.with_borrow_mut(|kept| kept.push(Box::new(body)));
    }
}
