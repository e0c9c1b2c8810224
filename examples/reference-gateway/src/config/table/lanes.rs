//! `[lanes]`

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use gw_core::Mode;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error as _, MapAccess, Unexpected, Visitor};

use super::Server;
use crate::config::read::Broken;
use crate::config::value::{
    Key, Ratio, count, duration_or_zero, early_key, list, optional, optional_whole,
    ratio_above_zero, whole,
};

/// How many requests run at once, and who may have how many of them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lanes {
    pub total: Total,
    /// By name. The default lane is always among them.
    pub lane: BTreeMap<String, Lane>,
    pub mode: Mode,
}

impl Default for Lanes {
    fn default() -> Self {
        Self {
            total: Total::Fixed(count(512)),
            lane: BTreeMap::new(),
            mode: Mode::default(),
        }
    }
}

impl Lanes {
    /// What all lanes together are guaranteed.
    pub fn guaranteed(&self) -> f64 {
        self.lane.values().map(|lane| lane.guaranteed.get()).sum()
    }

    /// The lanes that have listeners of their own.
    pub(crate) fn own_listeners(&self) -> impl Iterator<Item = (&str, &Lane)> {
        let lanes = self.lane.iter().map(|(name, lane)| (name.as_str(), lane));
        lanes.filter(|(_, lane)| !lane.listen.is_empty())
    }

    /// Whether the default lane is one that no table describes.
    pub(in crate::config) fn lacks_core(&self, default_lane: &str) -> bool {
        default_lane == Server::CORE_LANE && !self.lane.contains_key(default_lane)
    }

    /// Gives the default lane, where no table describes it, what the others leave.
    pub(super) fn add_core(&mut self, default_lane: &str) {
        if self.lacks_core(default_lane) {
            let rest = Ratio::clamped(1.0 - self.guaranteed());
            self.lane
                .insert(default_lane.to_owned(), Lane::guaranteeing(rest));
        }
    }
}

/// The number of requests in flight over all lanes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Total {
    Fixed(NonZeroU32),
    /// Found while running, `min <= max`.
    Adaptive {
        algorithm: AdaptiveAlgorithm,
        min: NonZeroU32,
        max: NonZeroU32,
    },
}

/// How an adaptive total follows the measured latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdaptiveAlgorithm {
    Aimd,
    Gradient2,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AdaptiveTable {
    adaptive: AdaptiveAlgorithm,
    #[serde(
        default = "default_min",
        deserialize_with = "whole::<_, _, 1, 1_000_000>"
    )]
    min: NonZeroU32,
    #[serde(
        default = "default_max",
        deserialize_with = "whole::<_, _, 1, 1_000_000>"
    )]
    max: NonZeroU32,
}

fn default_min() -> NonZeroU32 {
    count(20)
}

fn default_max() -> NonZeroU32 {
    count(2000)
}

impl<'de> Deserialize<'de> for Total {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TotalVisitor)
    }
}

struct TotalVisitor;

