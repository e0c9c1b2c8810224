//! The task of one connection, from accept to close.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use gw_core::BoxError;
use http::{Request, Response};
use http_body::Body;
use hyper::rt::bounds::Http2ServerConnExec;
use hyper::server::conn::{http1, http2};
use hyper::service::HttpService;
use hyper_util::rt::TokioIo;
use tower_service::Service;

use super::closed::CloseReason;
use super::config::ServerConfig;
use super::farewell::{SlowHead, linger};
use super::incoming::Incoming;
use super::io::{Io, Protocol};
use super::lent::{Lent, Returned};
use super::link::Link;
use super::registry::Registry;
use super::resets::GIVEN_UP;
use super::service::Requests;
use super::stream::Streams;
use super::supervisor::{Ended, Stage, Supervisor};

/// How much of an answer waits in memory for each HTTP/2 stream when the socket takes nothing.
const HTTP2_SEND_BUFFER: usize = 64 * 1024;

/// What an HTTP/2 client may send of all its uploads before any of it is read.
const HTTP2_CONNECTION_WINDOW: u32 = 1024 * 1024;

/// The same of one upload. Fifteen that wait in a queue, or for an upstream that does not read, leave room for others. A window for the
/// connection that all streams together cannot use up would be memory for any client to fill.
const HTTP2_STREAM_WINDOW: u32 = HTTP2_CONNECTION_WINDOW / 16;

/// hyper's own limit on fields; setting it would cost an allocation a request.
const HYPER_MAX_HEADERS: usize = 100;

/// hyper takes no smaller read buffer.
const HYPER_MIN_BUFFER: usize = 8 * 1024;

/// A service that can be served.
pub(super) trait Serve<B>:
    Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + 'static
{
}

impl<S, B> Serve<B> for S where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static
{
}

/// Serves one connection to its end.
pub(super) async fn run<S, B>(
    io: Io,
    registry: Arc<Registry>,
    peer: SocketAddr,
    service: S,
    slow_head: SlowHead,
) where
    S: Serve<B>,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let link = Arc::clone(io.link());
    let mut supervisor = Supervisor::new(Arc::clone(&link), registry.config.timers);

    let mut sniffing = Sniffing { io: Some(io) };
    let (io, protocol) = match supervisor.watch(&mut sniffing).await {
        Ended::Itself(Some(known)) => known,
        Ended::Itself(None) => {
            link.close_as(if link.is_peer_gone() {
                CloseReason::ClientGone
            } else {
                CloseReason::Done
            });
            return;
        }
        Ended::Closed(reason) => {
            link.close_as(reason);
            if let (CloseReason::HeaderTimeout, true, Some(io)) =
                (reason, link.owes_head(), sniffing.io.take())
            {
                slow_head.answer(io).await;
            }
            return;
        }
    };

    let requests = Requests::new(
        service,
        Arc::clone(&link),
        peer,
        protocol,
        registry.config.max_headers,
    );
    match protocol {
        Protocol::Http1 => {
            let config = &registry.config;
            serve_http1(io, config, &link, requests, &mut supervisor, &slow_head).await;
        }
        Protocol::Http2 => serve_http2(io, registry, &link, requests, &mut supervisor).await,
    }
}

async fn serve_http1<S, B>(
    io: Io,
    config: &ServerConfig,
    link: &Link,
    requests: Requests<S>,
    supervisor: &mut Supervisor,
    slow_head: &SlowHead,
) where
    S: Serve<B>,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let mut builder = http1::Builder::new();
    // The timers are ours: hyper's one covers head and idle time alike.
    builder
        .header_read_timeout(None)
        .max_header_size(config.max_header_bytes)
        .max_buf_size(config.max_header_bytes.max(HYPER_MIN_BUFFER));
    if config.max_headers != HYPER_MAX_HEADERS {
        builder.max_headers(config.max_headers);
    }
    let (lent, returned) = Lent::new(io);
    let mut stage = builder
        .serve_connection(TokioIo::new(lent), requests)
        .with_upgrades();
    let ended = supervisor.watch(&mut stage).await;
    match ended {
        Ended::Itself(result) => {
            let reason = reason(&result, link);
            link.close_as(reason);
            // What was meant for a tunnel may still come, as may the rest of a body, and what follows a request of which hyper has
            // read at least the beginning.
            let (io, more) = match stage.into_parts() {
                Some(parts) => {
                    let more = link.may_be_uploading() || !parts.read_buf.is_empty();
                    (parts.io.into_inner().into_io(), more)
                }
                None => (upgraded(returned, link, supervisor).await, true),
            };
            let Some(io) = io else {
                return;
            };
            if reason == CloseReason::Failed {
                link.kill();
            } else if !link.is_peer_gone() && (result.is_err() || more) {
                linger(io).await;
            }
        }
        Ended::Closed(CloseReason::HeaderTimeout) if link.owes_head() => {
            link.close_as(CloseReason::HeaderTimeout);
            // What is in hyper's buffer, if anything, is part of a head; nothing else is under way.
            let parts = stage.into_parts();
            if let Some(io) = parts.and_then(|parts| parts.io.into_inner().into_io()) {
                slow_head.answer(io).await;
            }
        }
        Ended::Closed(reason) => close(&mut stage, reason, link).await,
    }
}

