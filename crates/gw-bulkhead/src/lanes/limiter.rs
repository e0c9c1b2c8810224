use std::fmt;
use std::sync::TryLockError;
use std::time::Duration;

use super::snapshot::AdaptiveSnapshot;
use super::state::Limits;
use crate::limit::{Adaptive, Algorithm, Next, Outcome, Window};
use crate::sync::{AtomicU32, AtomicU64, Mutex, MutexGuard, Ordering, Padded, lock};

/// What finds the limit of a lane: samples come in without a lock, and now and then one of those who bring them closes
/// the window and asks the algorithm.
pub(super) struct Limiter {
    tally: Padded<Tally>,
    core: Mutex<Core>,
    shortest: u64,
}

/// The samples of the window that is open.
///
/// Each of these is counted on its own. What is taken out at the end of a window is so taken out once; which window a
/// sample of the last moment falls into does not matter.
#[derive(Debug)]
struct Tally {
    /// How many were answered and how long they took together, in one word: the mean is exact.
    answered: AtomicU64,
    dropped: AtomicU32,
    /// How many were answered of whose time nothing is known.
    untimed: AtomicU32,
    /// The most in flight.
    peak: AtomicU32,
    /// The shortest time to an answer.
    least: AtomicU64,
    /// What ended before is not counted.
    since: AtomicU64,
    /// When the window may close.
    due: AtomicU64,
    /// How many samples it must have then.
    wanted: AtomicU32,
}

/// What is changed with the lock held.
struct Core {
    algorithm: Box<dyn Algorithm>,
    rng: fastrand::Rng,
    bounds: Bounds,
    limit: u32,
    window: u64,
    opened: u64,
    windows: u64,
    answered: u64,
    dropped: u64,
}

/// Between what a lane's limit is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) guaranteed: u32,
    pub(super) min: u32,
    pub(super) max: u32,
}

/// When a request ended and how long it took, in nanoseconds; the former since the lanes were made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) ended: u64,
    pub(crate) took: u64,
    /// How long without the client's part, if that is known.
    pub(crate) served: Option<u64>,
}

/// Times are kept in units of 256 ns: then 65,535 of up to 18 minutes each fit into 48 bits, and nothing overflows into
/// the count above them.
const UNIT: u32 = 8;
const LONGEST: u64 = (1 << 32) - 1;
const ONE: u64 = 1 << 48;
/// No window takes more: it leaves room for all threads that may have looked at the same moment. One that is full closes.
const FULL: u64 = 60_000;
/// A window lasts no longer than that for slow answers, nor is it put off for longer: or a process that was stopped for hours adapts to
/// nothing for hours.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

impl Tally {
    fn answered(&self, nanos: u64) -> u64 {
        let seen = self.answered.load(Ordering::Relaxed);
        if seen / ONE >= FULL {
            return FULL;
        }
        if nanos < self.least.load(Ordering::Relaxed) {
            self.least.fetch_min(nanos, Ordering::Relaxed);
        }
        let time = (nanos >> UNIT).min(LONGEST);
        self.answered.fetch_add(ONE + time, Ordering::Relaxed) / ONE + 1
    }

    /// Counts an answer that is no sample: it closes no window, which has as many samples of latency as ever, and makes the drops of
    /// this one a smaller share.
    fn answered_untimed(&self, in_flight: u32) {
        self.untimed.fetch_add(1, Ordering::Relaxed);
        self.was_in_flight(in_flight);
    }

    fn samples(&self) -> u64 {
        self.answered.load(Ordering::Relaxed) / ONE
            + u64::from(self.dropped.load(Ordering::Relaxed))
    }

    /// Whether it may close at `now`.
    fn is_over(&self, now: u64) -> bool {
        now >= self.due.load(Ordering::Relaxed) || self.samples() >= FULL
    }

    fn was_in_flight(&self, requests: u32) {
        if requests > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(requests, Ordering::Relaxed);
        }
    }

    fn open(&self, now: u64, length: u64, wanted: u32) {
        self.wanted.store(wanted, Ordering::Relaxed);
        self.due
            .store(now.saturating_add(length), Ordering::Relaxed);
    }
}

impl Limiter {
    pub(super) fn new(adaptive: &Adaptive, start: u32, bounds: Bounds, lane: u64) -> Self {
        let rng = match adaptive.seed {
            // Lanes that probe at once would each see what the others do.
            Some(seed) => fastrand::Rng::with_seed(seed.wrapping_add(lane)),
            None => fastrand::Rng::new(),
        };
        let window = nanos(adaptive.window);
        let tally = Tally {
            answered: AtomicU64::new(0),
            dropped: AtomicU32::new(0),
            untimed: AtomicU32::new(0),
            peak: AtomicU32::new(0),
            least: AtomicU64::new(u64::MAX),
            since: AtomicU64::new(0),
            due: AtomicU64::new(0),
            wanted: AtomicU32::new(0),
        };
        tally.open(0, window, Adaptive::SAMPLES);
        Self {
            tally: Padded(tally),
            core: Mutex::new(Core {
                algorithm: adaptive.algorithm.fresh(),
                rng,
                bounds,
                limit: bounds.hold(start),
                window,
                opened: 0,
                windows: 0,
                answered: 0,
                dropped: 0,
            }),
            shortest: nanos(adaptive.shortest),
        }
    }

