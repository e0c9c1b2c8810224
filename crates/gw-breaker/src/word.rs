//! All that a breaker decides by, in one word, so that each change of state is one compare-and-swap.
//!
//! The time at which a state began is its *generation* as well: no two states begin at the same time, since a change moves
//! it on by a millisecond at least. Admissions and windows carry it, so that what belongs to another generation is told by
//! a comparison, and a change of state needs to sweep nothing.

/// What a breaker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Zero, so that the way of most calls is one test.
    Closed = 0,
    Open = 1,
    HalfOpen = 2,
    Ramping = 3,
    ForcedOpen = 4,
    ForcedClosed = 5,
    Disabled = 6,
    /// Another configuration has taken over; nothing is decided here any more.
    Replaced = 7,
}

/// The word, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word {
    /// The generation: one more than the millisecond at which the state began, so that it is above whatever was put down
    /// until then under a time. 40 bits, which are 34 years. Never 0: that is what has not happened.
    pub(crate) since: u64,
    pub(crate) phase: Phase,
    /// The exponent of the open time: of this one while the breaker is open or half-open, else of the next one. 5 bits.
    pub(crate) step: u8,
    /// While open, the seconds that the upstream asked for; while half-open, [`Probes`]; else 0.
    pub(crate) detail: u16,
}

const PHASE_BITS: u32 = 3;
const STEP_BITS: u32 = 5;
const DETAIL_BITS: u32 = 16;
const SINCE_SHIFT: u32 = PHASE_BITS + STEP_BITS + DETAIL_BITS;

/// The latest time that fits, in milliseconds.
pub(crate) const LATEST: u64 = u64::MAX >> SINCE_SHIFT;

/// The highest step: 2^31 times the shortest open time is longer than any open time may be.
pub(crate) const LAST_STEP: u8 = (1 << STEP_BITS) - 1;

impl Word {
    /// Closed, at the very beginning.
    pub(crate) const FIRST: Self = Self {
        since: 1,
        phase: Phase::Closed,
        step: 0,
        detail: 0,
    };

    pub(crate) const fn pack(self) -> u64 {
        self.since << SINCE_SHIFT
            | (self.detail as u64) << (PHASE_BITS + STEP_BITS)
            | (self.step as u64) << PHASE_BITS
            | self.phase as u64
    }

    pub(crate) const fn unpack(word: u64) -> Self {
        Self {
            since: generation(word),
            phase: match word & 7 {
                0 => Phase::Closed,
                1 => Phase::Open,
                2 => Phase::HalfOpen,
                3 => Phase::Ramping,
                4 => Phase::ForcedOpen,
                5 => Phase::ForcedClosed,
                6 => Phase::Disabled,
                _ => Phase::Replaced,
            },
            step: (word >> PHASE_BITS) as u8 & LAST_STEP,
            detail: (word >> (PHASE_BITS + STEP_BITS)) as u16,
        }
    }

    /// Another state that begins at `now`, or as soon after this one as can be told apart.
    pub(crate) fn followed_by(self, phase: Phase, now: u64) -> Self {
        Self {
            since: (now.max(self.since) + 1).min(LATEST),
            phase,
            step: self.step,
            detail: 0,
        }
    }

    /// When this state began.
    pub(crate) const fn began(self) -> u64 {
        self.since.saturating_sub(1)
    }

    /// How long this state has lasted. A clock that went back says: not at all.
    pub(crate) const fn lasted(self, now: u64) -> u64 {
        now.saturating_sub(self.began())
    }

    /// How often in a row the breaker has opened: one that is open has done so once more than its open time was doubled.
    pub(crate) const fn opened(self) -> u8 {
        match self.phase {
            Phase::Open | Phase::HalfOpen => self.step + 1,
            _ => self.step,
        }
    }

    pub(crate) const fn probes(self) -> Probes {
        Probes::unpack(self.detail)
    }

    pub(crate) const fn with_probes(self, probes: Probes) -> Self {
        Self {
            detail: probes.pack(),
            ..self
        }
    }
}

/// Whether the state in `word` is [`Phase::Closed`].
#[inline]
pub(crate) const fn is_closed(word: u64) -> bool {
    word & 7 == Phase::Closed as u64
}

/// Whether the state in `word` is [`Phase::Replaced`].
#[inline]
pub(crate) const fn is_replaced(word: u64) -> bool {
    word & 7 == Phase::Replaced as u64
}

/// The generation of the state in `word`.
#[inline]
pub(crate) const fn generation(word: u64) -> u64 {
    word >> SINCE_SHIFT
}

/// What has become of the probes of a half-open breaker: three counts of 5 bits and a flag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Probes {
    /// Sent, and no answer yet.
    pub(crate) waiting: u8,
    /// The head of the answer is there, and says nothing bad; the stream goes on.
    pub(crate) streaming: u8,
    /// Ended well.
    pub(crate) succeeded: u8,
    /// One was given up without a verdict, and none has succeeded or been answered well since.
    pub(crate) lost: bool,
}

/// The most probes that may be under way, and the most successes that may be asked for.
pub(crate) const MOST_PROBES: u8 = 31;

impl Probes {
    const fn pack(self) -> u16 {
        (self.lost as u16) << 15
            | (self.succeeded as u16) << 10
            | (self.streaming as u16) << 5
            | self.waiting as u16
    }

    const fn unpack(detail: u16) -> Self {
        const MASK: u16 = MOST_PROBES as u16;
        Self {
            waiting: (detail & MASK) as u8,
            streaming: (detail >> 5 & MASK) as u8,
            succeeded: (detail >> 10 & MASK) as u8,
            lost: detail >> 15 == 1,
        }
    }

    /// Whether a word of the upstream's is waited for, or was given up and not made up for.
    pub(crate) const fn is_owed(self) -> bool {
        self.waiting > 0 || self.lost
    }

    /// How many hold a slot.
    pub(crate) const fn under_way(self) -> u8 {
        self.waiting + self.streaming
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_word() -> impl Strategy<Value = u64> {
        any::<u64>()
    }

    proptest! {
        #[test]
        fn a_word_is_put_together_as_it_was(word in any_word()) {
            prop_assert_eq!(Word::unpack(word).pack(), word);
            prop_assert_eq!(is_closed(word), Word::unpack(word).phase == Phase::Closed);
            prop_assert_eq!(is_replaced(word), Word::unpack(word).phase == Phase::Replaced);
            prop_assert_eq!(generation(word), Word::unpack(word).since);
        }

        #[test]
        fn probes_are_put_together_as_they_were(detail: u16) {
            prop_assert_eq!(Probes::unpack(detail).pack(), detail);
        }

        #[test]
        fn a_state_that_follows_is_of_another_generation(word in any_word(), now in 0..LATEST) {
            let word = Word::unpack(word);
            prop_assume!(word.since < LATEST && now + 1 < LATEST);
            let next = word.followed_by(Phase::Open, now);
            prop_assert!(next.since > word.since);
            prop_assert!(next.began() >= now);
        }
    }
}
