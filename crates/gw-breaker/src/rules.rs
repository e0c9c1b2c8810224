//! What follows from a state: pure functions from a word and a time to a word.

use std::time::Duration;

use gw_core::ConfigError;

use crate::config::{BreakerConfig, Jitter, Throttling, millionths};
use crate::word::{LAST_STEP, Phase, Probes, Word};

/// A checked configuration, in the units that it is decided in.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) config: BreakerConfig,
    pub(crate) trips: Trips,
    seed: u64,
    shortest: u64,
    longest: u64,
    retry_after_cap: u64,
    forget_after: u64,
    max_wait: u64,
    ramp: u64,
    /// Of 2^32.
    ramp_from: u64,
}

/// What opens a breaker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trips {
    /// 0 if failures in a row do not.
    pub(crate) consecutive: u32,
    pub(crate) min_calls: u32,
    /// In millionths; 0 if the rate does not.
    pub(crate) failure_rate: u32,
    pub(crate) slow_rate: u32,
    /// In nanoseconds, where a slow rate is asked for.
    pub(crate) slow: u64,
    pub(crate) throttling: Throttling,
}

/// Whether a call may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It passes, and its outcome counts for this generation.
    Counted,
    /// It passes, and nobody wants to know what becomes of it.
    Unobserved,
    /// It passes as a probe, if the word becomes this one.
    Probe(Word),
    /// Refused, for so many milliseconds as far as is known.
    Refused(u64),
    /// Nothing is decided here any more.
    Replaced,
}

/// How a probe ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProbeEnd {
    Succeeded,
    /// With the seconds that the upstream asked for.
    Failed(u16),
    /// Given up without a verdict, before or after the head of its answer.
    Lost,
    /// The same, while it was not the upstream that it waited for.
    GivenBack,
}

/// What a probe that says something has held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holds {
    /// A slot, without an answer.
    Waiting,
    /// A slot: the head of the answer is there.
    Streaming,
    /// It was put aside: another one has its slot.
    Nothing,
}

impl Rules {
    pub(crate) fn new(config: &BreakerConfig) -> Result<Self, ConfigError> {
        config.check()?;
        let open = &config.open_time;
        let (slow_rate, slow) = match config.slow_rate {
            Some((rate, slow)) => (millionths(rate), nanos(slow)),
            None => (0, 0),
        };
        Ok(Self {
            config: *config,
            trips: Trips {
                consecutive: config.consecutive_failures.unwrap_or(0),
                min_calls: config.min_calls,
                failure_rate: config.failure_rate.map_or(0, millionths),
                slow_rate,
                slow,
                throttling: config.throttling,
            },
            seed: open.seed.unwrap_or_else(|| fastrand::u64(..)),
            shortest: millis(open.shortest),
            longest: millis(open.longest),
            retry_after_cap: millis(open.retry_after_cap),
            forget_after: millis(open.forget_after.unwrap_or(open.longest)),
            max_wait: millis(config.half_open.max_wait),
            ramp: millis(config.ramp),
            ramp_from: u64::from(millionths(config.ramp_from)) * (1 << 32) / 1_000_000,
        })
    }

    /// The state that has begun by itself since, though no call has seen it yet. Call it again with what it returns.
    ///
    /// `owe_nothing` is asked whether all of so many probes wait for their clients, or for the upstream only since later than then:
    /// one that is waited for since less than half of the time is not late.
    pub(crate) fn overdue(
        &self,
        word: Word,
        now: u64,
        owe_nothing: impl FnOnce(u8, u64) -> bool,
    ) -> Option<Word> {
        match word.phase {
            Phase::HalfOpen if word.lasted(now) >= self.wait(word) => {
                let over = word.began() + self.wait(word);
                let probes = word.probes();
                let half = word.began() + self.max_wait / 2;
                let owes = || probes.waiting > 0 && !owe_nothing(probes.waiting, half);
                Some(match probes.lost || owes() {
                    true => self.open_again(word, over, 0),
                    false => self.proved(word, over, now),
                })
            }
            // Of the same generation: what was admitted on the way up counts on.
            Phase::Ramping if word.lasted(now) >= self.ramp => Some(Word {
                phase: Phase::Closed,
                ..word
            }),
            _ => None,
        }
    }

    /// For how long a half-open breaker waits. Not longer for streams than they need to prove something.
    fn wait(&self, word: Word) -> u64 {
        match word.probes().is_owed() {
            true => self.max_wait,
            false => self.max_wait.min(PROVEN),
        }
    }

