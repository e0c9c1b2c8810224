use std::num::NonZeroU32;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64 as Tally;
use std::time::Duration;

use gw_core::Mode;
use tokio::time::Instant;

use super::drain_rate::{DrainRate, Observed};
use super::inner::{NoPlace, Turn};
use super::keys::Keys;
use super::lane_counter::{LaneCounter, LaneWord};
use super::limiter::{Bounds, Limiter, Run};
use super::service_time::ServiceTime;
use super::{KeySnapshot, LaneSnapshot, Reason, Rejections};
use crate::config::Shares;
use crate::lane::{Hold, LaneConfig, Sample};
use crate::limit::{Adaptive, Outcome};
use crate::sync::{AtomicU64, Ordering, Padded};
use crate::telemetry::{self, LaneMetrics};

/// One lane: what changes with each request in front, and what is only read or hardly ever touched behind.
#[derive(Debug)]
pub(super) struct LaneState {
    hot: Padded<Hot>,
    pub(super) config: LaneConfig,
    shares: Shares,
    /// What finds its limit, if it is not fixed.
    limiter: Option<Box<Limiter>>,
    /// The least of all limits together, of which a limit that is found is at least the lane's share.
    least: NonZeroU32,
    rejections: [Tally; Reason::ALL.len()],
    drain: DrainMeter,
    /// Of lanes that count clients.
    pub(super) keys: Option<Keys>,
    time: TimeMeter,
    metrics: LaneMetrics,
}

#[derive(Debug)]
pub(super) struct Hot {
    pub(super) counter: LaneCounter,
    limits: AtomicU64,
    /// Whether a request must say more than that it is there. In here because this is at hand.
    pub(super) curious: bool,
    /// Whether how long a request takes changes anything: there is a limit to it, or one is found by it.
    pub(super) minds_time: bool,
    pub(super) hold: Hold,
}

/// What the lane's shares come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) guaranteed: u32,
    pub(super) cap: u32,
}

#[derive(Debug)]
struct TimeMeter {
    seen: Mutex<ServiceTime>,
    /// What was found last, in nanoseconds; 0 while it is not known.
    needed: Tally,
    /// Until when that is worth something, in nanoseconds since the epoch.
    good_until: Tally,
    epoch: Instant,
}

#[derive(Debug, Default)]
struct DrainMeter {
    rate: Mutex<DrainRate>,
    /// What the rate said last: nanoseconds until the next place, 0 while it is not known, and for each one after it.
    nanos_to_next: Tally,
    nanos_per_place: Tally,
}

impl Limits {
    fn of(shares: Shares, total: NonZeroU32) -> Self {
        Self {
            guaranteed: shares.guaranteed.of(total),
            cap: shares.cap.of(total),
        }
    }

    /// Both in one word: read apart, a guarantee could be seen above a cap that has just shrunk.
    fn pack(self) -> u64 {
        u64::from(self.guaranteed) << 32 | u64::from(self.cap)
    }

    const fn unpack(word: u64) -> Self {
        Self {
            guaranteed: (word >> 32) as u32,
            cap: (word & 0xffff_ffff) as u32,
        }
    }
}

impl Bounds {
    /// From the guaranteed share of `least`, or of the total if that is less, to the cap.
    fn of(shares: Shares, total: NonZeroU32, least: NonZeroU32) -> Self {
        Self {
            guaranteed: shares.guaranteed.of(total),
            min: shares.guaranteed.of(least.min(total)),
            max: shares.cap.of(total),
        }
    }
}

impl LaneState {
    pub(super) fn new(
        config: LaneConfig,
        shares: Shares,
        total: NonZeroU32,
        adaptive: Option<&Adaptive>,
        lane: u64,
    ) -> Self {
        let adaptive = adaptive.filter(|_| config.sample != Sample::Nothing);
        let least = NonZeroU32::new(adaptive.map_or(1, |adaptive| adaptive.min));
        let least = least.unwrap_or(NonZeroU32::MIN);
        let limiter = adaptive.map(|adaptive| {
            let start = NonZeroU32::new(adaptive.start()).unwrap_or(NonZeroU32::MIN);
            let bounds = Bounds::of(shares, total, least);
            Box::new(Limiter::new(adaptive, shares.cap.of(start), bounds, lane))
        });
        let limits = match &limiter {
            Some(limiter) => limiter.limits(),
            None => Limits::of(shares, total),
        };
        Self {
            hot: Padded(Hot {
                counter: LaneCounter::new(),
                limits: AtomicU64::new(limits.pack()),
                curious: config.deadline_aware
                    || config.per_key.is_some()
                    || config.mode != Mode::Enforce,
                minds_time: config.max_hold.is_some() || limiter.is_some(),
                hold: config.hold,
            }),
            shares,
            limiter,
            least,
            rejections: Default::default(),
            drain: DrainMeter::default(),
            keys: config
                .per_key
                .as_ref()
                .map(|per_key| Keys::new(per_key.max)),
            time: TimeMeter::new(),
            metrics: LaneMetrics::new(config.name.clone(), limits.cap),
            config,
        }
    }

