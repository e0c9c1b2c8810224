//! One request, from its head to its answer.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::SystemTime;

use gw_core::record::Record;
use gw_core::{Body, BoxError, Mode, OnReject, RejectContext, Rejection};
use http::{HeaderValue, Method, Request, Response, request::Parts};
use tokio::time::Instant;

use super::builder::Shared;
use super::config::Config;
use super::counts::Tally;
use super::guard::{Ticket, Verdict};
use super::limits::{ClassLimit, Scope};
use super::receipt::Receipt;
use super::session::{Collected, Session, Terms};
use super::split::Format;
use super::watermarks::Regime;
use super::{error, fields, media, reading};
use crate::batch::{Batch, BatchId, Class, ClientId};
use crate::event;
use crate::queue::{AppendError, Durability, Queue, QueueState, QueueStatus};
use crate::telemetry::Shadowed;

/// After so many intakes, events are in a circle.
const MAX_HOPS: u32 = 3;

/// A refusal, and the limits to tell with it.
struct Refusal {
    rejection: Rejection,
    limits: Vec<ClassLimit>,
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        Self {
            rejection,
            limits: Vec::new(),
        }
    }
}

/// The answer to a request, of an intake in this slot.
pub(super) async fn answer<Q, R, B>(
    shared: Arc<Shared<Q>>,
    slot: &'static str,
    on_reject: R,
    request: Request<B>,
) -> Response<Body>
where
    Q: Queue,
    R: OnReject<Response<Body>, Infallible, Error = Infallible>,
    B: http_body::Body<Error: Into<BoxError>>,
{
    let context = RejectContext::of(&request);
    let record = Record::of(request.extensions()).cloned();
    let (parts, body) = request.into_parts();
    let format = media::format(&parts.headers);
    let outcome = process(&shared, &parts, format, body).await;
    let metrics = shared.ledger.metrics();
    match outcome {
        Ok(receipt) => {
            metrics.request("ACCEPTED", format);
            receipt.into_response()
        }
        Err(Refusal { rejection, limits }) => {
            metrics.request(rejection.code().name(), format);
            if let Some(record) = record {
                record.refused(slot, rejection.code());
            }
            let Ok(mut response) = on_reject.reject(rejection, &context);
            let limits = ClassLimit::header_value(&limits);
            response.headers_mut().insert(fields::LIMITS, limits);
            response
        }
    }
}

async fn process<Q, B>(
    shared: &Shared<Q>,
    parts: &Parts,
    format: Option<Format>,
    body: B,
) -> Result<Receipt, Refusal>
where
    Q: Queue,
    B: http_body::Body<Error: Into<BoxError>>,
{
    if parts.method != Method::POST {
        return Err(error::method().into());
    }
    let mode = shared.mode.get();
    let config = shared.config.get();
    let stand = shared.stand(&config, mode);
    let refuse = |rejection| stand.refuse(rejection);
    if media::hops(&parts.headers) >= MAX_HOPS {
        // An error would be logged, and that log would come here.
        shared.ledger.metrics().looped();
        return Ok(nothing_taken(stand.limits));
    }
    let head = check_head(parts, format, config.limits.max_body_bytes);
    let (format, atomic) = head.map_err(refuse)?;
    if stand.status.state == QueueState::Closed {
        return Err(refuse(error::append(AppendError::Closed)));
    }
    let client = shared.clients.client(parts, Instant::now());
    let terms = Terms {
        format,
        received: SystemTime::now(),
        regime: stand.regime,
        mode,
        own_traffic: parts.headers.get(fields::SELF_TRAFFIC)
            == Some(&HeaderValue::from_static("1")),
    };
    let tally = Tally::new(Arc::clone(&shared.ledger));
    let mut session = Session::new(Arc::clone(&config), terms, client.clone(), tally);
    let (limits, patience) = (config.limits.split(), config.limits.patience());
    let mut room = shared.room(&config, mode, &client, &parts.headers);
    let goes_on = |so_far: &Collected| room.still_there(so_far);
    let read = reading::read(body, &mut session, &limits, patience, goes_on).await;
    // The body may have taken a minute, in which the queue has filled.
    let stand = shared.stand(&config, mode);
    let refuse = |rejection| stand.refuse(rejection);
    read.map_err(refuse)?;
    let mut collected = session
        .finish()
        .map_err(|fault| refuse(error::fault(fault, &limits)))?;

    let (found, rejected) = (collected.found as u64, collected.settled.rejected);
    if rejected > 0 && (atomic || rejected == found) {
        let first = collected.errors.first();
        let first = first.map(|error| (error.index, &error.violation));
        return Err(refuse(error::invalid(found, rejected, first)));
    }
    shared
        .keep_reserve(&config, mode, &stand.status, &collected)
        .map_err(refuse)?;
    if mode == Mode::Shadow {
        shared.shadow(stand.regime, &collected);
    }
    let terms = Terms {
        regime: stand.regime,
        ..terms
    };
    let ticket = shared.take_reports(&terms, &client, &mut collected);
    let Collected {
        batch,
        mut tally,
        settled,
        errors,
        ..
    } = collected;
    let stored = shared.store(batch.finish(), &mut tally, ticket).await;
    let stored = stored.map_err(|error| refuse(error::append(error)))?;
    tally.settle(&settled);
    Ok(Receipt {
        stored,
        accepted: settled.accepted.total(),
        rejected: settled.rejected,
        suppressed: settled.suppressed + settled.collapsed + settled.shed,
        errors,
        limits: stand.limits,
    })
}

