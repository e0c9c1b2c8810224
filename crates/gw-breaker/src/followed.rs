use std::num::NonZeroU32;

use gw_core::awaited::Awaited;
use tokio::time::Instant;

use crate::sync::{Mutex, MutexGuard, lock};

/// Whom probes wait for, where that is told. Asked only by a breaker that is half-open.
///
/// A client that sends its request slowly must not hold the slot of a probe for long, nor does it say anything against the
/// upstream. So its probe is put *aside* when probes are waited for no longer: another one gets the slot, and the verdict of the
/// first counts when it comes, if the breaker is half-open still and has not opened meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Followed(Mutex<Probes>);

/// Those under way. Who changes the word so that a probe is put aside or has none of the slots any more holds their lock meanwhile:
/// who asks for them finds what goes with the word, or the word has changed since.
#[derive(Debug, Default)]
pub(crate) struct Probes {
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
    pub(crate) fn lock(&self) -> MutexGuard<'_, Probes> {
        lock(&self.0)
    }

    /// From now on, a probe that was admitted in `generation`; by this `awaited`, if it is followed `before`.
    pub(crate) fn follow(
        &self,
        generation: u64,
        before: Option<Number>,
        awaited: Awaited,
    ) -> Number {
        let mut probes = self.lock();
        let mut of_it = probes.under_way.iter_mut();
        if let Some(probe) = of_it.find(|probe| Some(probe.number) == before) {
            probe.awaited = awaited;
            return probe.number;
        }
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
        let probes = self.lock();
        let owes_nothing = |probe: &&Probe| {
            let here = probe.generation == generation && !probe.aside;
            here && probe.awaited.since().is_none_or(&lately)
        };
        probes.under_way.iter().filter(owes_nothing).count() >= usize::from(waiting)
    }

    /// Whether it is not the upstream that a probe waits for.
    pub(crate) fn is_paused(&self, number: Number) -> bool {
        let probes = self.lock();
        let mut of_it = probes.under_way.iter();
        of_it.any(|probe| probe.number == number && probe.awaited.since().is_none())
    }
}

impl Probes {
    /// In which generation the verdict of a probe counts that was put aside.
    pub(crate) fn aside(&self, number: Number) -> Option<u64> {
        let it = (self.under_way.iter()).find(|probe| probe.number == number && probe.aside)?;
        Some(it.generation)
    }

    /// Puts aside what is under way in a half-open state that another one follows.
    pub(crate) fn put_aside(&mut self, from: u64, to: u64) {
        let of_it = self.under_way.iter_mut();
        for probe in of_it.filter(|probe| probe.generation == from) {
            probe.generation = to;
            probe.aside = true;
        }
    }

    /// Follows a probe no longer.
    pub(crate) fn forget(&mut self, number: Number) {
        self.under_way.retain(|probe| probe.number != number);
    }
}
