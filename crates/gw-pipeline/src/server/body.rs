//! The body of an answer, as hyper sees it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::thread;

use bytes::{Buf, Bytes};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version, header};
use http_body::{Body, Frame, SizeHint};
use hyper::upgrade::OnUpgrade;
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::link::Link;
use super::stream::{Turns, Untaken};

/// The most bytes that are handed to HTTP/2 at a time.
///
/// A piece is what a client has to take within the write stall timeout, and what waits in memory for each stream.
const PIECE: usize = 32 * 1024;

/// How much of an answer over HTTP/2 may end before the client has taken it.
///
/// hyper needs room for one byte to give a whole piece to the connection. Once that has the end of the answer as well, nobody can
/// reset the stream, and what the client does not take stays. So the end waits for what is beyond these bytes, which costs a turn of
/// two tasks; smaller answers are spared it.
const SMALL: usize = 1024;

/// Counts a request as open on its connection until it is dropped.
#[derive(Debug)]
pub(super) struct Open {
    link: Arc<Link>,
    /// When it started, over HTTP/2.
    started: Option<Instant>,
    connect: bool,
    head: bool,
    http10: bool,
    /// Over HTTP/1, the rest of a body is to come.
    uploads: bool,
    answered: bool,
}

impl Open {
    pub(super) fn start<B: Body>(link: &Arc<Link>, request: &Request<B>) -> Self {
        let upgradable = request.extensions().get::<OnUpgrade>().is_some();
        let bodiless = request.body().is_end_stream();
        Self {
            started: link.started(bodiless, upgradable),
            uploads: !bodiless && request.version() < Version::HTTP_2,
            link: Arc::clone(link),
            connect: *request.method() == Method::CONNECT,
            head: *request.method() == Method::HEAD,
            http10: request.version() == Version::HTTP_10,
            answered: false,
        }
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// Its answer begins.
    pub(super) const fn answers(&mut self) {
        self.answered = true;
    }

    /// Whether the client speaks HTTP/1.0.
    pub(super) const fn is_http10(&self) -> bool {
        self.http10
    }

    /// Whether `answer` must wait until hyper has looked at what has become of the request's body. One that nobody wants is read
    /// as far as it has come, and if more is to come the connection is closed behind the answer. hyper looks before it asks for
    /// the answer only, so one that it got at once would not say so (RFC 9112 section 9.6). Successes, which are nearly all that is
    /// answered, have read the body.
    pub(super) fn puts_off<B>(&self, answer: &Response<B>) -> bool {
        let status = answer.status();
        self.uploads && !status.is_success() && !status.is_informational()
    }

    /// Whether an answer with this status has no body, whatever the service says (RFC 9110 section 6.4.1).
    pub(super) fn is_bodiless(&self, status: StatusCode) -> bool {
        self.head || says_nothing(status)
    }

    /// Whether only the end of the connection tells the client that the answer has ended: HTTP/1.0 has no chunks.
    pub(super) fn ends_with_connection<B: Body>(&self, answer: &Response<Option<B>>) -> bool {
        let length = || {
            answer
                .body()
                .as_ref()
                .map_or(Some(0), |body| body.size_hint().exact())
        };
        let stated = || answer.headers().contains_key(header::CONTENT_LENGTH);
        self.http10 && !self.is_bodiless(answer.status()) && length().is_none() && !stated()
    }

    /// Whether an HTTP/1 connection is a tunnel behind an answer with this status.
    pub(super) fn switches_with(&self, status: StatusCode) -> bool {
        status == StatusCode::SWITCHING_PROTOCOLS || self.connect && status.is_success()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // Who panics gives nothing up.
        let answered = self.answered || thread::panicking();
        self.link.ended(self.started, answered);
    }
}

/// A piece of an answer, as hyper gets it.
#[derive(Debug)]
pub(super) struct Piece {
    data: Bytes,
    _untaken: Option<Untaken>,
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.data.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.data.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.data.advance(count);
    }
}

pin_project! {
    /// A body that ends the request when it is dropped. Over HTTP/1, hyper does that as soon as it has the last frame. Over HTTP/2
    /// it lets go of the body once the connection has the end of it, which waits for the client to take all but [`SMALL`] of it.
    #[derive(Debug)]
    pub(super) struct AnswerBody<B: Body> {
        // `None`: an answer of the server's own, without a body.
        #[pin]
        body: Option<B>,
        // What is left of a frame that was too large for one piece.
        rest: Option<B::Data>,
        // How much may still be handed out that the end does not wait for.
        small: usize,
        // The trailers, if any, once only the client is waited for.
        end: Option<Box<Option<HeaderMap>>>,
        // HTTP/2 only.
        turns: Option<Arc<Turns>>,
        open: Option<Open>,
    }
}

