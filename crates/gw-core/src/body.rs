//! The one erased body.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// An error of any kind, as bodies and foreign layers give it.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// A request or response body whose origin does not matter any more.
///
/// Bytes at hand are kept as they are; any other body is boxed, and a `Body` inside a `Body` is unwrapped
/// instead of boxed again. Size hint, end of stream and trailers are those of the body inside. A body that panics when
/// polled ends with an error instead: on HTTP/2 the panic would take all other streams of the connection with it.
///
/// # Cancel safety
///
/// Dropping it drops the body inside, with all that this body holds.
pub struct Body(Kind);

type Boxed = Pin<Box<dyn http_body::Body<Data = Bytes, Error = BoxError> + Send>>;

enum Kind {
    /// `None` when there is nothing (more) to send.
    Whole(Option<Bytes>),
    Boxed(Boxed),
}

impl Body {
    /// A body without content.
    pub const fn empty() -> Self {
        Self(Kind::Whole(None))
    }

    /// Erases `body`. Does not allocate if it has already ended, or is a `Body` itself.
    pub fn new<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        // The slot lets a generic value be taken out by its type without boxing it first.
        let mut slot = Some(body);
        if let Some(same) = (&mut slot as &mut dyn Any).downcast_mut::<Option<Self>>() {
            return same.take().unwrap_or_else(Self::empty);
        }
        match slot {
            // An ended body is dropped here: what it holds is given back at once. Its trailers have been sent or
            // do not exist, since `is_end_stream` is only true when no frame follows.
            Some(body) if !body.is_end_stream() => Self(Kind::Boxed(Box::pin(Erased {
                body,
                panicked: false,
            }))),
            _ => Self::empty(),
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self(Kind::Whole(Some(bytes).filter(|b| !b.is_empty())))
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.0 {
            Kind::Whole(None) => "empty",
            Kind::Whole(Some(_)) => "whole",
            Kind::Boxed(_) => "stream",
        };
        f.debug_tuple("Body").field(&kind).finish()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.get_mut().0 {
            Kind::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Kind::Boxed(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64))
            }
            Kind::Boxed(body) => body.size_hint(),
        }
    }
}

pin_project_lite::pin_project! {
    /// Changes the error type and stops panics; the box around it is the one allocation.
    struct Erased<B> {
        #[pin]
        body: B,
        panicked: bool,
    }
}

/// A body panicked when it was polled.
#[derive(Debug)]
struct Panicked;

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body panicked when polled")
    }
}

impl Error for Panicked {}

impl<B> http_body::Body for Erased<B>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        if *this.panicked {
            return Poll::Ready(None);
        }
        // Unwind safe: a body that panicked is never polled again.
        match catch_unwind(AssertUnwindSafe(|| this.body.poll_frame(cx))) {
            Ok(frame) => frame.map(|frame| frame.map(|result| result.map_err(Into::into))),
            Err(_) => {
                *this.panicked = true;
                Poll::Ready(Some(Err(Box::new(Panicked))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.panicked || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;
    use http_body_util::{BodyExt as _, Empty, Full, StreamBody};

    use super::*;

    fn chunks() -> impl http_body::Body<Data = Bytes, Error = std::io::Error> + Send + 'static {
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", 0.into());
        let frames = [
            Ok(Frame::data(Bytes::from_static(b"ab"))),
            Ok(Frame::trailers(trailers)),
        ];
        StreamBody::new(Frames(frames.into_iter()))
    }

    struct Frames<I>(I);

    impl<I: Iterator + Unpin> futures_core::Stream for Frames<I> {
        type Item = I::Item;

        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<I::Item>> {
            Poll::Ready(self.0.next())
        }
    }

    #[tokio::test]
    async fn keeps_data_and_trailers() {
        let collected = Body::new(chunks()).collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(collected.to_bytes(), "ab");
    }

    #[tokio::test]
    async fn a_panic_becomes_an_error() {
        struct Panics;

        impl http_body::Body for Panics {
            type Data = Bytes;
            type Error = BoxError;

            fn poll_frame(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
            ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
                panic!("a fault in a body")
            }
        }

        let mut body = Body::new(Panics);
        let error = body.frame().await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "the body panicked when polled");
        assert!(body.is_end_stream());
        assert!(body.frame().await.is_none());
    }

    #[test]
    fn is_never_boxed_twice() {
        let erased = Body::new(Body::new(Full::new(Bytes::from_static(b"abc"))));
        let Kind::Boxed(outer) = &erased.0 else {
            panic!("a full body is boxed once")
        };
        // The box holds the `Full` itself, not a box around it.
        assert_eq!(size_of_val(&**outer), size_of::<Erased<Full<Bytes>>>());
        assert!(matches!(
            Body::new(Body::from("abc")).0,
            Kind::Whole(Some(_))
        ));
    }

    #[test]
    fn reports_size_and_end() {
        assert_eq!(Body::from("abc").size_hint().exact(), Some(3));
        assert!(!Body::from("abc").is_end_stream());
        assert!(Body::from("").is_end_stream());
        assert!(Body::new(Empty::new()).is_end_stream());
        assert_eq!(
            Body::new(Full::new(Bytes::from_static(b"abc")))
                .size_hint()
                .exact(),
            Some(3)
        );
    }
}
