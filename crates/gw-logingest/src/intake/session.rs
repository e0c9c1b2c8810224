use std::sync::Arc;
use std::time::SystemTime;

use gw_core::Mode;

use super::builder::OnInvalid;
use super::config::Config;
use super::counts::{ByClass, Settled, Tally};
use super::receipt::{EventError, Receipt};
use super::split::{Format, Malformed, Piece, SplitFault, Splitter, Take};
use super::watermarks::Regime;
use crate::batch::{Batch, BatchBuilder, BatchId, Class, ClientId};
use crate::event::{Arrival, Scratch, Violation, ViolationCode, is_json};

/// What holds for one request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) format: Format,
    pub(super) received: SystemTime,
    pub(super) regime: Regime,
    pub(super) mode: Mode,
    /// The client says that all of it is about its failed uploads.
    pub(super) own_traffic: bool,
}

impl Terms {
    /// How the event at this place came.
    pub(super) const fn arrival(&self, place: usize) -> Arrival {
        Arrival {
            received: self.received,
            seq: place as u64,
        }
    }

    /// Whether reports about failed uploads are suppressed.
    pub(super) fn suppress_own(&self) -> bool {
        self.mode == Mode::Enforce && self.regime.suppress_own
    }

    /// Whether debug events are shed.
    fn shed_debug(&self) -> bool {
        self.mode == Mode::Enforce && self.regime.shed_debug
    }
}

/// The events of one request, from the first byte to the batch. Synchronous: whoever reads the body feeds it.
#[derive(Debug)]
pub(super) struct Session {
    splitter: Splitter,
    events: Collected,
}

/// What was found in the body so far.
#[derive(Debug)]
pub(super) struct Collected {
    config: Arc<Config>,
    terms: Terms,
    client: ClientId,
    scratch: Scratch,
    pub(super) batch: BatchBuilder,
    /// Reports about failed uploads: how many are taken is known only at the end.
    pub(super) held: Held,
    pub(super) tally: Tally,
    pub(super) settled: Settled,
    pub(super) errors: Vec<EventError>,
    /// Events found.
    pub(super) found: usize,
    /// Found since the tally was told.
    untold: u64,
}

/// Normalised events that are not yet in the batch.
#[derive(Debug, Default)]
pub(super) struct Held {
    bytes: Vec<u8>,
    /// The id, and where the event ends in `bytes`.
    events: Vec<(Option<String>, usize)>,
}

impl Held {
    fn push(&mut self, id: Option<&str>, json: &[u8]) {
        self.bytes.extend_from_slice(json);
        self.events.push((id.map(str::to_owned), self.bytes.len()));
    }

    pub(super) const fn len(&self) -> usize {
        self.events.len()
    }

    /// The first `count` events.
    pub(super) fn first(&self, count: usize) -> impl Iterator<Item = (Option<&str>, &[u8])> {
        let mut start = 0;
        self.events.iter().take(count).map(move |(id, end)| {
            let json = self.bytes.get(start..*end).unwrap_or_default();
            start = *end;
            (id.as_deref(), json)
        })
    }
}

impl Session {
    pub(super) fn new(config: Arc<Config>, terms: Terms, client: ClientId, tally: Tally) -> Self {
        let id = BatchId::new(terms.received);
        Self {
            splitter: Splitter::new(terms.format, config.limits.split()),
            events: Collected {
                config,
                terms,
                scratch: Scratch::default(),
                batch: Batch::builder(id, client.clone(), terms.received),
                client,
                held: Held::default(),
                tally,
                settled: Settled::default(),
                errors: Vec::new(),
                found: 0,
                untold: 0,
            },
        }
    }

    /// Takes the next bytes of the body.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), SplitFault> {
        let pushed = self.splitter.push(bytes, &mut self.events);
        self.events.tally.read(self.splitter.body_bytes());
        self.events.tell();
        pushed
    }

    /// What was found so far.
    pub(super) const fn so_far(&self) -> &Collected {
        &self.events
    }

    /// The body has ended.
    pub(super) fn finish(mut self) -> Result<Collected, SplitFault> {
        let finished = self.splitter.finish(&mut self.events);
        self.events.tell();
        finished.map(|()| self.events)
    }
}

impl Take for Collected {
    fn take(&mut self, piece: Piece<'_>) -> Result<(), SplitFault> {
        let index = self.found;
        self.found += 1;
        self.untold += 1;
        let raw = match piece {
            Piece::Event(raw) => raw,
            Piece::Oversize => {
                self.reject(index, Violation::whole(ViolationCode::EventTooLarge));
                return Ok(());
            }
        };
        let Self {
            config,
            terms,
            client,
            scratch,
            batch,
            held,
            settled,
            ..
        } = self;
        let arrival = terms.arrival(index);
        let checked = match config.validator.check(raw, arrival, scratch) {
            Ok(checked) => checked,
            Err(violation) => {
                // A line of its own is broken alone; within a document nothing around it can be trusted.
                if terms.format == Format::Json && !is_json(raw) {
                    return Err(SplitFault::Malformed(Malformed::Syntax));
                }
                let OnInvalid::Wrap { service } = &config.on_invalid else {
                    self.reject(index, violation);
                    return Ok(());
                };
                let why = violation.code();
                config.validator.wrap(raw, why, service, arrival, scratch)
            }
        };
        let class = match terms.own_traffic {
            true => Class::Own,
            false => config.classifier.class(&checked),
        };
        let id = checked.event_id.as_deref();
        let id = id.map(|event| document_id(client, event));
        let id = id.as_deref();
        match class {
            Class::Own if terms.suppress_own() => settled.suppressed += 1,
            Class::Own => held.push(id, checked.json),
            Class::Debug if terms.shed_debug() => settled.shed += 1,
            _ => {
                settled.accepted.add(class, 1);
                batch.push(id, class, checked.json);
            }
        }
        // Only wrapping can make events grow as much as that.
        let limit = config.limits.batch_bytes();
        if batch.bytes() + held.bytes.len() > limit {
            return Err(SplitFault::BatchTooLarge { limit });
        }
        Ok(())
    }
}

/// What the sink knows an event by that brings an id. Clients choose these ids each for themselves, and a sink that has one
/// already counts as delivered: without the client in front, an event of one could swallow that of another.
///
/// Neither part holds a space, so no two pairs make the same id, and none is that of an event without an id of its own. At
/// most 257 bytes.
fn document_id(client: &ClientId, event: &str) -> String {
    format!("{client} {event}")
}

impl Collected {
    fn reject(&mut self, index: usize, violation: Violation) {
        self.settled.rejected += 1;
        self.tally.violation(violation.code());
        if self.errors.len() < Receipt::MAX_ERRORS {
            self.errors.push(EventError { index, violation });
        }
    }

    fn tell(&mut self) {
        if self.untold > 0 {
            self.tally.found(std::mem::take(&mut self.untold));
        }
    }

    /// What the batch holds so far, without held events.
    pub(super) const fn taken(&self) -> &ByClass {
        &self.settled.accepted
    }
}
