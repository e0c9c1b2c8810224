use std::num::NonZeroU32;

use gw_core::awaited::Awaited;
use tokio::time::Instant;

use crate::sync::{Mutex, lock};

/// Whom probes wait for, where that is told. Asked only by a breaker that is half-open.
///
/// A client that sends its request slowly must not hold the slot of a probe for long, nor does it say anything against the
/// upstream. So its probe is put *aside* when probes are waited for no longer: another one gets the slot, and the verdict of the
/// first counts when it comes, if the breaker is half-open still and has not opened meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Followed(Mutex<Probes>);

#[derive(Debug, Default)]
struct Probes {
    last: Option<Number>,
    under_way: Vec<Probe>,
}

/// Of one that is followed. Not those of probes that end within four billion others.
pub(crate) type Number = NonZeroU32;

#[derive(Debug)]
struct Probe {
    number: Number,
    /// In which its verdict counts.
    generation: u64,
    aside: bool,
    awaited: Awaited,
}

impl Followed {
    /// From now on, a probe that was admitted in `generation`.
    pub(crate) fn follow(&self, generation: u64, awaited: Awaited) -> Number {
        let mut probes = lock(&self.0);
        let next = probes.last.and_then(|last| last.checked_add(1));
        let number = next.unwrap_or(Number::MIN);
        probes.last = Some(number);
        probes.under_way.push(Probe {
            number,
            generation,
            aside: false,
            awaited,
        });
        number
    }

    /// Whether as many probes as `waiting` that have a slot in `generation` wait for anybody but the upstream, or for it only `lately`.
    pub(crate) fn owe_nothing(
        &self,
        generation: u64,
        waiting: u8,
        lately: impl Fn(Instant) -> bool,
    ) -> bool {
        let probes = lock(&self.0);
        let owes_nothing = |probe: &&Probe| {
            let here = probe.generation == generation && !probe.aside;
            here && probe.awaited.since().is_none_or(&lately)
        };
        probes.under_way.iter().filter(owes_nothing).count() >= usize::from(waiting)
    }

    /// Whether it is not the upstream that a probe waits for.
    pub(crate) fn is_paused(&self, number: Number) -> bool {
        let probes = lock(&self.0);
        let mut of_it = probes.under_way.iter();
        of_it.any(|probe| probe.number == number && probe.awaited.since().is_none())
    }

    /// In which generation the verdict of a probe counts that was put aside.
    pub(crate) fn aside(&self, number: Number) -> Option<u64> {
        let probes = lock(&self.0);
        let it = (probes.under_way.iter()).find(|probe| probe.number == number && probe.aside)?;
        Some(it.generation)
    }

    /// Puts aside what is under way in a half-open state that another one follows.
    pub(crate) fn put_aside(&self, from: u64, to: u64) {
        let mut probes = lock(&self.0);
        let of_it = probes.under_way.iter_mut();
        for probe in of_it.filter(|probe| probe.generation == from) {
            probe.generation = to;
            probe.aside = true;
        }
    }

    /// Follows a probe no longer.
    pub(crate) fn forget(&self, number: Number) {
        let mut probes = lock(&self.0);
        probes.under_way.retain(|probe| probe.number != number);
    }
}