    /// Counts how a request ended, while it was still one of `in_flight`. If that closes the window, `publish` is given
    /// the limits that follow, one caller after the other; the result is what it returned.
    #[inline]
    pub(super) fn record<T>(
        &self,
        run: Run,
        outcome: Outcome,
        in_flight: u32,
        publish: impl FnOnce(Limits) -> T,
    ) -> Option<T> {
        // Relaxed throughout: counts that nothing else is read by. What a window's end changes is behind a lock.
        if run.ended < self.tally.since.load(Ordering::Relaxed) {
            return None;
        }
        let count = match outcome {
            Outcome::Answered if run.took < self.shortest => return None,
            Outcome::Answered => match run.served.filter(|served| *served >= self.shortest) {
                Some(served) => {
                    self.tally.answered(served)
                        + u64::from(self.tally.dropped.load(Ordering::Relaxed))
                }
                None => {
                    self.tally.answered_untimed(in_flight);
                    return None;
                }
            },
            Outcome::Dropped => {
                let before = self.tally.dropped.fetch_add(1, Ordering::Relaxed);
                u64::from(before) + 1 + self.tally.answered.load(Ordering::Relaxed) / ONE
            }
        };
        self.tally.was_in_flight(in_flight);
        let wanted = self.tally.wanted.load(Ordering::Relaxed);
        if count < wanted.into() || !self.tally.is_over(run.ended) {
            return None;
        }
        self.close(run.ended, publish)
    }

    /// Closes the window, unless somebody else does.
    #[cold]
    fn close<T>(&self, now: u64, publish: impl FnOnce(Limits) -> T) -> Option<T> {
        let mut core: MutexGuard<'_, Core> = match self.core.try_lock() {
            Ok(core) => core,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        // Somebody else has closed it just before.
        if !self.tally.is_over(now) {
            return None;
        }
        let least = self.tally.least.swap(u64::MAX, Ordering::Relaxed);
        let window = core.take(&self.tally, now);
        let next = core.algorithm.update(&window);
        core.apply(next);
        let since = now.saturating_add(nanos(next.settling.min(PATIENCE)));
        core.opened = since;
        self.tally.since.store(since, Ordering::Relaxed);
        let twice = match least {
            u64::MAX => 0,
            least => least.saturating_mul(2).min(nanos(PATIENCE)),
        };
        let wanted = next.samples.clamp(Adaptive::SAMPLES, FULL as u32);
        let length = core
            .window
            .max(twice)
            .max(nanos(next.lasting.min(PATIENCE)));
        self.tally.open(since, length, wanted);
        Some(publish(core.limits()))
    }

    pub(super) fn limits(&self) -> Limits {
        lock(&self.core).limits()
    }

    /// Changes the bounds; `publish` is given the limits within them.
    pub(super) fn resize<T>(&self, bounds: Bounds, publish: impl FnOnce(Limits) -> T) -> T {
        let mut core = lock(&self.core);
        core.bounds = bounds;
        core.limit = bounds.hold(core.limit);
        publish(core.limits())
    }

    pub(super) fn snapshot(&self) -> AdaptiveSnapshot {
        let core = lock(&self.core);
        AdaptiveSnapshot {
            algorithm: core.algorithm.name(),
            min: core.bounds.min,
            max: core.bounds.max,
            windows: core.windows,
            answered: core.answered,
            dropped: core.dropped,
            report: core.algorithm.report(),
        }
    }
}

impl Core {
    /// The window that ends now. Its counts begin anew.
    fn take(&mut self, tally: &Tally, now: u64) -> Window {
        let answered = tally.answered.swap(0, Ordering::Relaxed);
        let dropped = tally.dropped.swap(0, Ordering::Relaxed);
        let untimed = tally.untimed.swap(0, Ordering::Relaxed);
        let peak = tally.peak.swap(0, Ordering::Relaxed);
        // Below 2^16.
        let (count, time) = ((answered / ONE) as u32, (answered % ONE) << UNIT);
        self.windows += 1;
        self.answered += u64::from(count);
        self.dropped += u64::from(dropped);
        Window {
            at: Duration::from_nanos(now),
            elapsed: Duration::from_nanos(now.saturating_sub(self.opened)),
            latency: time.checked_div(count.into()).map(Duration::from_nanos),
            answered: count,
            untimed,
            dropped,
            peak,
            limit: self.limit,
            min: self.bounds.min,
            max: self.bounds.max,
            jitter: self.rng.f64(),
        }
    }

