use std::time::Duration;

use gw_core::Mode;
use smallvec::SmallVec;

use crate::algorithm::Algorithm;
use crate::tier::Tier;
use crate::verdict::{Balance, Verdict};

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
    /// Whether some policy did not allow it, if only in shadow mode.
    limited: bool,
    // Up to four policies are kept inline, so that deciding on them does not allocate.
    standings: SmallVec<[Standing; 4]>,
}

/// A policy as it applies to one request: with its algorithm where that stands, or, where that is waited with, by value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Applied<A> {
    pub(crate) policy: PolicyId,
    pub(crate) mode: Mode,
    pub(crate) tier: Option<Tier>,
    pub(crate) algorithm: A,
    pub(crate) penalized: bool,
}

/// How a request stands with one policy, after the decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    policy: PolicyId,
    mode: Mode,
    tier: Option<Tier>,
    ruling: Ruling,
    penalized: bool,
    algorithm: Algorithm,
    /// Of the key, at the time of the decision.
    state: u64,
    now: u64,
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

#[cfg(feature = "redis")]
impl<A> Applied<A> {
    /// The same with another algorithm, or the same one otherwise.
    pub(crate) fn with<B>(self, algorithm: B) -> Applied<B> {
        Applied {
            policy: self.policy,
            mode: self.mode,
            tier: self.tier,
            algorithm,
            penalized: self.penalized,
        }
    }
}

impl Decision {
    /// What one policy says.
    #[inline]
    pub(crate) fn of(only: Standing) -> Self {
        let mut standings = SmallVec::new();
        standings.push(only);
        Self {
            refused: only.refuses(),
            limited: only.ruling != Ruling::Allowed,
            standings,
        }
    }

    pub(crate) fn push(&mut self, standing: Standing) {
        self.refused |= standing.refuses();
        self.limited |= standing.ruling != Ruling::Allowed;
        self.standings.push(standing);
    }

    /// Refuses without the word of any policy.
    #[cfg(feature = "redis")]
    pub(crate) fn refuse(&mut self) {
        self.refused = true;
    }

    pub(crate) fn clear(&mut self) {
        self.refused = false;
        self.limited = false;
        self.standings.clear();
    }

    /// Puts in how the request stands with a policy after more was charged.
    pub(crate) fn replace(&mut self, policy: PolicyId, anew: Standing) {
        let mut standings = self.standings.iter_mut();
        if let Some(standing) = standings.find(|standing| standing.policy == policy) {
            // What was decided stays decided.
            let ruling = standing.ruling;
            *standing = Standing { ruling, ..anew };
        }
    }

    pub(crate) fn standings_mut(&mut self) -> impl Iterator<Item = &mut Standing> {
        self.standings.iter_mut()
    }

    /// Whether some policy did not allow it, if only in shadow mode.
    pub(crate) const fn is_limited(&self) -> bool {
        self.limited
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
    /// one with the least of its burst left. `None` if no enforced policy applies. Found out each time that it is asked.
    pub fn binding(&self) -> Option<&Standing> {
        let candidates = self.standings.iter();
        let candidates = candidates.filter(|s| s.is_enforced() && s.refuses() == self.refused);
        candidates.reduce(|best, standing| {
            if standing.binds_before(best) {
                standing
            } else {
                best
            }
        })
    }

    /// All policies that apply and are not off, in the order of the charges.
    pub fn standings(&self) -> &[Standing] {
        &self.standings
    }
}

impl Standing {
    #[inline]
    pub(crate) const fn new(applied: Applied<&Algorithm>, verdict: Verdict, now: u64) -> Self {
        let Applied {
            policy,
            mode,
            tier,
            algorithm,
            penalized,
        } = applied;
        let (ruling, state, wait) = match verdict {
            Verdict::Allow { state } => (Ruling::Allowed, state, 0),
            Verdict::Deny { state, wait } => (Ruling::Limited, state, wait),
            Verdict::DenyForever { state } => (Ruling::TooCostly, state, 0),
        };
        Self {
            policy,
            mode,
            tier,
            ruling,
            penalized,
            algorithm: *algorithm,
            state,
            now,
            wait,
        }
    }

