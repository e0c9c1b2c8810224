//! When the next request may start, and how large it may be.

use std::time::Duration;

use tokio::time::Instant;

use super::backoff::Backoff;
use super::concurrency::Concurrency;
use super::size::{Sent, Size};

/// So many events that are all there is may be set aside with nothing taken since they came. What is refused beyond them may be
/// refused for the sink's configuration.
const SET_ASIDE: u32 = 2;

/// So many further refusals are heard before that is believed, if the sink takes nothing meanwhile.
const TRIED: u32 = 16;

/// The longest wait, whoever asks for it: no point in time that is computed from it is beyond what a clock can tell.
pub(super) const LONGEST: Duration = Duration::from_secs(3600);

/// What is believed of an event that the sink refused with nothing else in the request, as often as it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// It is for the event.
    Event,
    /// It may be for the sink's configuration: another event may tell.
    Unknown,
    /// It is for the configuration, or its client sends nothing but such.
    Configuration,
}

/// Who else than an event that is refused could tell whether the sink works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hope {
    /// A request that runs.
    UnderWay,
    /// Other events that are in hand.
    Others,
    Nobody,
}

/// What a consumer has learned about its sink. Pure: time and randomness are passed in.
#[derive(Debug)]
pub(super) struct Pace {
    backoff: Backoff,
    /// How long to rest when the configuration is wrong.
    pause: Duration,
    concurrency: Concurrency,
    /// Whole failures in a row. While there are any, one request at a time probes the sink.
    failures: u32,
    /// Events that the sink refused with nothing else in the request, in a row.
    refused_alone: u32,
    /// The number of the next request.
    next: u64,
    /// The last one of which the sink has taken something.
    taken: Option<u64>,
    not_before: Option<Instant>,
    size: Size,
    /// Requests started before the last failure say nothing new when they fail too.
    round: u64,
}

/// What a request needs to be judged by later.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    number: u64,
    started: Instant,
    concurrency: u64,
    round: u64,
    /// Whether it took the last free place.
    last: bool,
    sent: Sent,
}

impl Stamp {
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn elapsed(&self, now: Instant) -> Duration {
        now - self.started
    }
}

impl Pace {
    pub(super) fn new(
        backoff: Backoff,
        pause: Duration,
        concurrency: usize,
        max_bytes: usize,
    ) -> Self {
        Self {
            backoff,
            pause,
            concurrency: Concurrency::new(concurrency),
            failures: 0,
            refused_alone: 0,
            next: 0,
            taken: None,
            not_before: None,
            size: Size::new(max_bytes),
            round: 0,
        }
    }

    /// The most bytes of a request, as far as is known.
    pub(super) const fn max_bytes(&self) -> usize {
        self.size.limit()
    }

    /// The most bytes of the next request.
    pub(super) fn next_bytes(&self) -> usize {
        self.size.next()
    }

    pub(super) const fn concurrency(&self) -> usize {
        self.concurrency.limit()
    }

    /// When requests may start again; `None` if they may.
    pub(super) fn rests_until(&self, now: Instant) -> Option<Instant> {
        self.not_before.filter(|until| *until > now)
    }

    /// Whether another request may start while so many run.
    pub(super) fn may_start(&self, running: usize, now: Instant) -> bool {
        let limit = if self.failures > 0 || self.in_doubt() {
            1
        } else {
            self.concurrency.limit()
        };
        running < limit && self.rests_until(now).is_none()
    }

    /// A request of so many bytes starts, while so many run already.
    pub(super) fn stamp(&mut self, running: usize, bytes: usize, now: Instant) -> Stamp {
        let number = self.next;
        self.next += 1;
        Stamp {
            number,
            started: now,
            concurrency: self.concurrency.round(),
            round: self.round,
            last: running + 1 >= self.concurrency.limit(),
            sent: self.size.sent(bytes),
        }
    }

    /// The sink answered and took something, or refused it for good. False if that was asked before the last failure: it
    /// says nothing about now, and must not cut short a wait that the sink asked for since.
    pub(super) fn succeeded(&mut self, stamp: Stamp, overloaded: bool, now: Instant) -> bool {
        if overloaded {
            self.concurrency.overloaded(stamp.concurrency);
        } else {
            self.concurrency
                .succeeded(stamp.concurrency, stamp.elapsed(now), stamp.last);
        }
        let current = stamp.round == self.round;
        if current {
            self.failures = 0;
            self.not_before = None;
        }
        current
    }

    /// The sink understood a request: it is not misconfigured for all.
    pub(super) fn understood(&mut self, stamp: Stamp) {
        self.taken = self.taken.max(Some(stamp.number));
        if stamp.round == self.round {
            self.refused_alone = 0;
        }
    }

    /// The number of the next request.
    pub(super) const fn next_number(&self) -> u64 {
        self.next
    }

    /// Whether the sink has taken something of a request from this number on.
    pub(super) fn has_taken(&self, from: u64) -> bool {
        self.taken.is_some_and(|taken| taken >= from)
    }

    /// What to believe of an event that is refused alone, and was in a refused request before the one of this number. `hope` says
    /// who else could tell.
    pub(super) fn blame(&self, refused_before: u64, hope: Hope) -> Blame {
        if self.in_doubt() {
            return match hope {
                Hope::UnderWay => Blame::Unknown,
                Hope::Others | Hope::Nobody => Blame::Configuration,
            };
        }
        let since = self.has_taken(refused_before);
        match since || hope == Hope::Nobody && self.refused_alone < SET_ASIDE {
            true => Blame::Event,
            false => Blame::Unknown,
        }
    }

