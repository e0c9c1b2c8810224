use std::time::Duration;

use super::meter::{Count, Level, QueueLabel, Spread};

const REQUESTS: &str = "gateway_logingest_sink_requests_total";
const ITEMS: &str = "gateway_logingest_sink_items_total";
pub(super) const ROUND_TRIP: &str = "gateway_logingest_sink_rtt_seconds";
const CONCURRENCY: &str = "gateway_logingest_sink_concurrency_limit";
const PAUSED: &str = "gateway_logingest_sink_paused";
const DEAD: &str = "gateway_logingest_dlq_events_total";
const HELD: &str = "gateway_logingest_dlq_held_clients";

#[cfg(feature = "metrics")]
pub(super) fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

    describe_counter!(
        REQUESTS,
        Unit::Count,
        "Requests to the sink, by the class of the answer."
    );
    describe_counter!(
        ITEMS,
        Unit::Count,
        "Events sent to the sink, by what became of them."
    );
    describe_histogram!(
        ROUND_TRIP,
        Unit::Seconds,
        "Time from a request to the sink to its answer."
    );
    describe_gauge!(
        CONCURRENCY,
        Unit::Count,
        "The most requests to the sink at once."
    );
    describe_gauge!(
        PAUSED,
        Unit::Count,
        "1 while delivery is paused, 0 otherwise."
    );
    describe_counter!(
        DEAD,
        Unit::Count,
        "Events put aside as dead letters, by reason."
    );
    describe_gauge!(
        HELD,
        Unit::Count,
        "Clients of which nothing is delivered, because their dead letters take all that they may, or the sink refuses each of their events."
    );
}

/// What became of an event that was sent to the sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Item {
    Delivered,
    Duplicate,
    Retried,
    Dead,
}

/// The classes of answers, the last one for words that are not listed.
const ANSWERS: [&str; 8] = [
    "2xx", "413", "429", "4xx", "5xx", "timeout", "error", "other",
];
const OUTCOMES: [&str; 4] = ["delivered", "duplicate", "retried", "dead"];
/// Why events are put aside, the last one for words that are not listed.
const REASONS: [&str; 3] = ["rejected", "too_large", "other"];

/// The metrics of one consumer.
#[derive(Debug)]
pub(crate) struct SinkMetrics {
    requests: [Count; ANSWERS.len()],
    items: [Count; OUTCOMES.len()],
    round_trip: Spread,
    concurrency: Level,
    paused: Level,
    dead: [Count; REASONS.len()],
    held: Level,
}

impl SinkMetrics {
    /// Of the consumer of this queue.
    pub(crate) fn new(queue: &QueueLabel) -> Self {
        Self {
            requests: ANSWERS.map(|code| Count::new(REQUESTS, &[("code", code)], queue)),
            items: OUTCOMES.map(|outcome| Count::new(ITEMS, &[("outcome", outcome)], queue)),
            round_trip: Spread::new(ROUND_TRIP, &[], queue),
            concurrency: Level::new(CONCURRENCY, &[], queue),
            paused: Level::new(PAUSED, &[], queue),
            dead: REASONS.map(|reason| Count::new(DEAD, &[("reason", reason)], queue)),
            held: Level::new(HELD, &[], queue),
        }
    }

    /// The sink answered, or failed to.
    pub(crate) fn request(&self, code: &'static str) {
        super::add(&self.requests, super::place(&ANSWERS, code), 1);
    }

    /// What became of some events.
    pub(crate) fn items(&self, outcome: Item, events: u64) {
        super::add(&self.items, outcome as usize, events);
    }

    /// How long an answer took.
    pub(crate) fn round_trip(&self, took: Duration) {
        self.round_trip.record(took.as_secs_f64());
    }

    /// How many requests may run at once.
    pub(crate) fn concurrency(&self, limit: usize) {
        self.concurrency.set(limit as f64);
    }

    /// Whether delivery is paused.
    pub(crate) fn paused(&self, paused: bool) {
        self.paused.set(f64::from(u8::from(paused)));
    }

    /// How many clients wait because of their dead letters.
    pub(crate) fn held_clients(&self, clients: usize) {
        self.held.set(clients as f64);
    }

    /// Some events were put aside.
    pub(crate) fn dead(&self, reason: &'static str, events: u64) {
        super::add(&self.dead, super::place(&REASONS, reason), events);
    }
}
