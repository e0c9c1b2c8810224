//! HTTP/2 connections, each of them shared by as many exchanges as its peer allows.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

use hyper::client::conn::http2::{Builder, Connection, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::config::Settings;
use super::limits::DECADES;
use super::pool::MAX_HEAD;
use super::socket::Socket;
use super::tasks::Tasks;
use super::timer::Timer;
use super::upload::RequestBody;
use super::usage::{EXCHANGES, Usage};

/// A share in a connection, in use until it is dropped.
#[derive(Debug)]
pub(super) struct Http2 {
    pub(super) sender: SendRequest<RequestBody>,
    usage: Arc<Usage>,
    pub(super) tasks: Tasks,
    pub(super) timer: Timer,
}

/// A connection as its place keeps it.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) sender: SendRequest<RequestBody>,
    pub(super) usage: Arc<Usage>,
    pub(super) tasks: Tasks,
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
            tasks: self.tasks.clone(),
            timer: Timer::default(),
        }
    }
}

/// So much of all answers together may be unread on a connection at the least, and as much as HTTP/2 can say at the most.
///
/// It is no bound, which is for each stream to have: what one leaves unread must not be missing to others. But h2 derives from it
/// how much it puts up with from small pieces that nobody has read, before it ends the connection and all that is on it. The least
/// is half a million pieces of a byte, which take some 128 MB to keep. Small pieces that come for requests which were cancelled count for
/// as long as the connection lives, so it must not be much less.
const LEAST_WINDOW: u32 = 256 << 20;
const LARGEST_WINDOW: u32 = (1 << 31) - 1;

/// So much of one answer may be unread, and so much comes within a round trip: 2.6 MB a second over 50 ms.
///
/// HTTP/2 without TLS is for upstreams that are near. On loopback half of it costs a fifth of the speed, and twice as much gains
/// hardly anything. And of 256 answers in pieces of 64 bytes, unread, h2 puts up with that much.
const STREAM_WINDOW: u32 = 128 * 1024;

/// One frame. With less peers would cut their answers into smaller pieces.
const LEAST_STREAM_WINDOW: u32 = 16 * 1024;

/// So many requests that were cancelled within a second are remembered, and what comes for them is passed over. For others the peer
/// is sent a reset with each frame that was on its way, and may take that for a flood.
const REMEMBERED: usize = 4096;

/// So many resets of ours a connection may cost: several for each of its exchanges.
///
/// A bound for the whole life of the connection, which answers to requests that are no longer remembered use up. It is meant for
/// servers that anybody may call, and lower ones are reached by upstreams that mean no harm. Here it holds where a connection goes on
/// being shared although it is retired, since there is no room for another.
const MAX_RESETS: usize = 4 * EXCHANGES as usize;

/// The window of a connection on which there may be `streams`.
fn connection_window(streams: usize) -> u32 {
    let streams = u32::try_from(streams).unwrap_or(u32::MAX);
    let all = streams.saturating_mul(STREAM_WINDOW);
    all.clamp(LEAST_WINDOW, LARGEST_WINDOW)
}

/// The window of each stream, of which there may be `streams`: all of them have room in the connection's.
fn stream_window(streams: usize) -> u32 {
    let window = connection_window(streams);
    let streams = u32::try_from(streams).unwrap_or(u32::MAX);
    let share = window.checked_div(streams);
    share.map_or(STREAM_WINDOW, |share| {
        share.clamp(LEAST_STREAM_WINDOW, STREAM_WINDOW)
    })
}

/// Makes connections to a peer that is taken to allow so many exchanges.
pub(super) fn http2_builder(tasks: Tasks, allowed: usize, settings: &Settings) -> Builder<Tasks> {
    let streams = settings.pool.max_connections;
    let mut http2 = Builder::new(tasks);
    http2
        .max_header_list_size(MAX_HEAD)
        .initial_max_send_streams(allowed)
        .initial_stream_window_size(stream_window(streams))
        .initial_connection_window_size(connection_window(streams))
        .max_concurrent_reset_streams(REMEMBERED)
        .max_local_error_reset_streams(Some(MAX_RESETS))
        .timer(TokioTimer::new())
        .keep_alive_interval(settings.ping_interval.min(DECADES))
        .keep_alive_timeout(settings.ping_timeout.min(DECADES));
    http2
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
        self.tasks.heard()
    }

    /// An exchange has waited in vain: if nothing at all has come since, the peer may be gone without a word, and the
    /// next exchange gets another connection.
    pub(super) fn retire_if_silent(&self, since: u64) {
        if self.heard() == since {
            self.usage.retire();
        }
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.usage.leave(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_streams_may_leave_unread_has_room_in_the_connection() {
        for streams in [1, 256, 10_000, 16_384, 100_000] {
            let all = stream_window(streams) as usize * streams;
            assert!(all <= connection_window(streams) as usize, "{streams}");
        }
        assert_eq!(stream_window(16_383), STREAM_WINDOW);
        assert!(stream_window(100_000) < STREAM_WINDOW);
        assert_eq!(stream_window(usize::MAX), LEAST_STREAM_WINDOW);
    }

    /// Story: an upstream could have the gateway keep a gigabyte of small pieces for each connection.
    #[test]
    fn small_pieces_that_nobody_reads_are_bounded() {
        // What h2 takes a small piece to cost, and how much of that it puts up with.
        let pieces = |streams| connection_window(streams) / 2 / 256;
        assert_eq!(pieces(256), 1 << 19);
        // All may be unread, if they are no smaller than this.
        assert!(pieces(256) > 256 * (STREAM_WINDOW / 64) * (256 - 64) / 256);
    }
}
