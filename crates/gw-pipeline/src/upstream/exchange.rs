//! One request, one answer.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use gw_core::context::Deadline;
use gw_core::record::Record;
use gw_core::{Body, Rejection};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Extensions, HeaderMap, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::upgrade::OnUpgrade;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::body::UpstreamBody;
use super::error::{Error, ErrorKind};
use super::lease::{Lease, Stopwatch};
use super::limits::Limits;
use super::pool::{Checkout, Connection, Pool};
use super::target::{Endpoint, InvalidHost, frame};
use super::upload::{RequestBody, Upload};
use crate::inbound::{ClientFault, Fault};

/// Sends `request`, and waits for the head of its answer.
///
/// # Cancel safety
///
/// Dropping the future cancels the upstream's work at once, and gives the slot back.
pub(super) async fn exchange(
    pool: Arc<Pool>,
    mut request: Request<Body>,
) -> Result<Response<UpstreamBody>, Rejection> {
    let extensions = std::mem::take(request.extensions_mut());
    let record = Record::of(&extensions).cloned();
    if let Some(record) = &record {
        record.update(|exchange| exchange.upstream = Some(pool.name.clone()));
    }
    let timeouts = extensions.get().copied().unwrap_or_default();
    let deadline = extensions.get::<Deadline>().copied();
    let send_timeout = pool.settings.send_timeout;
    let limits = Limits::new(Instant::now(), timeouts, deadline, send_timeout);
    match run(pool, request, limits, record).await {
        Ok(response) => Ok(response),
        Err(error) => Err(error.refuse(fault(&extensions))),
    }
}

fn fault(extensions: &Extensions) -> Option<Fault> {
    extensions.get::<ClientFault>()?.get()
}

async fn run(
    pool: Arc<Pool>,
    request: Request<Body>,
    limits: Limits,
    record: Option<Record>,
) -> Result<Response<UpstreamBody>, Error> {
    let slot = pool.slots.acquire(limits.attempt_end).await?;
    if let Some(record) = &record {
        record.update(|exchange| exchange.attempts += 1);
    }
    let (number, endpoint) = pool.endpoint()?;
    let (mut request, upload) = aim(request, endpoint, &pool)?;
    let mut watch = Stopwatch::new(record);
    loop {
        let checkout = match timeout_at(limits.attempt_end, pool.checkout(number)).await {
            Ok(checkout) => checkout?,
            Err(_) => return Err(Error::new(limits.attempt_kind)),
        };
        let Checkout {
            mut connection,
            reused,
        } = checkout;
        watch.start();
        let outcome = match &mut connection {
            Connection::Http1(it) => {
                head(it.sender.try_send_request(request), &upload, &limits).await
            }
            Connection::Http2(it) => {
                head(it.sender.try_send_request(request), &upload, &limits).await
            }
        };
        watch.stop();
        match outcome {
            Outcome::Answered(response) => {
                let lease = Lease {
                    connection,
                    upload,
                    reusable: response.version() != Version::HTTP_10,
                    pool: Arc::clone(&pool),
                    slot,
                };
                return receive(response, lease, limits, watch);
            }
            // A connection that was idle turned out to be closed before a byte of the request went out. Sending it
            // again is sending it once, whatever its method. This ends: each round uses up a connection that was there
            // before.
            Outcome::Unsent(unsent, _) if reused => request = *unsent,
            Outcome::Unsent(_, error) => return Err(Error::because(ErrorKind::Connect, error)),
            Outcome::Failed(error) => return Err(error),
        }
    }
}

/// Makes a request one for `endpoint`.
fn aim(
    request: Request<Body>,
    endpoint: &Endpoint,
    pool: &Pool,
) -> Result<(Request<RequestBody>, Upload), Error> {
    let (mut parts, body) = request.into_parts();
    let policy = pool.settings.host_header;
    let aimed = if pool.is_http2() {
        endpoint.aim_http2(&mut parts, policy)
    } else {
        endpoint.aim_http1(&mut parts, policy)
    };
    aimed.map_err(|InvalidHost| Error::because(ErrorKind::Request, "the host is not valid"))?;
    frame(
        &mut parts,
        body.is_end_stream(),
        &body.size_hint(),
        pool.is_http2(),
    );
    let (body, upload) = RequestBody::new(body, Instant::now());
    Ok((Request::from_parts(parts, body), upload))
}