enum Next {
    Piece(Piece),
    /// With the trailers, if any.
    End(Option<HeaderMap>),
}

impl<B: Body> AnswerBody<B> {
    pub(super) const fn new(
        body: Option<B>,
        turns: Option<Arc<Turns>>,
        open: Option<Open>,
    ) -> Self {
        Self {
            body,
            rest: None,
            small: SMALL,
            end: None,
            turns,
            open,
        }
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Next, B::Error>> {
        let this = self.project();
        if let Some(turns) = this.turns {
            turns.asked();
        }
        let data = match this.rest.take() {
            Some(rest) => rest,
            None => {
                let frame = match this.body.as_pin_mut() {
                    Some(body) => ready!(body.poll_frame(cx)).transpose()?,
                    None => None,
                };
                match frame.map(Frame::into_data) {
                    Some(Ok(data)) => data,
                    // There are no other kinds of frames.
                    Some(Err(other)) => {
                        return Poll::Ready(Ok(Next::End(other.into_trailers().ok())));
                    }
                    None => return Poll::Ready(Ok(Next::End(None))),
                }
            }
        };
        let limit = this.turns.as_ref().map_or(usize::MAX, |_| PIECE);
        let data = first(data, limit, this.rest);
        let mut untaken = None;
        if let Some(turns) = this.turns {
            turns.handed_out();
            match this.small.checked_sub(data.len()) {
                Some(small) => *this.small = small,
                None => untaken = Some(Untaken::new(turns)),
            }
        }
        Poll::Ready(Ok(Next::Piece(Piece {
            data,
            _untaken: untaken,
        })))
    }
}

impl<B: Body> Body for AnswerBody<B> {
    type Data = Piece;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, B::Error>>> {
        let end = match self.as_mut().project().end.take() {
            Some(end) => *end,
            None => match ready!(self.as_mut().poll_next(cx)?) {
                Next::Piece(piece) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
                Next::End(end) => end,
            },
        };
        let this = self.project();
        if let Some(turns) = this.turns
            && turns.poll_taken(cx).is_pending()
        {
            turns.handed_out();
            *this.end = Some(Box::new(end));
            return Poll::Pending;
        }
        Poll::Ready(end.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none()
            && self.end.is_none()
            && self.body.as_ref().is_none_or(Body::is_end_stream)
            && !self.turns.as_ref().is_some_and(|turns| turns.has_untaken())
    }

    fn size_hint(&self) -> SizeHint {
        let Some(body) = &self.body else {
            return SizeHint::with_exact(0);
        };
        let mut hint = body.size_hint();
        let rest = self.rest.as_ref().map_or(0, |rest| rest.remaining() as u64);
        // The upper bound first: the lower one may never be above it.
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(hint.lower().saturating_add(rest));
        hint
    }
}

/// Takes the body off, and states the length that it would have had for a GET.
pub(super) fn strip<B: Body>(answer: &mut Response<Option<B>>) {
    let length = answer.body_mut().take().filter(|it| !it.is_end_stream());
    let length = length.and_then(|body| body.size_hint().exact());
    if says_nothing(answer.status()) {
        if answer.status() == StatusCode::NO_CONTENT {
            answer.headers_mut().remove(header::CONTENT_LENGTH);
        }
    } else if let Some(length) = length {
        let stated = answer.headers_mut().entry(header::CONTENT_LENGTH);
        stated.or_insert_with(|| length.into());
    }
}

fn says_nothing(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// The first `limit` bytes of `data`; what is left goes into `rest`. Does not copy if the data are `Bytes`.
fn first<D: Buf>(mut data: D, limit: usize, rest: &mut Option<D>) -> Bytes {
    let first = data.copy_to_bytes(data.remaining().min(limit));
    if data.has_remaining() {
        *rest = Some(data);
    }
    first
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::task::Waker;

    use http_body_util::{BodyExt, Full};
    use tokio::time::{Duration, advance};

    use super::*;

    struct Broken;

    impl Body for Broken {
        type Data = Bytes;
        type Error = std::fmt::Error;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, std::fmt::Error>>> {
            Poll::Ready(Some(Err(std::fmt::Error)))
        }
    }

    fn link() -> Arc<Link> {
        Arc::new(Link::new(Instant::now()))
    }

    fn answer<B: Body>(link: &Arc<Link>, body: B, http2: bool) -> AnswerBody<B> {
        let turns = http2.then(Arc::default);
        let open = Open::start(link, &Request::new(Full::<Bytes>::default()));
        AnswerBody::new(Some(body), turns, Some(open))
    }

    #[tokio::test]
    async fn http2_gets_pieces_and_the_request_outlasts_them() {
        let link = link();
        let whole = Bytes::from(vec![7; 2 * PIECE + 5]);
        let mut body = answer(&link, Full::new(whole.clone()), true);
        let mut taken = Vec::new();
        for expected in [PIECE, PIECE, 5] {
            assert_eq!(link.in_flight().requests, 1);
            assert_eq!(
                body.size_hint().exact(),
                Some((whole.len() - taken.len()) as u64)
            );
            let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(piece.remaining(), expected);
            taken.extend_from_slice(piece.chunk());
        }
        assert!(body.is_end_stream());
        assert_eq!(taken, whole);
        assert!(body.frame().await.is_none());
        assert_eq!(link.in_flight().requests, 1, "the client has no room yet");
        drop(body);
        assert_eq!(link.in_flight().requests, 0);
    }

    #[tokio::test]
    async fn the_end_of_a_larger_answer_waits_for_the_client() {
        let fields = HeaderMap::from_iter([(header::AGE, "1".parse().unwrap())]);
        for (length, http2, waits) in [
            (SMALL, true, false),
            (SMALL + 1, true, true),
            (SMALL + 1, false, false),
        ] {
            for trailers in [None, Some(fields.clone())] {
                let whole = Full::new(Bytes::from(vec![7; length]));
                let last = trailers.clone().map(Ok::<_, Infallible>);
                let whole = whole.with_trailers(std::future::ready(last));
                let mut body = answer(&link(), whole, http2);
                let piece = body.frame().await.unwrap().unwrap();
                for _ in 0..if waits { 2 } else { 0 } {
                    let mut cx = Context::from_waker(Waker::noop());
                    assert!(Pin::new(&mut body).poll_frame(&mut cx).is_pending());
                    assert!(!body.is_end_stream());
                }
                if waits {
                    drop(piece);
                }
                let end = body.frame().await;
                let end = end.map(|frame| frame.unwrap().into_trailers().unwrap());
                assert_eq!(end, trailers, "{length}");
            }
        }
    }

    #[tokio::test]
    async fn http1_gets_frames_as_they_are() {
        let mut body = answer(&link(), Full::new(Bytes::from(vec![7; 3 * PIECE])), false);
        assert_eq!(
            body.frame()
                .await
                .unwrap()
                .unwrap()
                .into_data()
                .unwrap()
                .remaining(),
            3 * PIECE
        );
    }

    #[tokio::test]
    async fn trailers_and_errors_pass() {
        let mut fields = HeaderMap::new();
        fields.insert("a", "b".parse().unwrap());
        let body = Full::new(Bytes::from_static(b"x"))
            .with_trailers(std::future::ready(Some(Ok(fields.clone()))));
        let collected = answer(&link(), body, true).collect().await.unwrap();
        assert_eq!(collected.trailers(), Some(&fields));

        let mut body = answer(&link(), Broken, true);
        assert!(body.frame().await.unwrap().is_err());
    }

    #[test]
    fn an_empty_body_has_ended_from_the_start_and_a_dropped_one_ends_the_request() {
        let link = link();
        let body = answer(&link, Full::new(Bytes::new()), true);
        assert!(body.is_end_stream());
        assert_eq!(link.in_flight().requests, 1);
        drop(body);
        assert_eq!(link.in_flight().requests, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_is_given_up_at_once_counts_against_the_client() {
        let link = link();
        let request = Request::new(Full::<Bytes>::default());
        let asked = || (0..1100).map(|_| Open::start(&link, &request)).collect();
        let once_http1: Vec<_> = asked();
        drop(once_http1);
        link.multiplex();
        let waited: Vec<_> = asked();
        advance(Duration::from_secs(1)).await;
        drop(waited);
        assert!(!link.is_leaving());
        let at_once: Vec<_> = asked();
        drop(at_once);
        assert!(link.is_leaving());
    }
}
