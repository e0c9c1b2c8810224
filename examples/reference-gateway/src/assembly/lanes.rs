//! `[lanes]` as a bulkhead.

use gw_bulkhead::limit::{Aimd, Gradient2, Limit};
use gw_bulkhead::threads::Threads;
use gw_bulkhead::{BulkheadLayer, ConfigError, Hold, LaneConfig, Mode};

use super::routes::criticality;
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
    builder.mode(mode(config.lanes.mode)).with_threads().build()
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
    let threads = written.threads.map_or(0, |threads| {
        usize::try_from(threads.get()).unwrap_or(usize::MAX)
    });
    let lane = LaneConfig::new(name)
        .guaranteed(written.guaranteed.get())
        .cap(written.cap.get())
        .criticality(criticality(written.criticality))
        .queue(written.queue)
        .queue_timeout(written.queue_timeout)
        .hold(hold(written.hold))
        .threads(threads);
    match written.max_hold {
        Some(limit) => lane.max_hold(limit),
        None => lane,
    }
}

const fn hold(written: table::Hold) -> Hold {
    match written {
        table::Hold::Head => Hold::Head,
        table::Hold::Body => Hold::Body,
    }
}

const fn mode(written: table::Mode) -> Mode {
    match written {
        table::Mode::Enforce => Mode::Enforce,
        table::Mode::Shadow => Mode::Shadow,
        table::Mode::Off => Mode::Off,
    }
}