    /// What follows when a half-open breaker has waited until `over`, and nobody owes it anything.
    fn proved(&self, word: Word, over: u64, now: u64) -> Word {
        let probes = word.probes();
        // No traffic is no failure. What still streams has been answered, and proves as much as what has ended.
        let succeeded = probes.succeeded + probes.streaming;
        if succeeded >= self.config.half_open.successes {
            return self.close(word, over);
        }
        let next = word.followed_by(Phase::HalfOpen, now);
        next.with_probes(Probes {
            succeeded,
            ..Probes::default()
        })
    }

    /// What follows when a probe has said something, and others may go on. What streams may have been waited for no longer than
    /// for this.
    fn goes_on(&self, word: Word, probes: Probes, now: u64) -> Word {
        let word = word.with_probes(probes);
        match !probes.is_owed() && word.lasted(now) >= self.wait(word) {
            true => self.proved(word, now, now),
            false => word,
        }
    }

    /// Whether a call may pass, where nothing is [`overdue`](Self::overdue). `arrival` numbers the calls during a ramp.
    pub(crate) fn admit(&self, word: Word, now: u64, arrival: impl FnOnce() -> u32) -> Verdict {
        match word.phase {
            Phase::Closed | Phase::ForcedClosed => Verdict::Counted,
            Phase::Disabled => Verdict::Unobserved,
            Phase::Replaced => Verdict::Replaced,
            Phase::ForcedOpen => Verdict::Refused(self.shortest),
            Phase::Ramping => {
                // Multiples of the golden ratio are spread evenly over 0 to 1 at any moment, whatever share is wanted.
                let place = u64::from(arrival().wrapping_mul(0x9E37_79B9));
                match place < self.ramp_share(word, now) {
                    true => Verdict::Counted,
                    false => Verdict::Refused(UNKNOWN),
                }
            }
            Phase::Open => match self.open_left(word, now) {
                0 => {
                    let probes = Probes {
                        waiting: 1,
                        ..Probes::default()
                    };
                    let next = word.followed_by(Phase::HalfOpen, now);
                    Verdict::Probe(next.with_probes(probes))
                }
                left => Verdict::Refused(left),
            },
            Phase::HalfOpen => {
                let probes = word.probes();
                let under_way = probes.under_way();
                // One that joins others has half of the time at least; later than that it waits until the time begins anew.
                let late = under_way > 0 && word.lasted(now) >= self.max_wait / 2;
                // Also more than are still to succeed: one that hangs holds none of the others up until then.
                if late || under_way >= self.config.half_open.probes {
                    return Verdict::Refused(UNKNOWN);
                }
                Verdict::Probe(word.with_probes(Probes {
                    waiting: probes.waiting + 1,
                    ..probes
                }))
            }
        }
    }

    /// After how long without a request neither failures that are counted nor the step would keep calls away any more: the
    /// open time would be over, whatever the step, and the step be forgotten. A `Retry-After` may last longer.
    pub(crate) fn rest(&self) -> Duration {
        Duration::from_millis(self.longest.max(self.forget_after))
    }

    /// How often in a row the breaker has opened, as far as that is not forgotten.
    pub(crate) fn opened(&self, word: Word, now: u64) -> u8 {
        match word.phase {
            Phase::Closed | Phase::Ramping if word.lasted(now) >= self.forget_after => 0,
            _ => word.opened(),
        }
    }

    /// How long an open breaker stays so.
    pub(crate) fn open_left(&self, word: Word, now: u64) -> u64 {
        let asked_for = u64::from(word.detail) * 1000;
        self.open_time(word)
            .max(asked_for.min(self.retry_after_cap))
            .saturating_sub(word.lasted(now))
    }

    fn open_time(&self, word: Word) -> u64 {
        let time = self.shortest << u32::from(word.step).min(LAST_STEP.into());
        let time = time.min(self.longest);
        match self.config.open_time.jitter {
            Jitter::None => time,
            // Drawn from the generation, so that each look at it sees the same.
            Jitter::Equal => {
                let random = mixed(self.seed ^ word.since) >> 32;
                let half = time / 2;
                time - half + (((half + 1) * random) >> 32)
            }
        }
    }

    /// Of 2^32.
    fn ramp_share(&self, word: Word, now: u64) -> u64 {
        let more = ((1 << 32) - self.ramp_from) as u128;
        let done = u128::from(word.lasted(now).min(self.ramp));
        // Not above 2^32, since what is done is not above the whole.
        self.ramp_from + (more * done / u128::from(self.ramp.max(1))) as u64
    }

    /// What follows when the calls of `generation` open the breaker; nothing if it is in another one by now.
    pub(crate) fn trip(
        &self,
        word: Word,
        generation: u64,
        now: u64,
        asked_for: u16,
    ) -> Option<Word> {
        if word.since != generation || !matches!(word.phase, Phase::Closed | Phase::Ramping) {
            return None;
        }
        Some(Word {
            step: self.opened(word, now),
            detail: asked_for,
            ..word.followed_by(Phase::Open, now)
        })
    }