impl<'de> Visitor<'de> for TotalVisitor {
    type Value = Total;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number from 1 to 1000000, or { adaptive = \"gradient2\", min = 20, max = 2000 }")
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Total, E> {
        u32::try_from(value)
            .ok()
            .filter(|total| *total <= 1_000_000)
            .and_then(NonZeroU32::new)
            .map(Total::Fixed)
            .ok_or_else(|| E::invalid_value(Unexpected::Signed(value), &self))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Total, A::Error> {
        let table = AdaptiveTable::deserialize(MapAccessDeserializer::new(map))?;
        if table.min > table.max {
            let max_alone = table.min == default_min();
            return Err(A::Error::custom(Broken {
                key: Some(if max_alone { "max" } else { "min" }),
                rule: "must have `min` not above `max`",
            }));
        }
        Ok(Total::Adaptive {
            algorithm: table.adaptive,
            min: table.min,
            max: table.max,
        })
    }
}

/// `[lanes.lane.NAME]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lane {
    /// Share of the total that nobody else may take.
    pub guaranteed: Ratio,
    /// Share of the total that the lane may reach by borrowing; at least `guaranteed`.
    #[serde(default = "default_cap", deserialize_with = "ratio_above_zero")]
    pub cap: Ratio,
    #[serde(default)]
    pub criticality: Criticality,
    /// Requests that may wait; 0: none.
    #[serde(
        default = "default_queue",
        deserialize_with = "whole::<_, _, 0, 1_000_000>"
    )]
    pub queue: u32,
    #[serde(
        default = "default_queue_timeout",
        deserialize_with = "duration_or_zero"
    )]
    pub queue_timeout: Duration,
    #[serde(default)]
    pub hold: Hold,
    /// Longest time that one request keeps its place. `None`: its route's timer ends it.
    #[serde(default, deserialize_with = "optional")]
    pub max_hold: Option<Duration>,
    /// Concurrency of one key inside the lane.
    #[serde(default)]
    pub per_key: Option<PerKey>,
    /// Threads of a runtime of its own. `None`: runs where the server runs.
    #[serde(default, deserialize_with = "optional_whole::<_, _, 1, 256>")]
    pub threads: Option<NonZeroU32>,
    /// Niceness of its threads; only with `threads`. `None`: by criticality, see `Lane::niceness`.
    #[serde(default, deserialize_with = "optional_whole::<_, _, 0, 19>")]
    pub nice: Option<u8>,
    /// Listeners of its own; only with `threads`.
    #[serde(default, deserialize_with = "list")]
    pub listen: Vec<SocketAddr>,
    #[serde(default)]
    pub mode: Mode,
}

impl Lane {
    /// A lane in which nothing but its share is written.
    fn guaranteeing(share: Ratio) -> Self {
        Self {
            guaranteed: share,
            cap: default_cap(),
            criticality: Criticality::default(),
            queue: default_queue(),
            queue_timeout: default_queue_timeout(),
            hold: Hold::default(),
            max_hold: None,
            per_key: None,
            threads: None,
            nice: None,
            listen: Vec::new(),
            mode: Mode::default(),
        }
    }

    /// How many threads its runtime has, and those of its listeners as well; 0: it runs where the server runs.
    pub(crate) fn thread_count(&self) -> usize {
        self.threads.map_or(0, |threads| {
            usize::try_from(threads.get()).unwrap_or(usize::MAX)
        })
    }

    /// How nice its threads are, if it has any, those of its listeners included: as it is written, or else those of what is
    /// sheddable give way to the others, as its requests do.
    pub(crate) const fn niceness(&self) -> u8 {
        match (self.nice, self.threads, self.criticality) {
            (Some(nice), ..) => nice,
            (None, Some(_), Criticality::SheddablePlus) => 5,
            (None, Some(_), Criticality::Sheddable) => 10,
            (None, None, _) | (None, _, Criticality::CriticalPlus | Criticality::Critical) => 0,
        }
    }
}

fn default_cap() -> Ratio {
    Ratio::ONE
}

/// The contract leaves the queue of a lane open; these are the values of its `auth` lane: short
/// enough to stay a burst buffer.
fn default_queue() -> u32 {
    64
}

fn default_queue_timeout() -> Duration {
    Duration::from_millis(100)
}

/// Who goes last, the most important first. What is sheddable is refused first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Criticality {
    CriticalPlus,
    #[default]
    Critical,
    SheddablePlus,
    Sheddable,
}

/// Until when a request keeps its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hold {
    /// The head of the answer.
    Head,
    /// The end of its body, so that a slow stream cannot slip out of the lane.
    #[default]
    Body,
}

/// `per_key`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerKey {
    #[serde(deserialize_with = "early_key")]
    pub key: Key,
    #[serde(deserialize_with = "whole::<_, _, 1, 1_000_000>")]
    pub max: NonZeroU32,
}
