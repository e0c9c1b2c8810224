//! What an attempt came to, while another one is to take its place.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Buf as _;
use http::{HeaderName, Response, header};
use http_body::{Body, Frame};

use crate::body::ResponseBody;

/// An outcome that was set aside, in case that the retry which is to replace it is never sent.
///
/// An answer's body stands for a connection, a slot, a permit. So it is read on for a moment, which leaves a connection that
/// can be used again, or else dropped; what was read is kept if it is all there is. From then on nothing of the upstream's is
/// held, however long the retry waits.
pub(crate) struct Aside<ResB: Body, E> {
    head: Result<Response<()>, E>,
    /// None once it has been read to its end, or given up.
    body: Option<Pin<Box<ResB>>>,
    frames: Vec<Frame<ResB::Data>>,
    size: usize,
    /// There was more than is kept.
    lost: bool,
}

/// The most that is kept of an answer: a sentence or two, as failures have.
const KEPT: usize = 4096;

/// What a frame counts at least. A tiny one may be a slice of a read buffer of some KiB, which it keeps alive.
const FRAME_MIN: usize = 1024;

impl<ResB: Body, E> Aside<ResB, E> {
    /// How long a body is waited for. What is there follows its head within a round trip through the connection's own task; an
    /// upstream that stops in the middle of a failure is not worth more of a retry's time.
    pub(crate) const READ_FOR: Duration = Duration::from_millis(20);

    pub(crate) fn new(outcome: Result<Response<ResB>, E>) -> Self {
        let (head, body) = match outcome {
            Err(error) => (Err(error), None),
            Ok(response) => {
                let (parts, body) = response.into_parts();
                (Ok(Response::from_parts(parts, ())), Some(body))
            }
        };
        let mut aside = Self {
            head,
            body: None,
            frames: Vec::new(),
            size: 0,
            lost: false,
        };
        if let Some(body) = body.filter(|body| !body.is_end_stream()) {
            if body.size_hint().lower() > KEPT as u64 {
                aside.lost = true;
            } else {
                aside.body = Some(Box::pin(body));
            }
        }
        aside
    }

    /// Reads the body on, until nothing of the upstream's is held.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(body) = &mut self.body {
            let frame = ready!(body.as_mut().poll_frame(cx));
            let ended = body.is_end_stream();
            match frame {
                Some(Ok(frame)) => {
                    let length = frame.data_ref().map_or(0, |data| data.remaining());
                    self.size = self.size.saturating_add(length.max(FRAME_MIN));
                    self.frames.push(frame);
                }
                Some(Err(_)) => self.give_up(),
                None => self.body = None,
            }
            if self.size > KEPT {
                self.give_up();
            } else if ended {
                self.body = None;
            }
        }
        Poll::Ready(())
    }

    /// Holds nothing of the upstream's from now on.
    pub(crate) fn give_up(&mut self) {
        if self.body.take().is_some() {
            self.lost = true;
            self.frames = Vec::new();
        }
    }

    /// The outcome after all. A body that was given up is not passed for a whole one: the head is all that comes, and says so.
    pub(crate) fn outcome(mut self) -> Result<Response<ResponseBody<ResB>>, E> {
        self.give_up();
        let mut response = self.head?;
        if self.lost {
            for name in &OF_THE_CONTENT {
                response.headers_mut().remove(name);
            }
        }
        Ok(response.map(|()| ResponseBody::kept(self.frames)))
    }
}

/// The fields that say what is in a body.
const OF_THE_CONTENT: [HeaderName; 8] = [
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::CONTENT_RANGE,
    header::ETAG,
    header::LAST_MODIFIED,
    header::TRAILER,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
];