    fn apply(&mut self, next: Next) {
        self.limit = self.bounds.hold(next.limit);
    }

    /// The limit stands above the guarantee too: that is a promise about the other lanes, not about what serves this one.
    fn limits(&self) -> Limits {
        Limits {
            guaranteed: self.bounds.guaranteed.min(self.limit),
            cap: self.limit,
        }
    }
}

impl Bounds {
    fn hold(self, limit: u32) -> u32 {
        limit.min(self.max).max(self.min)
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Limiter").field(&self.snapshot()).finish()
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use crate::limit::{Aimd, Limit};

    const BOUNDS: Bounds = Bounds {
        guaranteed: 1,
        min: 1,
        max: 100,
    };
    const MILLI: u64 = 1_000_000;

    fn limiter(window: Duration) -> Limiter {
        let adaptive = Limit::adaptive(Aimd::default()).window(window);
        Limiter::new(&adaptive, 50, BOUNDS, 0)
    }

    fn run(ended: u64, took: u64) -> Run {
        let served = Some(took);
        Run {
            ended,
            took,
            served,
        }
    }

    /// Story: calls that are answered while they are still sent were not counted, and their failures were: ten of those in an hour
    /// were all that there was in a window.
    #[test]
    fn answers_without_a_time_make_drops_a_smaller_share() {
        for (shortest, served) in [(0, None), (100_000, None), (100_000, Some(99_999))] {
            let adaptive =
                Limit::adaptive(Aimd::default()).shortest(Duration::from_nanos(shortest));
            let limiter = Limiter::new(&adaptive, 50, BOUNDS, 0);
            let mut now = 0;
            let mut end = |outcome, served| {
                now += MILLI;
                let run = Run {
                    served,
                    ..run(now, MILLI)
                };
                limiter.record(run, outcome, 10, |_| ());
            };
            for request in 1..=2_000 {
                end(Outcome::Answered, served);
                if request % 200 == 0 {
                    end(Outcome::Dropped, Some(MILLI));
                }
            }
            let snapshot = limiter.snapshot();
            let counted = (snapshot.windows, snapshot.answered, snapshot.dropped);
            assert_eq!(counted, (1, 0, 10));
            assert_eq!(limiter.limits().cap, 50, "{served:?}");
            // They are told once.
            (0..10).for_each(|_| end(Outcome::Dropped, Some(MILLI)));
            (0..100).for_each(|_| end(Outcome::Dropped, Some(MILLI)));
            assert!(limiter.limits().cap < 50, "{served:?}");
            // Alone they decide nothing.
            let (windows, cap) = (limiter.snapshot().windows, limiter.limits().cap);
            (0..1_000).for_each(|_| end(Outcome::Answered, served));
            assert_eq!(limiter.snapshot().windows, windows);
            assert_eq!(limiter.limits().cap, cap);
        }
    }

    /// Story: a long window stopped counting answers when it was full, and went on counting drops: the limit of a lane with two drops
    /// in a thousand went down to the least.
    #[test]
    fn a_full_window_closes_and_its_drops_are_no_larger_a_share() {
        let limiter = limiter(Duration::from_secs(60));
        for request in 1..=200_000_u64 {
            let ended = request * MILLI / 10;
            let run = run(ended, MILLI);
            let outcome = match request % 500 {
                0 => Outcome::Dropped,
                _ => Outcome::Answered,
            };
            limiter.record(run, outcome, 50, |_| ());
        }
        let AdaptiveSnapshot {
            windows,
            answered,
            dropped,
            ..
        } = limiter.snapshot();
        assert_eq!((windows, answered + dropped), (3, 3 * FULL));
        assert!(limiter.limits().cap >= 50, "{limiter:?}");
    }

    /// Story: a process that was stopped for a night while ten requests were in flight took their time for the upstream's, and adapted
    /// to nothing for twice as long.
    #[test]
    fn a_night_in_which_the_process_was_stopped_holds_nothing_up() {
        let limiter = limiter(Duration::from_millis(100));
        let night = 8 * 3_600_000 * MILLI;
        let mut now = night;
        let mut answer = |took, wait| {
            now += wait;
            let run = run(now, took);
            limiter.record(run, Outcome::Answered, 50, |_| ());
        };
        (0..10).for_each(|_| answer(night, MILLI));
        assert_eq!(limiter.snapshot().windows, 1);
        (0..10).for_each(|_| answer(MILLI, 31_000 * MILLI));
        assert_eq!(limiter.snapshot().windows, 2);
    }
}