    /// Which policy.
    pub const fn policy(&self) -> PolicyId {
        self.policy
    }

    /// The tier whose quota was applied, if it is not the policy's own.
    pub const fn tier(&self) -> Option<Tier> {
        self.tier
    }

    /// Whether the request cost more because its key has been refused so often.
    pub const fn is_penalized(&self) -> bool {
        self.penalized
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
        self.algorithm.burst()
    }

    /// The time in which the whole burst is won back, or the length of a sliding window.
    pub const fn burst_window(&self) -> Duration {
        self.algorithm.burst_window()
    }

    /// If the policy refused: how long to wait until it would not, if ever.
    pub fn retry_after(&self) -> Option<Duration> {
        (self.ruling == Ruling::Limited).then_some(Duration::from_nanos(self.wait))
    }

    /// The time within which to spend no more than [`Standing::remaining`], so as to stay at the policy's rate or until
    /// a sliding window's next one begins. After a refusal it is the wait; without anything left it is the time to the
    /// next cell.
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

    /// When it was decided, on the limiter's clock.
    pub(crate) const fn now(&self) -> u64 {
        self.now
    }

    /// The time until the whole burst is back.
    pub fn reset_after(&self) -> Duration {
        Duration::from_nanos(self.algorithm.idle_at(self.state).saturating_sub(self.now))
    }

    /// The time that is after now by as large a part of [`Standing::burst_window`] as is spent of the burst. It can be
    /// compared between keys, and runs off as time goes by. `now` is the limiter's: a window that was counted elsewhere is
    /// read by another time.
    #[inline]
    pub(crate) fn filled_until(&self, now: u64) -> u64 {
        if let Algorithm::Gcra(_) = self.algorithm {
            // Just so, without a division.
            return self.state;
        }
        let (spent, of) = self.spent();
        let window = self.burst_window().as_nanos();
        let filled = (window * u128::from(spent)).checked_div(of.into());
        let filled = filled.map_or(0, |filled| u64::try_from(filled).unwrap_or(u64::MAX));
        now.saturating_add(filled)
    }

    /// How it stands after so much more was charged, as far as it fits into two bursts, and so much was taken back.
    #[cfg(feature = "redis")]
    pub(crate) fn changed(&self, charged: u32, refunded: u32) -> Self {
        let roomy = self.algorithm.with_double_burst();
        let fits = charged.min(roomy.balance(self.state, self.now).remaining);
        let state = match roomy.decide(self.state, self.now, fits) {
            Verdict::Allow { state } => state,
            Verdict::Deny { state, .. } | Verdict::DenyForever { state } => state,
        };
        let state = self.algorithm.take_back(state, state, refunded, 0);
        Self { state, ..*self }
    }

    pub(crate) const fn algorithm(&self) -> &Algorithm {
        &self.algorithm
    }

    /// After a refusal, as long as takes what the next request costs, if that is more.
    pub(crate) fn wait_to_pay(&mut self, cost: u32) {
        if let Verdict::Deny { wait, .. } = self.algorithm.decide(self.state, self.now, cost) {
            self.wait = self.wait.max(wait);
        }
    }

    pub(crate) fn refuses(&self) -> bool {
        self.is_enforced() && self.ruling != Ruling::Allowed
    }

    /// Only when it is asked for: it takes a division, which a decision does without.
    fn balance(&self) -> Balance {
        self.algorithm.balance(self.state, self.now)
    }

    fn spent(&self) -> (u64, u64) {
        self.algorithm.spent(self.state, self.now)
    }

    fn binds_before(&self, other: &Self) -> bool {
        match (self.ruling, other.ruling) {
            (Ruling::Allowed, _) => {
                // The larger share of the burst that is spent, multiplied out.
                let (mine, of_mine) = self.spent();
                let (others, of_others) = other.spent();
                u128::from(mine) * u128::from(of_others) > u128::from(others) * u128::from(of_mine)
            }
            (Ruling::Limited, Ruling::Limited) => self.wait > other.wait,
            (Ruling::Limited, _) => false,
            (Ruling::TooCostly, ruling) => ruling != Ruling::TooCostly,
        }
    }
}
