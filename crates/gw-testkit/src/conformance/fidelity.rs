use http::{Response, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tower_layer::Layer;
use tower_service::Service as _;

use super::bodies::AnyBody;
use super::limit::ready;
use super::subject::{Admits, Inner, Layered, answer_to, apply, inner, request};
use crate::body::ScriptedBody;
use crate::patience::within;

/// Data, trailers, size hint and end of stream are those of the inner body.
pub async fn keeps_bodies_as_they_are<L, B, S, Q>(layer: L, _: Admits)
where
    B: AnyBody,
    Q: Send + 'static,
    L: Layer<Inner<B, Q>, Service = S>,
    S: Layered + 'static,
{
    let (service, handle) = inner::<B, Q>();
    let mut layered = apply::<L, B, Q>(&layer, &service);

    ready(&mut layered).await;
    let call = tokio::spawn(layered.call(request()));
    let (script, _) = ScriptedBody::script()
        .data("da")
        .data("ta")
        .trailers([("x-end", "1")])
        .build();
    let body = B::streaming(script);
    let (hint, ended) = (body.size_hint(), body.is_end_stream());
    handle.next_call().await.respond(Response::new(body));
    let answer = answer_to(call).await;
    assert_eq!(
        answer.body().size_hint().exact(),
        hint.exact(),
        "the size hint is lost"
    );
    assert_eq!(
        answer.body().is_end_stream(),
        ended,
        "the end of the stream is lost"
    );
    let collected = within("the end of the body", answer.into_body().collect());
    let collected = collected.await.expect("a whole body");
    if B::STREAMS {
        assert_eq!(collected.trailers().expect("trailers")["x-end"], "1");
    }
    assert_eq!(collected.to_bytes(), "data");
}

/// A body without content stays one at the head already: HTTP/2 ends the stream with the head then, which gRPC needs.
pub(super) async fn keeps_empty_bodies_empty<L, B, S, Q>(layer: &L)
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
    let body = B::whole(bytes::Bytes::new());
    let ended = body.is_end_stream();
    handle.next_call().await.respond(Response::new(body));
    let answer = answer_to(call).await;
    assert_eq!(
        answer.body().is_end_stream(),
        ended,
        "an empty body became a stream"
    );
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
    let text = bytes::Bytes::from("compressible ".repeat(100));
    handle
        .next_call()
        .await
        .respond(Response::new(B::whole(text)));
    let answer = answer_to(call).await;
    assert_eq!(answer.headers()[header::CONTENT_ENCODING], "gzip");
    let collected = within("the end of the body", answer.into_body().collect());
    assert!(
        collected
            .await
            .is_ok_and(|body| body.to_bytes().len() < 200)
    );
}
