//! A body whose length stands in the request's fields and nowhere else.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use gw_core::{Body, BoxError};
use http_body::{Body as _, Frame};

/// Holds a body to the length that was stated for it.
///
/// A stage may have changed the body and left the field. The upstream takes the request for whole when it has so many
/// bytes, so the piece that makes them full goes out only when the body has ended there. A body that turns out shorter
/// or longer fails before that, and the upstream sees a request that breaks off.
#[derive(Debug)]
pub(super) struct Stated {
    left: u64,
    /// The piece that makes the length full.
    last: Option<Bytes>,
    trailers: Option<Frame<Bytes>>,
    /// The body has ended as it should.
    ended: bool,
}

impl Stated {
    pub(super) const fn new(length: u64) -> Self {
        Self {
            left: length,
            last: None,
            trailers: None,
            ended: false,
        }
    }

    pub(super) const fn has_ended(&self) -> bool {
        self.ended && self.last.is_none() && self.trailers.is_none()
    }

    /// The next frame of `body`.
    pub(super) fn poll_frame(
        &mut self,
        mut body: Pin<&mut Body>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        while !self.ended {
            let frame = match ready!(body.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => Some(frame),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => None,
            };
            match frame.map(Frame::into_data) {
                Some(Ok(data)) => {
                    let Some(left) = self.left.checked_sub(data.len() as u64) else {
                        return wrong("longer");
                    };
                    self.left = left;
                    if left > 0 {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    if !data.is_empty() {
                        self.last = Some(data);
                    }
                    self.ended = body.is_end_stream();
                }
                Some(Err(trailers)) => {
                    self.trailers = Some(trailers);
                    self.ended = true;
                }
                None => self.ended = true,
            }
        }
        if self.left > 0 {
            return wrong("shorter");
        }
        let data = self.last.take().map(Frame::data);
        Poll::Ready(data.or_else(|| self.trailers.take()).map(Ok))
    }
}

fn wrong(how: &str) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
    let text = format!("the body is {how} than the length that is stated for it");
    Poll::Ready(Some(Err(text.into())))
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use gw_testkit::body::{BodyScript, ScriptedBody};

    use super::*;

    /// What goes out, and whether the body failed.
    fn pass(length: u64, body: ScriptedBody) -> (String, bool) {
        let mut stated = Stated::new(length);
        let mut body = Body::new(body);
        let mut cx = Context::from_waker(Waker::noop());
        let mut sent = String::new();
        loop {
            match stated.poll_frame(Pin::new(&mut body), &mut cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => sent.push_str(std::str::from_utf8(&data).unwrap()),
                    Err(_) => sent.push('.'),
                },
                Poll::Ready(Some(Err(_))) => return (sent, true),
                Poll::Ready(None) => return (sent, !stated.has_ended()),
                Poll::Pending => panic!("nothing is held"),
            }
        }
    }

    #[test]
    fn the_length_is_full_with_the_end_of_the_body_or_never() {
        let body = || ScriptedBody::script().data("ab").data("cd");
        let whole = |length, script: BodyScript| pass(length, script.build().0);
        assert_eq!(whole(4, body()), ("abcd".to_owned(), false));
        assert_eq!(whole(5, body()), ("abcd".to_owned(), true));
        assert_eq!(whole(3, body()), ("ab".to_owned(), true));
        assert_eq!(whole(2, body()), (String::new(), true));
        let trailers = body().trailers([("x-sum", "4")]);
        assert_eq!(whole(4, trailers), ("abcd.".to_owned(), false));
        let trailers = body().trailers([("x-sum", "4")]);
        assert_eq!(whole(5, trailers), ("abcd".to_owned(), true));
    }
}