/// What the head alone settles: the format of the body, and whether it is all or nothing.
fn check_head(
    parts: &Parts,
    format: Option<Format>,
    maximum: u64,
) -> Result<(Format, bool), Rejection> {
    let headers = &parts.headers;
    if !media::is_identity(headers) {
        return Err(error::content_coding());
    }
    let format = format.ok_or_else(error::media_type)?;
    let atomic = media::atomic(parts.uri.query()).map_err(|()| error::malformed("atomic"))?;
    // An early answer to the honest; what really arrives is counted.
    if media::announced_length(headers).is_some_and(|length| length > maximum) {
        return Err(error::too_large("body_bytes", maximum));
    }
    Ok((format, atomic))
}

/// How things stand at a moment, and what follows from it for a request.
struct Stand {
    status: QueueStatus,
    regime: Regime,
    /// What the regime asks of clients.
    limits: Vec<ClassLimit>,
}

impl Stand {
    /// A refusal with the limits of the regime, and what it means itself in their words.
    fn refuse(&self, rejection: Rejection) -> Refusal {
        let mut limits = self.limits.clone();
        if let Some(after) = rejection.retry_after_hint() {
            let own_share = rejection.code() == &error::RATE_LIMIT_EXCEEDED;
            let audit_passes = rejection
                .details()
                .contains(&("reason", "audit_only".into()));
            let scope = if own_share { Scope::Client } else { Scope::All };
            limits.push(ClassLimit::of_refusal(after.seconds(), scope, audit_passes));
        }
        Refusal { rejection, limits }
    }
}

impl<Q: Queue> Shared<Q> {
    fn stand(&self, config: &Config, mode: Mode) -> Stand {
        let status = self.queue.status();
        let regime = match mode {
            Mode::Off => Regime::default(),
            Mode::Enforce | Mode::Shadow => config
                .limits
                .watermarks
                .regime(&status, config.pressure.sink_healthy()),
        };
        self.last_regime.note(regime, mode);
        let enforced = mode == Mode::Enforce;
        Stand {
            status,
            regime,
            limits: if enforced {
                ClassLimit::of_regime(regime)
            } else {
                Vec::new()
            },
        }
    }

    /// Moves the held reports that the guard admits into the batch, all of them if it does not decide, and none while reports are
    /// suppressed. With the ticket the verdict is taken back.
    fn take_reports(
        &self,
        terms: &Terms,
        client: &ClientId,
        collected: &mut Collected,
    ) -> Option<Ticket> {
        let mode = terms.mode;
        if mode == Mode::Off {
            take_held(collected, None, terms);
            return None;
        }
        if terms.suppress_own() {
            // The guard is not asked: what it has to tell is a report as well, and waits until reports are taken again.
            collected.settled.suppressed += collected.held.len() as u64;
            return None;
        }
        let (real, own) = (collected.taken().total(), collected.held.len() as u64);
        let (verdict, ticket) = self.guards.admit(client, Instant::now(), real, own);
        if mode == Mode::Shadow {
            let metrics = self.ledger.metrics();
            metrics.shadowed(Shadowed::Collapsed, own - verdict.admitted);
        }
        let enforced = (mode == Mode::Enforce).then_some(verdict);
        take_held(collected, enforced, terms);
        Some(ticket)
    }

    /// Gives the batch to the queue, unless there is nothing in it. `ticket` is taken back if the queue refuses it.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped while the queue stores, `tally` counts the events as abandoned, and `ticket` stands.
    async fn store(
        &self,
        batch: Batch,
        tally: &mut Tally,
        mut ticket: Option<Ticket>,
    ) -> Result<Option<(BatchId, Durability)>, AppendError> {
        if batch.is_empty() {
            if let Some(ticket) = ticket {
                ticket.keep();
            }
            return Ok(None);
        }
        let (id, bytes) = (batch.id(), batch.encoded().len() as u64);
        tally.storing();
        // What is given up from here on may be stored all the same: a bound that it does not count for is none.
        if let Some(ticket) = &mut ticket {
            ticket.storing();
        }
        match self.queue.append(batch).await {
            Ok(durability) => {
                self.ledger.metrics().stored(bytes);
                Ok(Some((id, durability)))
            }
            Err(error) => {
                tally.not_stored();
                if let Some(ticket) = ticket {
                    ticket.take_back();
                }
                Err(error)
            }
        }
    }

    /// Counts what would have been suppressed and shed.
    fn shadow(&self, regime: Regime, collected: &Collected) {
        let metrics = self.ledger.metrics();
        if regime.suppress_own {
            metrics.shadowed(Shadowed::Suppressed, collected.held.len() as u64);
        }
        if regime.shed_debug {
            metrics.shadowed(Shadowed::Shed, collected.taken().of(Class::Debug));
        }
    }
}

/// Moves held reports into the batch: as many as the verdict admits, or all without one.
fn take_held(collected: &mut Collected, verdict: Option<Verdict>, terms: &Terms) {
    let held = collected.held.len();
    let admitted = verdict.map_or(held, |verdict| {
        usize::try_from(verdict.admitted).unwrap_or(held).min(held)
    });
    for (id, json) in collected.held.first(admitted) {
        collected.batch.push(id, Class::Own, json);
    }
    collected.settled.accepted.add(Class::Own, admitted as u64);
    collected.settled.collapsed = (held - admitted) as u64;
    let report = verdict.map_or(0, |verdict| verdict.report);
    if report > 0 {
        let json = event::collapsed_report(report, terms.arrival(collected.found));
        // Made here, so it is neither received nor accepted.
        collected.batch.push(None, Class::Own, &json);
        collected.settled.reports = 1;
    }
}

fn nothing_taken(limits: Vec<ClassLimit>) -> Receipt {
    Receipt {
        stored: None,
        accepted: 0,
        rejected: 0,
        suppressed: 0,
        errors: Vec::new(),
        limits,
    }
}