async fn serve_http2<S, B>(
    io: Io,
    registry: Arc<Registry>,
    link: &Arc<Link>,
    requests: Requests<S>,
    supervisor: &mut Supervisor,
) where
    S: Serve<B>,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    link.multiplex();
    let limits = registry.config.http2;
    let mut builder = http2::Builder::new(Streams::new(Arc::clone(link), registry));
    builder
        .max_concurrent_streams(limits.max_concurrent_streams)
        .max_header_list_size(limits.max_header_list_bytes)
        .max_pending_accept_reset_streams(limits.max_pending_resets)
        .max_local_error_reset_streams(usize::from(GIVEN_UP))
        .max_send_buf_size(HTTP2_SEND_BUFFER)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW);
    // Boxed, since it is several times as large as an HTTP/1 connection, and the task has room for either.
    let mut stage = Box::new(builder.serve_connection(TokioIo::new(io), requests));
    match supervisor.watch(&mut *stage).await {
        Ended::Itself(result) => link.close_as(reason(&result, link)),
        Ended::Closed(reason) => close(&mut *stage, reason, link).await,
    }
}

/// Ends a stage that has not ended by itself. Dropping it afterwards closes the socket.
async fn close<T: Stage>(stage: &mut T, reason: CloseReason, link: &Link) {
    link.close_as(reason);
    match reason {
        CloseReason::WriteStall | CloseReason::Cut => link.kill(),
        // One chance to say goodbye: on HTTP/2, what the client sends from now on it may send elsewhere.
        _ => {
            stage.drain();
            poll_fn(|cx| {
                _ = Pin::new(&mut *stage).poll(cx);
                Poll::Ready(())
            })
            .await;
        }
    }
}

/// Waits for what hyper takes for a tunnel to end. Gives the socket back if no answer has begun one.
///
/// The connection counts until then, and is watched for as long.
async fn upgraded(mut returned: Returned, link: &Link, supervisor: &mut Supervisor) -> Option<Io> {
    if link.has_switched() {
        link.tunnel();
        link.close_as(CloseReason::Done);
    }
    match supervisor.watch(&mut returned).await {
        Ended::Itself(io) => io,
        Ended::Closed(reason) => {
            link.close_as(reason);
            link.kill();
            None
        }
    }
}

/// Why a connection ended by itself.
fn reason(result: &hyper::Result<()>, link: &Link) -> CloseReason {
    match result {
        // On HTTP/2 the end of the client's side is never an error. And the task of the last request may still be about to end.
        Ok(()) if link.has_request() && link.is_peer_gone() => CloseReason::ClientGone,
        Ok(()) => link.leaves_for().unwrap_or(CloseReason::Done),
        Err(error) if error.is_parse() => CloseReason::Malformed,
        Err(error) if error.is_user() => CloseReason::Failed,
        Err(_) if link.is_peer_gone() => CloseReason::ClientGone,
        Err(_) => CloseReason::Malformed,
    }
}

/// Reads until the protocol is known. `None` if the client left before.
struct Sniffing {
    io: Option<Io>,
}

impl Future for Sniffing {
    type Output = Option<(Io, Protocol)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(io) = &mut self.io else {
            return Poll::Ready(None);
        };
        let protocol = ready!(io.poll_protocol(cx));
        // A socket without a protocol stays here until it is known what it is closed as.
        let Ok(Some(protocol)) = protocol else {
            return Poll::Ready(None);
        };
        Poll::Ready(self.io.take().map(|io| (io, protocol)))
    }
}

impl Stage for Sniffing {
    // Never asked for: the first head is awaited.
    fn drain(&mut self) {}
}

impl<S, B> Stage for http1::UpgradeableConnection<TokioIo<Lent>, S>
where
    S: HttpService<hyper::body::Incoming, ResBody = B, Error = Infallible>,
    B: Body<Error: Into<BoxError>> + 'static,
{
    fn drain(&mut self) {
        Pin::new(self).graceful_shutdown();
    }
}

impl<S, B> Stage for http2::Connection<TokioIo<Io>, S, Streams>
where
    S: HttpService<hyper::body::Incoming, ResBody = B, Error = Infallible>,
    B: Body<Error: Into<BoxError>> + 'static,
    Streams: Http2ServerConnExec<S::Future, B>,
{
    fn drain(&mut self) {
        Pin::new(self).graceful_shutdown();
    }
}
