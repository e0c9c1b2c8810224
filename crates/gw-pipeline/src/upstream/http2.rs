//! HTTP/2 connections, each of them shared by as many exchanges as its peer allows.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

use hyper::client::conn::http2::{Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::socket::{Heard, Socket};
use super::tasks::Tasks;
use super::timer::Timer;
use super::upload::RequestBody;
use super::usage::Usage;

/// A share in a connection, in use until it is dropped.
#[derive(Debug)]
pub(super) struct Http2 {
    pub(super) sender: SendRequest<RequestBody>,
    usage: Arc<Usage>,
    heard: Heard,
    pub(super) timer: Timer,
}

/// A connection as its place keeps it.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) sender: SendRequest<RequestBody>,
    pub(super) usage: Arc<Usage>,
    pub(super) heard: Heard,
}

impl Shared {
    /// Whether it goes on taking exchanges, when it has room.
    pub(super) fn is_live(&self) -> bool {
        !self.sender.is_closed() && self.usage.takes_more()
    }

    /// Whether it takes an exchange now.
    pub(super) fn has_room(&self) -> bool {
        !self.sender.is_closed() && self.usage.has_room()
    }

    pub(super) fn try_share(&self) -> Option<Http2> {
        (!self.sender.is_closed() && self.usage.try_enter()).then(|| self.share())
    }

    pub(super) fn share_retired(&self) -> Option<Http2> {
        (!self.sender.is_closed() && self.usage.enter_retired()).then(|| self.share())
    }

    /// A share whose user is counted already.
    pub(super) fn share(&self) -> Http2 {
        Http2 {
            sender: self.sender.clone(),
            usage: Arc::clone(&self.usage),
            heard: self.heard.clone(),
            timer: Timer::default(),
        }
    }
}

/// The peer's settings are the first that it sends, and no longer than this.
const SETTINGS: u64 = 256;

/// Drives `connection`, and tells `usage` how many streams the peer allows when that is asked for: a look takes a lock of the
/// connection's. `greeted` is told when the peer has spoken.
pub(super) async fn counting(
    mut connection: Connection<TokioIo<Socket>, RequestBody, Tasks>,
    usage: &Usage,
    greeted: oneshot::Sender<()>,
) {
    let mut greeted = Some(greeted);
    poll_fn(|cx| {
        let polled = Pin::new(&mut connection).poll(cx);
        if usage.asks() {
            // First: what comes meanwhile is none of what is seen here.
            let noted = usage.noted();
            usage.allow(connection.current_max_send_streams(), noted >= SETTINGS);
            if noted > 0
                && polled.is_pending()
                && let Some(greeted) = greeted.take()
            {
                _ = greeted.send(());
            }
        }
        polled.map(drop)
    })
    .await;
}

impl Http2 {
    /// To be compared with later: see [`retire_if_silent`](Self::retire_if_silent).
    pub(super) fn heard(&self) -> u64 {
        self.heard.count()
    }

    /// An exchange has waited in vain: if nothing at all has come since, the peer may be gone without a word, and the
    /// next exchange gets another connection.
    pub(super) fn retire_if_silent(&self, since: u64) {
        if self.heard.count() == since {
            self.usage.retire();
        }
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.usage.leave(Instant::now());
    }
}
