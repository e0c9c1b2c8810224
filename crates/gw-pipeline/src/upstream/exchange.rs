//! One request, one answer.

use std::future::{poll_fn, ready};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use gw_core::Body;
use gw_core::awaited::Awaited;
use gw_core::context::{Attempt, Deadline, UpstreamName};
use gw_core::on_reject::Caller;
use gw_core::record::{Exchange, Record};
use http::header::UPGRADE;
use http::{HeaderValue, Request, Response, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::Instant;

use super::body::UpstreamBody;
use super::error::{Error, ErrorKind};
use super::framing::frame;
use super::future::TransportFuture;
use super::hop_by_hop::Named;
use super::lease::{Lease, Stopwatch};
use super::limits::Limits;
use super::pool::{Checkout, Connection, MAX_HEAD, Pool};
use super::received::receive;
use super::report::Reported;
use super::resend::{AT_ONCE, Kept, is_safe};
use super::slots::Slot;
use super::target::InvalidHost;
use super::telemetry::Counted;
use super::timer::Timer;
use super::upload::{RequestBody, Upload};
use crate::inbound::ClientFault;

/// Sends `request`, and waits for the head of its answer.
pub(super) fn exchange(pool: Arc<Pool>, mut request: Request<Body>) -> TransportFuture {
    let mut extensions = std::mem::take(request.extensions_mut());
    let timeouts = extensions.get().copied().unwrap_or_default();
    let deadline = extensions.get::<Deadline>().copied();
    let now = Instant::now();
    let limits = Limits::new(now, timeouts, deadline, pool.settings.send_timeout);
    // Nobody asks about a body that is not there.
    let (client, named) = match request.body().is_end_stream() {
        true => (None, None),
        false => (
            extensions.get::<ClientFault>().cloned(),
            extensions.get::<Named>().cloned(),
        ),
    };
    let asked_to_tell = Awaited::take(&mut extensions);
    let awaited = pool.watcher.awaited(asked_to_tell, now);
    let record = Record::of(&extensions).cloned();
    // Who retries says so as well where there is no record.
    let earlier = |attempt: &Attempt| attempt.0.get() - 1;
    let mut attempts = extensions.get().map_or(0, earlier);
    let outgoing = Outgoing {
        request,
        client,
        awaited,
        named,
        limits,
        again: attempts > 0,
    };
    let turn = match pool.try_slot() {
        Ok(slot) => match outgoing.aim(&slot.pool, record.as_ref(), now) {
            Ok(aimed) => Turn::Now(slot, aimed),
            Err(error) => Turn::Never(Arc::clone(&slot.pool), error),
        },
        Err(pool) => Turn::Later(pool, Box::new(outgoing)),
    };
    let pool = turn.pool();
    if let Some(record) = &record {
        // At once where there is a slot: each look at the record takes its lock.
        record.update(|exchange| {
            if exchange.upstream.as_ref() != Some(&pool.name) {
                exchange.upstream = Some(pool.name.clone());
                // A number of another upstream's.
                exchange.endpoint = None;
            }
            attempts = attempts.max(exchange.attempts);
            if let Turn::Now(_, aimed) = &turn {
                aimed.note(exchange);
            }
        });
    }
    let counted = Counted::new(pool, attempts);
    match turn {
        Turn::Now(slot, aimed) => {
            let running = counted.watch(run(slot, aimed, record));
            TransportFuture::new(running, extensions)
        }
        Turn::Later(pool, outgoing) => {
            let waiting = counted.watch(wait(pool, outgoing, record));
            TransportFuture::new(waiting, extensions)
        }
        Turn::Never(_, error) => TransportFuture::new(counted.watch(ready(Err(error))), extensions),
    }
}

/// The endpoint that an earlier attempt had, if there was one at the same upstream.
#[cold]
fn tried(record: Option<&Record>, upstream: &UpstreamName) -> Option<usize> {
    let mut tried = None;
    record?.update(|exchange| {
        if exchange.upstream.as_ref() == Some(upstream) {
            tried = exchange.endpoint;
        }
    });
    tried
}

/// When a request is sent.
enum Turn {
    Now(Slot, Box<Aimed>),
    /// When there is a slot.
    Later(Arc<Pool>, Box<Outgoing>),
    Never(Arc<Pool>, Error),
}

impl Turn {
    const fn pool(&self) -> &Arc<Pool> {
        match self {
            Self::Now(slot, _) => &slot.pool,
            Self::Later(pool, _) | Self::Never(pool, _) => pool,
        }
    }
}

/// A request that is for no endpoint yet.
struct Outgoing {
    request: Request<Body>,
    client: Option<ClientFault>,
    awaited: Option<Awaited>,
    named: Option<Named>,
    limits: Limits,
    /// It was sent before: another endpoint is better.
    again: bool,
}

/// A request for an endpoint, by its number.
struct Aimed {
    /// None while a connection has it.
    request: Option<Request<RequestBody>>,
    upload: Upload,
    /// The protocol that is asked for: what the client said of it has been removed before.
    asked: Option<HeaderValue>,
    /// May be sent again if the connection is lost: it is safe, and all of it is in its head.
    safe: bool,
    caller: Caller,
    /// A gRPC call with a body that has not ended.
    is_call: bool,
    /// How a connection was lost, if this is sent for the second time.
    lost: Option<Error>,
    endpoint: usize,
    limits: Limits,
    /// When it had its slot.
    began: Instant,
    /// Says whom it waits for, if anybody wants to know. Its watch has it when it is sent.
    awaited: Option<Awaited>,
}

impl Aimed {
    /// It is about to be sent.
    const fn note(&self, exchange: &mut Exchange) {
        exchange.attempts += 1;
        exchange.endpoint = Some(self.endpoint);
    }

    /// How it has failed that no connection took it: as a connection has lost it, if one has, since part of it was sent then.
    fn failed(&mut self, error: Error) -> Error {
        self.lost.take().unwrap_or(error)
    }
}

/// An answer's head over HTTP/1 and the interim answers before it may have so many bytes together.
///
/// Interim answers go no further, and hyper reads as many as come: without a bound an upstream could have the gateway do so
/// until the attempt's time is over. Over HTTP/2 they cannot be seen from here, and that time is the only bound.
const MAX_BEFORE_THE_ANSWER: u64 = 2 * MAX_HEAD as u64;

/// Waits for a slot, and has the exchange. Only then an endpoint is chosen: one that is ejected meanwhile gets nothing.
///
/// # Cancel safety
///
/// Dropping the future gives the place in the queue back, or does what dropping [`run`] does.
async fn wait(
    pool: Arc<Pool>,
    outgoing: Box<Outgoing>,
    record: Option<Record>,
) -> Result<Response<UpstreamBody>, Error> {
    let slot = pool.slot(&outgoing.limits).await?;
    let aimed = outgoing.aim(&slot.pool, record.as_ref(), Instant::now())?;
    if let Some(record) = &record {
        record.update(|exchange| aimed.note(exchange));
    }
    run(slot, aimed, record).await
}

/// Has the exchange.
///
/// # Cancel safety
///
/// Dropping the future cancels the upstream's work at once, and gives the slot back.
fn run(
    slot: Slot,
    aimed: Box<Aimed>,
    record: Option<Record>,
) -> Reported<impl Future<Output = Result<Response<UpstreamBody>, Error>>> {
    let (awaited, now) = (aimed.awaited.as_ref(), aimed.began);
    let watcher = &slot.pool.watcher;
    let report = watcher.watch(aimed.endpoint, awaited, &aimed.limits, aimed.caller, now);
    Reported::new(send(slot, aimed, record), report)
}

/// The future is allocated for each request, so it must not be large: what is large and must be moved is boxed, and so
/// is all that only those need who have to wait for a connection.
async fn send(
    slot: Slot,
    mut aimed: Box<Aimed>,
    record: Option<Record>,
) -> Result<Response<UpstreamBody>, Error> {
    // Read anew only after a wait: a look at the clock costs as much as some hundred instructions.
    let mut now = aimed.began;
    let mut watch = Stopwatch::new(record, aimed.awaited.take());
    loop {
        let at_hand = match aimed.lost {
            None => slot.pool.try_checkout(aimed.endpoint, now)?,
            // Where one connection was lost, others that were idle may be as well.
            Some(_) => None,
        };
        let checkout = match at_hand {
            Some(checkout) => checkout,
            None => {
                // It may have to stand in a queue of the gateway's at first.
                watch.pause();
                let (pool, endpoint) = (&slot.pool, aimed.endpoint);
                let (limits, watch) = (&aimed.limits, &mut watch);
                let checkout = match aimed.lost {
                    None => Box::pin(pool.checkout(endpoint, limits, watch)).await,
                    Some(_) => Box::pin(pool.new_http1(endpoint, limits, watch)).await,
                };
                let checkout = checkout.map_err(|error| aimed.failed(error))?;
                now = Instant::now();
                checkout
            }
        };
        let Checkout {
            mut connection,
            reused,
        } = checkout;
        let Some(mut request) = aimed.request.take() else {
            // Never: it is in its place unless a connection has it, which sends it or hands it back.
            return Err(Error::new(ErrorKind::Setup));
        };
        // The upload says so as well, each time that it has handed something over.
        watch.start_at(now);
        aimed.upload.begin(now);
        let outcome = match &mut connection {
            Connection::Http1(it) => {
                it.heard.limit(MAX_BEFORE_THE_ANSWER);
                let kept = reused && aimed.safe;
                if kept {
                    it.kept.keep(&request);
                }
                let heard = it.heard.count();
                let sending = pin!(it.sender.try_send_request(request));
                let outcome = head(sending, &aimed.upload, &aimed.limits, now, &mut it.timer).await;
                it.heard.lift();
                match outcome {
                    // Not one that ends by a timer, say: its connection is as it was.
                    Outcome::Failed(error)
                        if error.kind() == ErrorKind::Answer && it.heard.count() == heard =>
                    {
                        match kept {
                            true => lost(&it.kept, now, error),
                            false => broken_off(&aimed, error),
                        }
                    }
                    outcome => outcome,
                }
            }
            Connection::Http2(it) => {
                let heard = it.heard();
                request.body_mut().sent_by(&it.tasks);
                let sending = pin!(it.sender.try_send_request(request));
                let outcome = head(sending, &aimed.upload, &aimed.limits, now, &mut it.timer).await;
                if let Outcome::Failed(error) = &outcome
                    && error.kind().is_of_a_silent_upstream()
                {
                    it.retire_if_silent(heard);
                }
                match outcome {
                    Outcome::Failed(error) if error.is_of_a_closed_stream() => {
                        broken_off(&aimed, error)
                    }
                    outcome => outcome,
                }
            }
        };
        watch.stop();
        match outcome {
            Outcome::Answered(response) => {
                let lease = Lease {
                    connection,
                    upload: aimed.upload,
                    reusable: response.version() != Version::HTTP_10,
                    slot,
                };
                return receive(response, lease, aimed.limits, watch, aimed.asked.as_ref());
            }
            // A connection that was idle turned out to be closed before a byte of the request went out. Sending it
            // again is sending it once, whatever its method. This ends: each round uses up a connection that was there
            // before.
            Outcome::Unsent(unsent, _) if reused => {
                aimed.request = Some(*unsent);
                now = Instant::now();
            }
            Outcome::Unsent(_, error) => {
                return Err(aimed.failed(Error::because(ErrorKind::Connect, error)));
            }
            // It was written and not answered. This ends as well: the next one is new.
            Outcome::Lost(again, error) => {
                let nothing = RequestBody::new(Body::empty(), now, None, None, None).0;
                aimed.request = Some(again.map(|()| nothing));
                aimed.lost = Some(error);
                now = Instant::now();
            }
            Outcome::Failed(error) => return Err(error),
        }
    }
}

impl Outgoing {
    /// Makes it a request for the endpoint whose turn it is, if there is time for it.
    fn aim(self, pool: &Pool, record: Option<&Record>, now: Instant) -> Result<Box<Aimed>, Error> {
        let Self {
            request,
            client,
            awaited,
            named,
            limits,
            again,
        } = self;
        if limits.attempt_end <= now {
            // Nothing was sent, so nothing is said about the upstream.
            return Err(Error::new(limits.queue_due(now).1));
        }
        // Not before the wait for a slot: the first copy may have had to wait as well.
        let tried = match again {
            false => None,
            true => tried(record, &pool.name),
        };
        let (number, endpoint) = pool.endpoint(tried, now)?;
        let (mut parts, body) = request.into_parts();
        let policy = pool.settings.host_header;
        let aimed = if pool.is_http2() {
            endpoint.aim_http2(&mut parts, policy)
        } else {
            endpoint.aim_http1(&mut parts, policy)
        };
        aimed.map_err(|InvalidHost| Error::because(ErrorKind::Request, "the host is not valid"))?;
        let stated = frame(
            &mut parts,
            body.is_end_stream(),
            &body.size_hint(),
            pool.is_http2(),
        );
        let asked = parts.headers.get(UPGRADE).cloned();
        let safe = is_safe(&parts.method) && body.is_end_stream() && asked.is_none();
        let caller = Caller::of(&parts.method, &parts.headers);
        let is_call = !body.is_end_stream() && caller == Caller::Grpc;
        let limits = match is_call {
            true => limits.of_a_call(),
            false => limits,
        };
        let (body, upload) = RequestBody::new(body, now, stated, client, awaited.clone());
        let body = body.named(named);
        Ok(Box::new(Aimed {
            request: Some(Request::from_parts(parts, body)),
            upload,
            asked,
            safe,
            caller,
            is_call,
            lost: None,
            endpoint: number,
            limits,
            began: now,
            awaited,
        }))
    }
}

/// How the wait for a head ends.
enum Outcome {
    Answered(Response<Incoming>),
    /// hyper hands the request back: not a byte of it was written.
    Unsent(Box<Request<RequestBody>>, hyper::Error),
    /// It was written to a connection that had been used before and ended at once, and not a byte came back. It may be sent again.
    Lost(Box<Request<()>>, Error),
    Failed(Error),
}

/// The end of a connection that was used before, without a byte of an answer to what was written at `sent`.
#[cold]
fn lost(kept: &Kept, sent: Instant, error: Error) -> Outcome {
    match kept.request() {
        Some(again) if sent.elapsed() <= AT_ONCE => Outcome::Lost(Box::new(again), error),
        _ => Outcome::Failed(error),
    }
}

/// The upstream has given up, and nothing came of an answer.
#[cold]
fn broken_off(aimed: &Aimed, error: Error) -> Outcome {
    Outcome::Failed(match aimed.is_call {
        // The client may have said what it had to, and wait for the other side: neither has timers for that.
        true => error,
        false => aimed.upload.broken_off(error, Instant::now()),
    })
}

/// hyper's future of an answer, which has no name.
trait Sending: Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>> {}

impl<F: Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>>> Sending
    for F
{
}

/// Waits for the head of the answer.
///
/// What is ready together is taken in this order: the answer, a failed request body, a timer.
async fn head(
    mut sending: Pin<&mut impl Sending>,
    upload: &Upload,
    limits: &Limits,
    start: Instant,
    timer: &mut Timer,
) -> Outcome {
    poll_fn(|cx| {
        if let Poll::Ready(result) = sending.as_mut().poll(cx) {
            return Poll::Ready(match result {
                Ok(response) => Outcome::Answered(response),
                Err(mut error) => match error.take_message() {
                    Some(request) => Outcome::Unsent(Box::new(request), error.into_error()),
                    None => Outcome::Failed(Error::of_hyper(error.into_error())),
                },
            });
        }
        let progress = match upload.poll_progress(cx, start) {
            Ok(progress) => progress,
            Err(fault) => return Poll::Ready(Outcome::Failed(fault)),
        };
        let (mut due, _) = limits.head_due(progress, start);
        // What is due is asked anew when it is over: a piece may have been handed over since.
        while timer.poll_at(due, cx).is_ready() {
            let now = Instant::now();
            let (next, kind) = limits.head_due(upload.progress(start), now);
            if next <= now {
                return Poll::Ready(Outcome::Failed(Error::new(kind)));
            }
            due = next;
        }
        Poll::Pending
    })
    .await
}
