//! What is kept of a request in case that its connection loses it.
//!
//! An upstream may close an idle connection at the moment at which the next request is written to it. A client of its own would
//! try again (RFC 9112 section 9.3.1), and so does the gateway for it, if the request is safe: once, and on a new connection.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, Request};

/// A connection that is lost later after the write was not about to close when the request came: the upstream had the request,
/// and may have worked on it until it was killed. That is a failed attempt, and not to be done again outside of any budget.
pub(super) const AT_ONCE: Duration = Duration::from_secs(1);

/// Whether a request with this method may be sent again for its sender: it asks for nothing but an answer.
pub(super) const fn is_safe(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE
    )
}

/// The head of a request.
///
/// hyper keeps nothing of a request that it has begun to write, and nearly all requests are kept in vain. To clone one takes two
/// allocations, and counts a reference for each field. So its bytes are copied, into room that stays with the connection.
#[derive(Debug, Default)]
pub(super) struct Kept {
    method: Method,
    /// The target, and the name and the value of each field.
    bytes: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
}

impl Kept {
    /// What a connection keeps for the next head while it is idle. While one is under way, the room is as large as that head.
    const ROOM: usize = 8 * 1024;

    /// Keeps the head of `request`, in place of the one before.
    pub(super) fn keep<B>(&mut self, request: &Request<B>) {
        self.bytes.clear();
        self.ends.clear();
        self.method = request.method().clone();
        let target = request.uri().path_and_query();
        let target = target.map_or("/", |target| target.as_str());
        let fields = request.headers().iter();
        let fields = fields.flat_map(|(name, value)| [name.as_str().as_bytes(), value.as_bytes()]);
        for piece in std::iter::once(target.as_bytes()).chain(fields) {
            self.bytes.extend_from_slice(piece);
            self.ends.push(self.bytes.len());
        }
    }

    /// Gives back the room of a head that was larger than most: nobody asks for it any more.
    pub(super) fn shrink(&mut self) {
        if self.bytes.capacity() > Self::ROOM {
            *self = Self::default();
        }
    }

    /// The request, without a body.
    #[cold]
    pub(super) fn request(&self) -> Option<Request<()>> {
        let mut start = 0;
        let mut pieces = self.ends.iter().map_while(|end| {
            let piece = self.bytes.get(start..*end);
            start = *end;
            piece
        });
        let request = Request::builder().method(&self.method);
        let mut request = request.uri(pieces.next()?).body(()).ok()?;
        while let Some(name) = pieces.next() {
            let name = HeaderName::from_bytes(name).ok()?;
            let value = HeaderValue::from_bytes(pieces.next()?).ok()?;
            request.headers_mut().append(name, value);
        }
        Some(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_the_same_request() {
        let mut kept = Kept::default();
        assert!(kept.request().is_none());
        let odd = HeaderValue::from_bytes(b"\xe4 \"").unwrap();
        for target in ["/a%2Fb?x=%20&y", "/", "*", "/?"] {
            let request = Request::builder()
                .method(Method::OPTIONS)
                .uri(target)
                .header("host", "shop.example")
                .header("x", odd.clone())
                .header("empty", "")
                .header("x", "2");
            let request = request.body(()).unwrap();
            kept.keep(&request);
            let again = kept.request().unwrap();
            assert_eq!(again.method(), request.method());
            assert_eq!(again.uri(), request.uri());
            assert_eq!(again.headers(), request.headers());
        }
        // Nothing is left of the one before.
        kept.keep(&Request::new(()));
        let again = kept.request().unwrap();
        assert_eq!((again.method(), again.uri().path()), (&Method::GET, "/"));
        assert!(again.headers().is_empty());
    }

    /// Story: a head of more than 8 KiB was not kept, and its request not sent again.
    #[test]
    fn what_is_long_is_kept_only_while_it_may_be_lost() {
        let mut kept = Kept::default();
        let long = "a".repeat(32 * 1024);
        let request = Request::builder().header("x", &long).header("y", &long);
        kept.keep(&request.body(()).unwrap());
        kept.keep(&Request::new(()));
        kept.shrink();
        assert_eq!((kept.bytes.capacity(), kept.ends.capacity()), (0, 0));
        assert!(kept.request().is_none());
        // Room for what is usual stays.
        kept.keep(&Request::new(()));
        kept.shrink();
        assert!(kept.bytes.capacity() > 0);
    }
}