/// How the wait for a head ends.
enum Outcome {
    Answered(Response<Incoming>),
    /// hyper hands the request back: not a byte of it was written.
    Unsent(Box<Request<RequestBody>>, hyper::Error),
    Failed(Error),
}

/// Waits for the head of the answer.
///
/// What is ready together is taken in this order: the answer, a failed request body, a timer.
async fn head(
    sending: impl Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>>,
    upload: &Upload,
    limits: &Limits,
) -> Outcome {
    let start = Instant::now();
    let mut sending = pin!(sending);
    let mut timer = pin!(sleep_until(
        limits.head_due(upload.progress(start), start).0
    ));
    poll_fn(|cx| {
        if let Poll::Ready(result) = sending.as_mut().poll(cx) {
            return Poll::Ready(match result {
                Ok(response) => Outcome::Answered(response),
                Err(mut error) => match error.take_message() {
                    Some(request) => Outcome::Unsent(Box::new(request), error.into_error()),
                    None => Outcome::Failed(Error::because(ErrorKind::Answer, error.into_error())),
                },
            });
        }
        if let Some(fault) = upload.poll_fault(cx) {
            return Poll::Ready(Outcome::Failed(Error::because(ErrorKind::Request, fault)));
        }
        loop {
            let now = Instant::now();
            let (due, kind) = limits.head_due(upload.progress(start), now);
            if due <= now {
                return Poll::Ready(Outcome::Failed(Error::new(kind)));
            }
            // A timer that is too early for what is going on now is only set anew when it has fired.
            if due < timer.deadline() {
                timer.as_mut().reset(due);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            timer.as_mut().reset(due);
        }
    })
    .await
}

/// The answer as it leaves this module.
fn receive(
    response: Response<Incoming>,
    mut lease: Lease,
    limits: Limits,
    watch: Stopwatch,
) -> Result<Response<UpstreamBody>, Error> {
    let (mut parts, incoming) = response.into_parts();
    // What hyper noted about the connection and the reason phrase is not for the client.
    let mut extensions = std::mem::take(&mut parts.extensions);
    parts.version = Version::HTTP_11;
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        lease.reusable = false;
        if let Some(upgrade) = extensions.remove::<OnUpgrade>() {
            parts.extensions.insert(upgrade);
        }
        let body = UpstreamBody::of_switch(lease);
        return Ok(Response::from_parts(parts, body));
    }
    if !incoming.is_end_stream() && !is_well_framed(&parts.headers) {
        return Err(Error::because(
            ErrorKind::Answer,
            "the answer tells its length in two ways, or has a transfer coding that nobody asked for",
        ));
    }
    let body = UpstreamBody::new(incoming, lease, limits, watch);
    Ok(Response::from_parts(parts, body))
}

/// Whether an answer with a body leaves no doubt about where the body ends (RFC 9112 section 6.3).
fn is_well_framed(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => {
            coding.as_bytes().eq_ignore_ascii_case(b"chunked")
                && !headers.contains_key(CONTENT_LENGTH)
        }
        (Some(_), Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_tells_its_length_in_one_way() {
        let framed = |fields: &[(&str, &str)]| {
            let mut response = Response::builder();
            for (name, value) in fields {
                response = response.header(*name, *value);
            }
            is_well_framed(response.body(()).unwrap().headers())
        };
        assert!(framed(&[]));
        assert!(framed(&[("content-length", "3")]));
        assert!(framed(&[("transfer-encoding", "Chunked")]));
        let chunked = ("transfer-encoding", "chunked");
        assert!(!framed(&[chunked, ("content-length", "3")]));
        assert!(!framed(&[chunked, chunked]));
        assert!(!framed(&[("transfer-encoding", "gzip, chunked")]));
    }
}