    /// What follows when the head of a probe's answer is there, and its stream goes on.
    pub(crate) fn probe_answered(
        &self,
        word: Word,
        generation: u64,
        held: Holds,
        now: u64,
    ) -> Option<Word> {
        let mut probes = Self::probes_of(word, generation)?;
        if held == Holds::Waiting {
            probes.waiting = probes.waiting.saturating_sub(1);
            probes.streaming += 1;
        }
        // It says what the lost one could not.
        probes.lost = false;
        Some(self.goes_on(word, probes, now))
    }

    /// What follows when a probe has ended.
    pub(crate) fn probe_ended(
        &self,
        word: Word,
        generation: u64,
        held: Holds,
        end: ProbeEnd,
        now: u64,
    ) -> Option<Word> {
        let mut probes = Self::probes_of(word, generation)?;
        match held {
            Holds::Waiting => probes.waiting = probes.waiting.saturating_sub(1),
            Holds::Streaming => probes.streaming = probes.streaming.saturating_sub(1),
            Holds::Nothing => {}
        }
        match end {
            ProbeEnd::Failed(asked_for) => return Some(self.open_again(word, now, asked_for)),
            // After a head that promised well it was the client who left.
            ProbeEnd::Lost => probes.lost |= held == Holds::Waiting,
            ProbeEnd::GivenBack => {}
            ProbeEnd::Succeeded => {
                probes.lost = false;
                probes.succeeded += 1;
                if probes.succeeded >= self.config.half_open.successes {
                    return Some(self.close(word, now));
                }
                if probes.under_way() == 0 {
                    // The time bounds a wait for the upstream, not how long all of them take, one after the other.
                    return Some(word.followed_by(Phase::HalfOpen, now).with_probes(probes));
                }
            }
        }
        Some(self.goes_on(word, probes, now))
    }

    fn probes_of(word: Word, generation: u64) -> Option<Probes> {
        (word.since == generation && word.phase == Phase::HalfOpen).then(|| word.probes())
    }

    fn open_again(&self, word: Word, now: u64, asked_for: u16) -> Word {
        Word {
            step: word.step.saturating_add(1).min(LAST_STEP),
            detail: asked_for,
            ..word.followed_by(Phase::Open, now)
        }
    }

    /// The step that is kept is the one of the next time it opens.
    fn close(&self, word: Word, now: u64) -> Word {
        let phase = match self.ramp {
            0 => Phase::Closed,
            _ => Phase::Ramping,
        };
        Word {
            step: word.step.saturating_add(1).min(LAST_STEP),
            ..word.followed_by(phase, now)
        }
    }

    /// What a breaker that these rules take over begins with: the state, and how long it has lasted, but not the probes that were
    /// admitted by others.
    pub(crate) fn taken_over(word: Word, now: u64) -> Word {
        match word.phase {
            Phase::HalfOpen => word.followed_by(Phase::HalfOpen, now),
            _ => word,
        }
    }

    /// As much of it as the cap leaves, in whole seconds: what is asked for while the breaker is closed is over when that is, and
    /// not only shorter when the breaker opens.
    pub(crate) fn heeded(&self, asked_for: u16) -> u16 {
        let most = self.retry_after_cap.div_ceil(1000);
        asked_for.min(most.try_into().unwrap_or(u16::MAX))
    }

    /// What an upstream asked for, in seconds, rounded up: it is not to be called earlier. The cap is applied when it opens.
    pub(crate) fn heard(retry_after: Option<Duration>) -> u16 {
        let seconds = millis(retry_after.unwrap_or_default()).div_ceil(1000);
        seconds.try_into().unwrap_or(u16::MAX)
    }
}

impl Trips {
    /// Whether `part` of `calls` reaches `rate`.
    pub(crate) fn reached(&self, rate: u32, part: u32, calls: u32) -> bool {
        rate > 0
            && calls >= self.min_calls
            && u64::from(part) * 1_000_000 >= u64::from(rate) * u64::from(calls)
    }
}

/// After so many milliseconds a stream that did not break off has proved as much as a short answer, however long a head may take.
const PROVEN: u64 = 10_000;

/// How long a refusal holds of which nobody knows how long it does.
const UNKNOWN: u64 = 0;

/// Whole milliseconds, rounded up.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

pub(crate) fn nanos(time: Duration) -> u64 {
    time.as_secs()
        .saturating_mul(1_000_000_000)
        .saturating_add(time.subsec_nanos().into())
}

/// The finalizer of splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
const fn mixed(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
