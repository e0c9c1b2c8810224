use std::fmt::Debug;
use std::io::Read as _;

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, Response, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tower_layer::Layer;
use tower_service::Service as _;

use super::bodies::AnyBody;
use super::limit::ready;
use super::subject::{Admits, Inner, Layered, answer_to, apply, inner, request};
use crate::body::ScriptedBody;
use crate::patience::within;

/// Frames, size hint and end of stream are those of the inner body, from the head to the end.
pub async fn keeps_bodies_as_they_are<L, B, S, Q>(layer: L, _: Admits)
where
    B: AnyBody,
    Q: Send + 'static,
    L: Layer<Inner<B, Q>, Service = S>,
    S: Layered + 'static,
{
    let script = || {
        let script = ScriptedBody::script().data("da").data("ta");
        B::streaming(script.trailers([("x-end", "1")]).build().0)
    };
    let mut twin = script();
    let mut body = Box::pin(answer_with::<L, B, S, Q>(&layer, script()).await);
    loop {
        assert_eq!(bounds(&*body), bounds(&twin), "the size hint is lost");
        assert_eq!(
            body.is_end_stream(),
            twin.is_end_stream(),
            "the end of the stream is lost"
        );
        let frame = within("a frame", body.frame()).await.map(content);
        assert_eq!(frame, twin.frame().await.map(content), "a frame is lost");
        if frame.is_none() {
            break;
        }
    }
}

/// A body that fails in the middle is passed on as far as it came, and then as one that fails.
pub async fn keeps_errors_of_bodies<L, B, S, Q>(layer: L, _: Admits)
where
    B: AnyBody,
    Q: Send + 'static,
    L: Layer<Inner<B, Q>, Service = S>,
    S: Layered + 'static,
{
    if !B::STREAMS {
        return;
    }
    let script = ScriptedBody::script().data("da").error("cut");
    let inner = B::streaming(script.build().0);
    let mut body = Box::pin(answer_with::<L, B, S, Q>(&layer, inner).await);
    let frame = within("a frame", body.frame()).await;
    let data = frame.and_then(|frame| frame.ok()?.into_data().ok());
    assert_eq!(data.as_deref(), Some(&b"da"[..]), "a frame is lost");
    assert!(!body.is_end_stream(), "a body that fails has ended before");
    let error = within("the body's error", body.frame()).await;
    assert!(
        error.is_some_and(|frame| frame.is_err()),
        "the body's error is lost"
    );
}

/// A size hint that is not exact keeps both of its bounds.
///
/// Asked at the head only: what a script claims stays what it is, and a layer may count the frames off.
pub async fn keeps_bounds_of_the_size<L, B, S, Q>(layer: L, _: Admits)
where
    B: AnyBody,
    Q: Send + 'static,
    L: Layer<Inner<B, Q>, Service = S>,
    S: Layered + 'static,
{
    let mut claimed = SizeHint::new();
    claimed.set_lower(1);
    claimed.set_upper(8);
    let script = ScriptedBody::script().data("data").claim_size(claimed);
    let inner = B::streaming(script.build().0);
    let expected = bounds(&inner);
    let body = answer_with::<L, B, S, Q>(&layer, inner).await;
    assert_eq!(bounds(&body), expected, "the bounds of the size are lost");
}

/// The body that the layer makes of this one.
async fn answer_with<L, B, S, Q>(layer: &L, body: B::Body) -> S::ResBody
where
    B: AnyBody,
    Q: Send + 'static,
    L: Layer<Inner<B, Q>, Service = S>,
    S: Layered + 'static,
{
    let (service, handle) = inner::<B, Q>();
    let mut layered = apply::<L, B, Q>(layer, &service);
    ready(&mut layered).await;
    let call = tokio::spawn(layered.call(request()));
    handle.next_call().await.respond(Response::new(body));
    answer_to(call).await.into_body()
}

/// All that a size hint says.
fn bounds(body: &impl http_body::Body) -> (u64, Option<u64>) {
    let hint = body.size_hint();
    (hint.lower(), hint.upper())
}

/// The data or the trailers of a frame.
fn content<E: Debug>(frame: Result<Frame<Bytes>, E>) -> Result<Bytes, Option<HeaderMap>> {
    let frame = frame.expect("a whole body");
    frame
        .into_data()
        .map_err(|frame| frame.into_trailers().ok())
}

/// A body without content stays one at the head already: HTTP/2 ends the stream with the head then, which gRPC needs.
pub(super) async fn keeps_empty_bodies_empty<L, B, S, Q>(layer: &L)
where
    B: AnyBody,
    Q: Send + 'static,
    L: Layer<Inner<B, Q>, Service = S>,
    S: Layered + 'static,
{
    let inner = B::whole(Bytes::new());
    let ended = inner.is_end_stream();
    let body = answer_with::<L, B, S, Q>(layer, inner).await;
    assert_eq!(body.is_end_stream(), ended, "an empty body became a stream");
}

/// A compression layer outside reads the layer's body as it reads the inner one's.
pub async fn works_inside_compression<L, B, S, Q>(layer: L, admits: Admits)
where
    B: AnyBody,
    Q: Send + 'static,
    L: Layer<Inner<B, Q>, Service = S>,
    S: Layered + Send + 'static,
{
    if admits != Admits::Total(1) {
        keeps_empty_bodies_empty::<L, B, S, Q>(&layer).await;
    }
    let (service, handle) = inner::<B, Q>();
    let layered = apply::<L, B, Q>(&layer, &service);
    let mut compressed = tower_http::compression::Compression::new(layered);
    let mut request = request();
    request.headers_mut().insert(
        header::ACCEPT_ENCODING,
        "gzip".parse().expect("a valid value"),
    );
    let ready = std::future::poll_fn(|cx| compressed.poll_ready(cx));
    assert!(
        within("the layer to be ready", ready).await.is_ok(),
        "the layer fails although the inner service is ready"
    );
    let call = tokio::spawn(compressed.call(request));
    let text = "compressible ".repeat(100);
    let body = B::whole(Bytes::from(text.clone()));
    handle.next_call().await.respond(Response::new(body));
    let answer = answer_to(call).await;
    assert_eq!(answer.headers()[header::CONTENT_ENCODING], "gzip");
    let collected = within("the end of the body", answer.into_body().collect()).await;
    let compressed = collected.map(|body| body.to_bytes()).unwrap_or_default();
    let mut read = String::new();
    let whole = GzDecoder::new(&*compressed).read_to_string(&mut read);
    assert!(
        whole.is_ok() && read == text,
        "what was compressed is not the body"
    );
}