    /// Whether so much was refused in a row that the configuration may be wrong.
    const fn in_doubt(&self) -> bool {
        self.refused_alone >= SET_ASIDE + TRIED
    }

    /// An event was refused alone, as often as it is asked.
    pub(super) const fn refused_alone(&mut self) {
        self.refused_alone = self.refused_alone.saturating_add(1);
    }

    /// The sink takes nothing of what it is asked, whatever that is. After the pause others are tried.
    pub(super) fn misconfigured(&mut self, now: Instant, random: &mut fastrand::Rng) {
        self.refused_alone = SET_ASIDE;
        self.blocked(now, random);
    }

    /// The sink took nothing.
    pub(super) fn failed(
        &mut self,
        stamp: Stamp,
        floor: Option<Duration>,
        now: Instant,
        random: &mut fastrand::Rng,
    ) {
        self.concurrency.overloaded(stamp.concurrency);
        let floor = floor.map(|floor| floor.min(LONGEST));
        let wait = if stamp.round == self.round {
            self.round += 1;
            self.failures = self.failures.saturating_add(1);
            self.backoff.wait(self.failures - 1, floor, random)
        } else {
            floor.unwrap_or_default()
        };
        self.rest(now + wait);
    }

    /// The sink takes nothing until its configuration or ours is changed.
    pub(super) fn blocked(&mut self, now: Instant, random: &mut fastrand::Rng) {
        self.round += 1;
        self.failures = self.failures.saturating_add(1);
        self.rest(now + self.pause.mul_f64(0.5 + random.f64() / 2.0));
    }

    /// The sink took the request, whatever became of its events. `full` says whether its size was what kept more from going
    /// with it.
    pub(super) fn fitted(&mut self, stamp: Stamp, full: bool) {
        self.size.taken(stamp.sent, full);
    }

    /// The request was too large for the sink. Returns whether they are smaller from now on.
    pub(super) fn too_large(&mut self, stamp: Stamp) -> bool {
        self.size.too_large(stamp.sent)
    }

    /// How long a single event waits after so many failures of its own.
    pub(super) fn item_wait(&self, failures: u32, random: &mut fastrand::Rng) -> Duration {
        self.backoff.wait(failures, None, random)
    }

    fn rest(&mut self, until: Instant) {
        self.not_before = self.not_before.max(Some(until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_millis(200);
    const PAUSE: Duration = Duration::from_secs(60);

    fn pace() -> Pace {
        let backoff = Backoff::new(BASE, Duration::from_secs(30));
        Pace::new(backoff, PAUSE, 32, 1_000_000)
    }

    /// Succeeds until several requests may run.
    fn warm(pace: &mut Pace, now: Instant) {
        while pace.concurrency() < 8 {
            let stamp = pace.stamp(pace.concurrency() - 1, 1, now);
            pace.succeeded(stamp, false, now);
        }
    }

    /// Story: a sink handed on a `Retry-After` of half a trillion years, and the consumer ended.
    #[tokio::test(start_paused = true)]
    async fn at_most_an_hour_is_waited_whatever_the_sink_asks_for() {
        let (mut pace, now) = (pace(), Instant::now());
        let mut random = fastrand::Rng::with_seed(1);
        let stamps = [pace.stamp(0, 1, now), pace.stamp(1, 1, now)];
        for stamp in stamps {
            pace.failed(stamp, Some(Duration::MAX), now, &mut random);
            assert_eq!(pace.rests_until(now), Some(now + LONGEST));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_together_is_one_failure_and_then_one_probes() {
        let (mut pace, now) = (pace(), Instant::now());
        let mut random = fastrand::Rng::with_seed(1);
        warm(&mut pace, now);
        let stamps: Vec<_> = (0..8).map(|running| pace.stamp(running, 1, now)).collect();
        for stamp in stamps {
            pace.failed(stamp, None, now, &mut random);
        }
        assert_eq!(pace.failures, 1);
        let until = pace.rests_until(now).unwrap();
        assert!(until <= now + BASE);
        assert!(!pace.may_start(0, now));
        assert!(pace.may_start(0, until));
        assert!(!pace.may_start(1, until));
        let stamp = pace.stamp(0, 1, until);
        pace.succeeded(stamp, false, until);
        assert!(pace.may_start(4, until));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_the_sink_asks_for_is_kept() {
        let (mut pace, now) = (pace(), Instant::now());
        let mut random = fastrand::Rng::with_seed(1);
        let (first, second) = (pace.stamp(0, 1, now), pace.stamp(1, 1, now));
        let floor = Duration::from_secs(7);
        pace.failed(first, None, now, &mut random);
        pace.failed(second, Some(floor), now, &mut random);
        assert!(pace.rests_until(now).unwrap() >= now + floor);
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_success_does_not_end_a_wait() {
        let (mut pace, now) = (pace(), Instant::now());
        let mut random = fastrand::Rng::with_seed(1);
        let (first, second) = (pace.stamp(0, 1, now), pace.stamp(1, 1, now));
        let floor = Duration::from_secs(7);
        pace.failed(first, Some(floor), now, &mut random);
        assert!(!pace.succeeded(second, false, now));
        assert_eq!(pace.rests_until(now), Some(now + floor));
        let later = now + floor;
        let probe = pace.stamp(0, 1, later);
        assert!(pace.succeeded(probe, false, later));
        assert_eq!(pace.rests_until(later), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrong_configuration_is_tried_rarely() {
        let (mut pace, now) = (pace(), Instant::now());
        let mut random = fastrand::Rng::with_seed(1);
        pace.blocked(now, &mut random);
        let until = pace.rests_until(now).unwrap();
        assert!((now + PAUSE / 2..=now + PAUSE).contains(&until));
    }
}
