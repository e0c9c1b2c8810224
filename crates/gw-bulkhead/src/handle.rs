use std::num::NonZeroU32;

use gw_core::Mode;

use crate::lanes::{Drained, Lanes, Snapshot};
use crate::pressure::Pressure;

/// What an operator may read and change while requests run. Cheap to clone; it keeps no thread alive.
#[derive(Debug, Clone)]
pub struct BulkheadHandle {
    lanes: Lanes,
}

impl BulkheadHandle {
    pub(crate) const fn new(lanes: Lanes) -> Self {
        Self { lanes }
    }

    /// The lanes themselves, for work that is no request and takes its place among them.
    pub const fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// The counts of all lanes at about this moment.
    pub fn snapshot(&self) -> Snapshot {
        self.lanes.snapshot()
    }

    /// Has the gauges of all lanes there. To be called when metrics are read, so that a lane is seen before its first request:
    /// from then on requests see to it. It does nothing without the feature `metrics`.
    pub fn record_gauges(&self) {
        self.lanes.record_gauges();
    }

    /// Changes the total, and with it what the lanes' shares come to. Nobody in flight is cut.
    pub fn resize(&self, total: NonZeroU32) {
        self.lanes.resize(total);
    }

    /// What the bulkhead does.
    pub fn mode(&self) -> Mode {
        self.lanes.mode()
    }

    /// Changes what the bulkhead does, from now on. It is the kill switch: unless it is [`Mode::Enforce`], all that wait
    /// are admitted at once, and nothing is refused or cut.
    pub fn set_mode(&self, mode: Mode) {
        self.lanes.set_mode(mode);
    }

    /// How loaded the machine is. While that is not [`Load::Normal`](crate::Load::Normal), the less critical requests are
    /// refused, in all lanes and within guarantees too. A request is as critical as the
    /// [`Criticality`](gw_core::context::Criticality) in its extensions says, or as its lane.
    pub fn pressure(&self) -> Pressure {
        self.lanes.pressure()
    }

    /// Refuses new requests with 503 `SHUTTING_DOWN` from now on, for good; in [`Mode::Off`] they still pass. Requests in
    /// flight and in the queue go on. Ready once they are done: their places are free. With [`Hold::Head`](crate::Hold::Head)
    /// bodies may still be on their way then, and upgraded connections open. Lanes' own threads end when these have ended too.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub fn drain(&self) -> Drained {
        self.lanes.drain()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use crate::{BulkheadLayer, LaneConfig};

    /// Story: who recorded them did not build without the feature, and had to know of it.
    #[test]
    fn gauges_may_be_recorded_without_metrics() {
        let layer = BulkheadLayer::builder(1).lane(LaneConfig::new("core"));
        layer.build().unwrap().handle().record_gauges();
    }
}
