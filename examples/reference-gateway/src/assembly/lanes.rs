//! `[lanes]` as a bulkhead.

use std::num::NonZeroU64;

use gw_bulkhead::key::{ClientIp, Global, Header, Route};
use gw_bulkhead::limit::{Aimd, Gradient2, Limit};
use gw_bulkhead::threads::Threads;
use gw_bulkhead::{BulkheadLayer, ConfigError, Hold, LaneConfig, MemoryThresholds, Mode};

use super::fault::Fault;
use super::routes::criticality;
use crate::config::value::Key;
use crate::config::{Config, table};

pub(super) fn lanes(config: &Config) -> Result<BulkheadLayer<Threads>, ConfigError> {
    let builder = BulkheadLayer::builder(limit(&config.lanes.total))
        .default_lane(config.server.default_lane.as_str());
    let lanes = config
        .lanes
        .lane
        .iter()
        .map(|(name, written)| lane(name, written));
    let builder = lanes.fold(builder, |builder, lane| builder.lane(lane));
    builder.mode(config.lanes.mode).with_threads().build()
}

fn limit(written: &table::Total) -> Limit {
    match *written {
        table::Total::Fixed(total) => Limit::from(total),
        table::Total::Adaptive {
            algorithm,
            min,
            max,
        } => {
            let adaptive = match algorithm {
                table::AdaptiveAlgorithm::Aimd => Limit::adaptive(Aimd::default()),
                table::AdaptiveAlgorithm::Gradient2 => Limit::adaptive(Gradient2::default()),
            };
            adaptive.min(min.get()).max(max.get()).into()
        }
    }
}

fn lane(name: &str, written: &table::Lane) -> LaneConfig {
    let lane = LaneConfig::new(name)
        .guaranteed(written.guaranteed.get())
        .cap(written.cap.get())
        .criticality(criticality(written.criticality))
        .queue(written.queue)
        .queue_timeout(written.queue_timeout)
        .hold(hold(written.hold))
        .mode(written.mode)
        .threads(written.thread_count())
        .nice(written.niceness());
    let lane = match written.max_hold {
        Some(limit) => lane.max_hold(limit),
        None => lane,
    };
    match &written.per_key {
        Some(written) => per_key(lane, written),
        None => lane,
    }
}

/// How clients are told apart, where each may have so many requests in the lane.
fn per_key(lane: LaneConfig, written: &table::PerKey) -> LaneConfig {
    match &written.key {
        Key::Ip => lane.per_key(ClientIp::new(), written.max),
        Key::Header(name) => lane.per_key(Header::new(name.clone()), written.max),
        Key::Route => lane.per_key(Route, written.max),
        Key::Global => lane.per_key(Global, written.max),
        // Refused when the configuration was read: nobody is known yet where lanes are.
        Key::Consumer | Key::User => lane,
    }
}

/// When the process's memory runs out; `None` if that is not asked for.
pub(crate) fn memory(written: &table::Memory) -> Result<Option<MemoryThresholds>, Fault> {
    if written.mode != Mode::Enforce {
        return Ok(None);
    }
    let limit = NonZeroU64::new(written.limit);
    let limit = limit.ok_or_else(|| Fault::new("server.memory.limit", "must be above 0B"))?;
    // Two steps are written: what is sheddable in any way goes at the first one, everything at the second.
    let (shed, refuse) = (written.shed_at.get(), written.refuse_at.get());
    let thresholds = MemoryThresholds::at(shed, shed, refuse);
    let thresholds = thresholds.and_then(|thresholds| thresholds.exhausted(refuse));
    let thresholds = thresholds.map_err(|error| Fault::new("server.memory", error.to_string()))?;
    Ok(Some(thresholds.process_limit(limit)))
}

const fn hold(written: table::Hold) -> Hold {
    match written {
        table::Hold::Head => Hold::Head,
        table::Hold::Body => Hold::Body,
    }
}
