use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Buf as _;
use gw_core::record::Record;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Instant;

pin_project! {
    /// The body of a request whose bytes are counted, and for which the time is measured that it is waited for.
    ///
    /// What it finds goes into the request's [`Record`] as it is found.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the body inside.
    #[derive(Debug, Default)]
    pub struct RequestBody<B> {
        #[pin]
        inner: B,
        meter: Meter,
    }
}

#[derive(Debug, Default)]
struct Meter {
    record: Record,
    is_waiting: bool,
}

impl<B> RequestBody<B> {
    pub(crate) const fn new(inner: B, record: Record) -> Self {
        let is_waiting = false;
        Self {
            inner,
            meter: Meter { record, is_waiting },
        }
    }

    /// The body inside.
    pub const fn get_ref(&self) -> &B {
        &self.inner
    }

    /// The body inside. It is not observed any more.
    pub fn into_inner(self) -> B {
        self.inner
    }
}

impl Meter {
    fn wait(&mut self) {
        if !self.is_waiting {
            self.is_waiting = true;
            let now = Instant::now();
            self.record
                .update(|exchange| exchange.upload_wait_begins(now));
        }
    }

    fn received(&mut self, bytes: usize) {
        // The clock is looked at only after a wait.
        let waited_until = std::mem::take(&mut self.is_waiting).then(Instant::now);
        if bytes == 0 && waited_until.is_none() {
            return;
        }
        self.record.update(|exchange| {
            exchange.request_size += u64::try_from(bytes).unwrap_or(u64::MAX);
            if let Some(now) = waited_until {
                exchange.upload_wait_ends(now);
            }
        });
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.received(0);
    }
}

impl<B: Body> Body for RequestBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let frame = this.inner.poll_frame(cx);
        match &frame {
            Poll::Pending => this.meter.wait(),
            Poll::Ready(Some(Ok(frame))) => this
                .meter
                .received(frame.data_ref().map_or(0, |data| data.remaining())),
            Poll::Ready(Some(Err(_)) | None) => this.meter.received(0),
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