    #[inline]
    pub(super) fn limits(&self) -> Limits {
        Limits::unpack(self.hot.limits.load(Ordering::Acquire))
    }

    /// Whether a request may come in when the lane is `seen` so, by what the lane itself says; how many of its places are
    /// guaranteed.
    #[inline]
    pub(super) fn is_open(&self, seen: LaneWord, turn: Turn) -> Result<u32, NoPlace> {
        if turn == Turn::Arriving {
            if seen.is_closed() {
                return Err(NoPlace::Draining);
            }
            if seen.waiting() > 0 {
                return Err(NoPlace::Behind);
            }
        }
        let Limits { guaranteed, cap } = self.limits();
        if seen.in_flight() >= cap {
            return Err(NoPlace::Cap);
        }
        Ok(guaranteed)
    }

    /// Whether as many wait as may, and none of them by what the clock says no longer does: where the lane looks at that, it
    /// is known only with the line locked.
    pub(super) fn is_queue_full(&self) -> bool {
        let LaneConfig { queue, codel, .. } = self.config;
        let looks_at_clock = codel.is_some() || self.config.deadline_aware;
        queue > 0 && !looks_at_clock && self.counter.load().waiting() >= queue
    }

    pub(super) fn resize(&self, total: NonZeroU32) {
        match &self.limiter {
            Some(limiter) => {
                let bounds = Bounds::of(self.shares, total, self.least);
                limiter.resize(bounds, |limits| self.publish(limits));
            }
            None => {
                self.publish(Limits::of(self.shares, total));
            }
        }
        self.tell_limit();
    }

    /// Looks again after it has told: two who tell at the same time leave the gauge at what is in force.
    fn tell_limit(&self) {
        loop {
            let cap = self.limits().cap;
            self.metrics.limit(cap);
            if self.limits().cap == cap {
                return;
            }
        }
    }

    /// Whether how its requests end changes its limit.
    pub(super) const fn is_measured(&self) -> bool {
        self.limiter.is_some()
    }

    /// Notes how a request ended that is still in flight; whether there are more places now.
    #[inline]
    pub(super) fn ended(&self, run: Run, outcome: Outcome) -> bool {
        let Some(limiter) = &self.limiter else {
            return false;
        };
        let in_flight = self.hot.counter.load().in_flight();
        let before = limiter.record(run, outcome, in_flight, |limits| self.publish(limits));
        before.is_some_and(|before| self.moved(before))
    }

    /// Tells of a limit that was found.
    fn moved(&self, before: Limits) -> bool {
        let now = self.limits();
        if now != before {
            self.tell_limit();
        }
        now.cap > before.cap
    }

    /// What was in force before.
    fn publish(&self, limits: Limits) -> Limits {
        Limits::unpack(self.hot.limits.swap(limits.pack(), Ordering::AcqRel))
    }

    pub(super) fn record_gauges(&self) {
        self.metrics.register();
    }

    /// Notes that a request was admitted.
    pub(super) fn entered(&self) {
        self.metrics.entered();
    }

    /// Notes that a request gave its place back.
    pub(super) fn left(&self) {
        self.metrics.left();
    }

    /// Notes that a request waits.
    pub(super) fn queued(&self) {
        self.metrics.queued();
    }

    /// Notes that a request waits no longer.
    pub(super) fn dequeued(&self) {
        self.metrics.dequeued();
    }

