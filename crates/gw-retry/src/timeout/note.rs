use gw_core::record::Record;
use http::Extensions;

use super::error::{GATEWAY_TIMEOUT, Timer};

/// The slot that observers are told of, where no pipeline has said in which one the layer is: the timers of a pipeline itself are
/// part of it.
pub(super) const SLOT: &str = "forward";

/// Where observers are told what a timer has ended: else a cut answer is taken for the upstream's doing.
#[derive(Debug, Clone)]
pub(super) struct Note {
    record: Record,
    slot: &'static str,
}

impl Note {
    /// None without an observer.
    pub(super) fn of(extensions: &Extensions, slot: &'static str) -> Option<Self> {
        let record = Record::of(extensions)?.clone();
        Some(Self { record, slot })
    }

    pub(super) fn ended_by(&self, timer: Timer) {
        self.record.update(|exchange| {
            exchange.refused_by = Some(self.slot);
            exchange.code = Some(&GATEWAY_TIMEOUT);
            exchange.cause = Some(timer.cause());
        });
    }
}
