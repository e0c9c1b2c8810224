use std::time::Duration;

use smallvec::SmallVec;

use crate::config::Mode;
use crate::gcra::{Balance, Gcra, Verdict};

/// Which policy of a limiter: its number, in the order in which policies were added.
///
/// It means something only to the limiter that gave it, see [`Limiter::policy`](crate::Limiter::policy).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyId(pub(crate) u8);

impl PolicyId {
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a limiter decided on one request, over all policies that apply to it.
#[derive(Debug, Clone, Default)]
pub struct Decision {
    refused: bool,
    binding: Option<usize>,
    // Up to four policies are kept inline, so that deciding on them does not allocate.
    standings: SmallVec<[Standing; 4]>,
}

/// How a request stands with one policy, after the decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    policy: PolicyId,
    mode: Mode,
    ruling: Ruling,
    gcra: Gcra,
    reset_after: u64,
    /// If the ruling is `Limited`.
    wait: u64,
}

/// What one policy said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ruling {
    /// The request may pass. It is charged if no other policy refuses it.
    Allowed,
    /// The request has to wait; it is not charged.
    Limited,
    /// The request costs more than the policy's burst, and can never pass; it is not charged.
    TooCostly,
}

impl Decision {
    pub(crate) fn push(&mut self, standing: Standing) {
        self.refused |= standing.refuses();
        self.standings.push(standing);
    }

    /// Refuses without the word of any policy.
    #[cfg(feature = "redis")]
    pub(crate) fn refuse(&mut self) {
        self.refused = true;
    }

    pub(crate) fn clear(&mut self) {
        self.refused = false;
        self.standings.clear();
    }

    /// Finds the policy that matters most, once all have been heard.
    pub(crate) fn bind(&mut self) {
        let mut binding: Option<(usize, &Standing)> = None;
        for (index, standing) in self.standings.iter().enumerate() {
            let candidate = standing.is_enforced() && standing.refuses() == self.refused;
            if candidate && binding.is_none_or(|(_, best)| standing.binds_before(best)) {
                binding = Some((index, standing));
            }
        }
        self.binding = binding.map(|(index, _)| index);
    }

    /// Whether the request may pass.
    pub const fn is_allowed(&self) -> bool {
        !self.refused
    }

    /// How long to wait before the request could pass, if it was refused and can ever pass.
    pub fn retry_after(&self) -> Option<Duration> {
        self.binding().filter(|_| self.refused)?.retry_after()
    }

    /// The enforced policy that matters most: of those that refuse the one with the longest wait, or if all allow, the
    /// one with the least of its burst left. `None` if no enforced policy applies.
    pub fn binding(&self) -> Option<&Standing> {
        self.standings.get(self.binding?)
    }

    /// All policies that apply and are not off, in the order of the charges.
    pub fn standings(&self) -> &[Standing] {
        &self.standings
    }
}

impl Standing {
    pub(crate) const fn new(
        policy: PolicyId,
        mode: Mode,
        gcra: Gcra,
        verdict: Verdict,
        now: u64,
    ) -> Self {
        let (ruling, tat, wait) = match verdict {
            Verdict::Allow { tat } => (Ruling::Allowed, tat, 0),
            Verdict::Deny { tat, wait } => (Ruling::Limited, tat, wait),
            Verdict::DenyForever { tat } => (Ruling::TooCostly, tat, 0),
        };
        Self {
            policy,
            mode,
            ruling,
            gcra,
            reset_after: tat.saturating_sub(now),
            wait,
        }
    }

    /// Which policy.
    pub const fn policy(&self) -> PolicyId {
        self.policy
    }

    /// What the policy said.
    pub const fn ruling(&self) -> Ruling {
        self.ruling
    }

    /// Whether the policy's word counts, or it only watches.
    pub fn is_enforced(&self) -> bool {
        self.mode == Mode::Enforce
    }

    /// The cells that could be spent at once from now on.
    pub fn remaining(&self) -> u32 {
        self.balance().remaining
    }

    /// The cells that can be spent at once after a rest.
    pub const fn burst(&self) -> u32 {
        self.gcra.burst()
    }

    /// The time in which the whole burst is won back.
    pub const fn burst_window(&self) -> Duration {
        Duration::from_nanos(self.gcra.tolerance())
    }

    /// If the policy refused: how long to wait until it would not, if ever.
    pub fn retry_after(&self) -> Option<Duration> {
        (self.ruling == Ruling::Limited).then_some(Duration::from_nanos(self.wait))
    }

    /// The time within which to spend no more than [`Standing::remaining`], so as to stay at the policy's rate. After
    /// a refusal it is the wait; without anything left it is the time to the next cell.
    pub fn window(&self) -> Duration {
        self.remaining_in_window().1
    }

    /// [`Standing::remaining`] and [`Standing::window`] for one division.
    pub(crate) fn remaining_in_window(&self) -> (u32, Duration) {
        let Balance {
            remaining, window, ..
        } = self.balance();
        let window = Duration::from_nanos(window);
        (remaining, self.retry_after().unwrap_or(window))
    }

    /// The time until the whole burst is back.
    pub const fn reset_after(&self) -> Duration {
        Duration::from_nanos(self.reset_after)
    }

    pub(crate) fn refuses(&self) -> bool {
        self.is_enforced() && self.ruling != Ruling::Allowed
    }

    /// Only when it is asked for: it takes a division, which a decision does without.
    fn balance(&self) -> Balance {
        // Seen from time 0, the debt is the TAT.
        self.gcra.balance(self.reset_after, 0)
    }

    fn binds_before(&self, other: &Self) -> bool {
        match (self.ruling, other.ruling) {
            // The larger share of debt in the burst, multiplied out.
            (Ruling::Allowed, _) => {
                u128::from(self.reset_after) * u128::from(other.gcra.tolerance())
                    > u128::from(other.reset_after) * u128::from(self.gcra.tolerance())
            }
            (Ruling::Limited, Ruling::Limited) => self.wait > other.wait,
            (Ruling::Limited, _) => false,
            (Ruling::TooCostly, ruling) => ruling != Ruling::TooCostly,
        }
    }
}