    /// Notes that a request was refused, or would have been if this `mode` enforced; how long it would have to wait for a place,
    /// if that is known.
    pub(super) fn refused(&self, reason: Reason, mode: Mode, now: Instant) -> Option<Duration> {
        let tallies = Reason::ALL.into_iter().zip(&self.rejections);
        if let Some((_, tally)) = tallies.into_iter().find(|(other, _)| *other == reason) {
            tally.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        self.metrics.refused(reason, mode);
        if matches!(reason, Reason::PerKey | Reason::Pressure) {
            // The lane may have places: how fast they come back does not say when this client may come back.
            return None;
        }
        let word = self.hot.counter.load();
        let admitted = self.hot.counter.admitted();
        let completed = admitted.saturating_sub(word.in_flight().into());
        if self.drain.observe(now, completed) == Observed::Onset {
            telemetry::refusing(self.config.name(), reason, mode);
        }
        self.drain.wait_behind(word.waiting())
    }

    /// How long a request would have to wait for a place now, if that is known.
    pub(super) fn wait(&self) -> Option<Duration> {
        self.drain.wait_behind(self.hot.counter.load().waiting())
    }

    pub(super) fn snapshot(&self, mode: Mode) -> LaneSnapshot {
        let word = self.hot.counter.load();
        let limits = self.limits();
        let [
            lane_full,
            queue_full,
            queue_timeout,
            draining,
            max_hold,
            queue_delay,
            deadline,
            per_key,
            pressure,
        ] = self
            .rejections
            .each_ref()
            .map(|tally| tally.load(std::sync::atomic::Ordering::Relaxed));
        LaneSnapshot {
            name: self.config.name.clone(),
            mode: mode.milder(self.config.mode),
            criticality: self.config.criticality,
            guaranteed: limits.guaranteed,
            limit: limits.cap,
            adaptive: self.limiter.as_deref().map(Limiter::snapshot),
            in_flight: word.in_flight(),
            queued: word.waiting(),
            admitted: self.hot.counter.admitted(),
            rejected: Rejections {
                lane_full,
                queue_full,
                queue_timeout,
                draining,
                max_hold,
                queue_delay,
                deadline,
                per_key,
                pressure,
            },
            per_key: self.keys.as_ref().map(|counted| {
                let (keys, busiest) = counted.usage();
                let max = counted.max().get();
                KeySnapshot { max, keys, busiest }
            }),
            time_needed: self.time.needed(Instant::now()),
        }
    }

    /// How long almost all requests take, zero while that is not known.
    pub(super) fn time_needed(&self, now: Instant) -> Duration {
        self.time.needed(now).unwrap_or_default()
    }

    /// Notes how long a request took.
    pub(super) fn took(&self, now: Instant, time: Duration) {
        self.time.record(now, time);
    }
}

impl std::ops::Deref for LaneState {
    type Target = Hot;

    #[inline]
    fn deref(&self) -> &Hot {
        &self.hot
    }
}

impl TimeMeter {
    fn new() -> Self {
        Self {
            seen: Mutex::new(ServiceTime::new()),
            needed: Tally::new(0),
            good_until: Tally::new(0),
            epoch: Instant::now(),
        }
    }

    fn record(&self, now: Instant, time: Duration) {
        // One of several at once is enough for a sample; the others do not wait for it.
        let Ok(mut seen) = self.seen.try_lock() else {
            return;
        };
        let needed = seen.record(now, time).unwrap_or_default();
        let good_until = self.since_epoch(now) + ServiceTime::GOOD_FOR;
        for (tally, time) in [(&self.needed, needed), (&self.good_until, good_until)] {
            let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            tally.store(nanos, std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// What was found last, unless nothing has ended for so long that it says nothing about now.
    fn needed(&self, now: Instant) -> Option<Duration> {
        let time = |tally: &Tally| {
            let nanos = tally.load(std::sync::atomic::Ordering::Relaxed);
            Duration::from_nanos(nanos)
        };
        let needed = time(&self.needed);
        let known = !needed.is_zero() && self.since_epoch(now) < time(&self.good_until);
        known.then_some(needed)
    }

    fn since_epoch(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.epoch)
    }
}

impl DrainMeter {
    fn observe(&self, now: Instant, completed: u64) -> Observed {
        // One of many refusals at once is enough for a sample; the others do not wait for it.
        let Ok(mut rate) = self.rate.try_lock() else {
            return Observed::Ongoing;
        };
        let observed = rate.observe(now, completed);
        let (next, each) = rate.per_place().unwrap_or_default();
        for (tally, wait) in [(&self.nanos_to_next, next), (&self.nanos_per_place, each)] {
            let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
            tally.store(nanos, std::sync::atomic::Ordering::Relaxed);
        }
        observed
    }

    /// How long until a place is free for one who comes after so many.
    fn wait_behind(&self, waiting: u32) -> Option<Duration> {
        let nanos = |tally: &Tally| tally.load(std::sync::atomic::Ordering::Relaxed);
        let (next, each) = (nanos(&self.nanos_to_next), nanos(&self.nanos_per_place));
        let before = each.saturating_mul(u64::from(waiting));
        let wait = Duration::from_nanos(next.saturating_add(before));
        (next > 0).then(|| wait.min(DrainRate::LONGEST))
    }
}
