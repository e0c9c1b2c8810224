use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use gw_core::awaited::Awaited;
use gw_core::{Body, BoxError};
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Instant;

use super::shared::Shared;
use super::{Interest, Upload};
use crate::inbound::ClientFault;
use crate::upstream::hop_by_hop::Named;
use crate::upstream::stated::Stated;
use crate::upstream::tasks::Tasks;

/// The body of a request as the connection sees it.
#[derive(Debug)]
pub(in crate::upstream) struct RequestBody {
    body: Body,
    // It is not asked again.
    failed: bool,
    // None if the body had ended before it was sent: there is nothing to tell.
    pub(super) shared: Option<Arc<Shared>>,
    // Those of an HTTP/2 connection, until it asks for the body.
    tasks: Option<Tasks>,
    // Boxed: hardly any body needs it.
    stated: Option<Box<Stated>>,
    // What the trailers lose. Boxed for the same reason.
    named: Option<Box<Named>>,
}

impl RequestBody {
    /// Wraps `body`; both sides count from `now`, or from when a connection [begins](Upload::begin).
    ///
    /// `stated` is the length that the request's fields state where the body does not tell its own; `client` is asked
    /// whose fault a failure is, and `awaited` is told whether it is the client that is waited for.
    pub(in crate::upstream) fn new(
        body: Body,
        now: Instant,
        stated: Option<u64>,
        client: Option<ClientFault>,
        awaited: Option<Awaited>,
    ) -> (Self, Upload) {
        let shared = (!body.is_end_stream()).then(|| Arc::new(Shared::new(now, client, awaited)));
        let upload = Upload(shared.clone());
        let stated = stated.map(|length| Box::new(Stated::new(length)));
        let body = Self {
            body,
            failed: false,
            shared,
            tasks: None,
            stated,
            named: None,
        };
        (body, upload)
    }

    /// The same body behind a head that has `named` what its connection needs.
    pub(in crate::upstream) fn named(mut self, named: Option<Named>) -> Self {
        self.named = named.map(Box::new);
        self
    }

    /// It is about to be given to the connection that these belong to. The one that will send it must know it.
    pub(in crate::upstream) fn sent_by(&mut self, tasks: &Tasks) {
        self.tasks = self.shared.is_some().then(|| tasks.clone());
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let Some(shared) = &this.shared else {
            return Pin::new(&mut this.body).poll_frame(cx);
        };
        if let Some(tasks) = this.tasks.take() {
            tasks.announce(Interest(Arc::clone(shared)));
        }
        if !this.failed {
            let body = Pin::new(&mut this.body);
            let polled = match &mut this.stated {
                None => body.poll_frame(cx),
                Some(stated) => stated.poll_frame(body, cx),
            };
            match polled {
                Poll::Ready(Some(Ok(mut frame))) => {
                    match &this.named {
                        None => Named::NOTHING.strip_trailers(&mut frame),
                        Some(named) => named.strip_trailers(&mut frame),
                    }
                    shared.handed_over();
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(Some(Err(error))) => {
                    this.failed = true;
                    shared.fail(error);
                }
                Poll::Ready(None) => {
                    shared.ended();
                    return Poll::Ready(None);
                }
                Poll::Pending => {}
            }
        }
        match shared.poll_idle(cx) {
            // hyper resets a stream for the reason that it finds in the error. HTTP/1 has none to give.
            Poll::Ready(()) => Poll::Ready(Some(Err(h2::Error::from(h2::Reason::CANCEL).into()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.stated {
            None => self.body.is_end_stream(),
            Some(stated) => stated.has_ended(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.stated {
            None => self.body.size_hint(),
            // The field says it.
            Some(_) => SizeHint::default(),
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.dropped();
        }
    }
}
