//! The steps of a scripted body.

use std::collections::VecDeque;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Frame, SizeHint};

use super::{BodyHandle, ScriptedBody};

/// What a body will do, step by step; after the last step it ends.
#[derive(Debug, Default)]
#[must_use = "a script does nothing until a body is built from it"]
pub struct BodyScript {
    pub(super) steps: VecDeque<Step>,
    pub(super) claimed_size: Option<SizeHint>,
    pub(super) claimed_end: Option<bool>,
}

#[derive(Debug)]
pub(super) enum Step {
    Frame(Frame<Bytes>),
    Hold,
    Error(String),
    Panic(String),
}

impl BodyScript {
    /// Yields a data frame.
    pub fn data(self, data: impl Into<Bytes>) -> Self {
        self.step(Step::Frame(Frame::data(data.into())))
    }

    /// Yields one trailers frame with these fields.
    ///
    /// # Panics
    ///
    /// If a name or a value is not valid.
    #[track_caller]
    pub fn trailers<const N: usize>(self, fields: [(&str, &str); N]) -> Self {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            let name: HeaderName = name.parse().expect("a valid trailer name");
            let value: HeaderValue = value.parse().expect("a valid trailer value");
            map.append(name, value);
        }
        self.step(Step::Frame(Frame::trailers(map)))
    }

    /// Is pending until [`BodyHandle::resume`] is called.
    pub fn hold(self) -> Self {
        self.step(Step::Hold)
    }

    /// Yields an error with this text. Steps after it still follow; without any, the body ends.
    pub fn error(self, message: impl Into<String>) -> Self {
        self.step(Step::Error(message.into()))
    }

    /// Panics with this message when it is polled.
    pub fn panic(self, message: impl Into<String>) -> Self {
        self.step(Step::Panic(message.into()))
    }

    /// Replaces the size hint, which otherwise is exactly the data left, by a constant.
    pub fn claim_size(mut self, hint: SizeHint) -> Self {
        self.claimed_size = Some(hint);
        self
    }

    /// Replaces the answer of `is_end_stream`, which otherwise is true after the last step, by a constant.
    pub fn claim_end(mut self, ended: bool) -> Self {
        self.claimed_end = Some(ended);
        self
    }

    /// The body, and the handle that drives and watches it.
    pub fn build(self) -> (ScriptedBody, BodyHandle) {
        ScriptedBody::new(self)
    }

    pub(super) fn data_left(&self) -> u64 {
        let data = self.steps.iter().filter_map(|step| match step {
            Step::Frame(frame) => frame.data_ref(),
            Step::Hold | Step::Error(_) | Step::Panic(_) => None,
        });
        data.map(|data| data.len() as u64).sum()
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push_back(step);
        self
    }
}
