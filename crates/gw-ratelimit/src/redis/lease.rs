//! Leases alone: what an instance may spend of a key's quota without asking, and when.
//!
//! A quota is a line of time on which each cell takes a stretch as long as the interval; the key's TAT is the end of
//! what is taken. Whoever charges a key takes the next stretches, and may take those that have not begun yet and end
//! within the burst's time from now. So in any stretch of time `w`, no more cells can be spent than lie on `w` and a
//! burst: that is the whole law.
//!
//! A lease is stretches that were taken before the requests came that will spend them. Each may be spent **until it
//! begins**, and is lost after that. So each spent cell has a stretch for itself that had not begun and ended within
//! the burst's time, as if it had been asked for when it was spent: leases admit nothing that the law forbids, however
//! many instances hold them and however late they spend them. What they cost is the other side: a cell that is leased
//! and not spent is refused to somebody else until it has run off. The fuller the burst, the longer leased cells stay
//! good, and the fewer are lost.
//!
//! A refund of what was charged before a lease moves the lease's stretches back, with all that lies behind the refund, so they
//! begin earlier. Each answer tells how much was taken back from the key so far. The instance moves what it holds by all of it
//! that is new, although refunds of what was charged behind the lease did not: it loses cells early then. Once the key was
//! freed of its debt, or had none, it lets go of all. **Until it is told** it goes by the old line, and may spend what it holds on top
//! of what the law allows. Who takes something back is told with the answer to that; others are when they ask next. When they have asked
//! for no cells for more than a second, they give back what they hold. That is looked for once a second, so within two seconds; but not
//! while it is being found out whether the store answers again.
//!
//! All times are nanoseconds on one clock of the instance, which must not stand still while the store's goes on: who
//! suspends an instance, and its clock with it, lets it spend late what it holds.

use std::time::Duration;

pub use super::receipt::Origin;
use super::receipt::Receipt;
use crate::gcra::Gcra;
use crate::verdict::Verdict;

/// What an instance knows of one key: the cells it holds, and the key's TAT when it was told last.
///
/// It holds up to two leases: that from which it spends, and one that was fetched ahead.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lease {
    first: Stretch,
    spare: Stretch,
    interval: u64,
    /// The TAT that the store told last; it covers the cells held.
    tat: u64,
    /// When it was told that.
    told: u64,
    /// When it was last told so in answer to a request that pays, or to who fetched ahead.
    paid: u64,
    /// How many cells the last lease had.
    size: u32,
    /// How many were asked for.
    wanted: u32,
    /// The store is not asked again before this: it refused.
    pause: u64,
}

/// Cells that are held: those that begin from `next` on, up to `end`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Stretch {
    next: u64,
    end: u64,
    /// The store's clock less this one, when they were leased.
    ahead: u64,
    /// When that was, by this one. The debt from then on to where cells begin is what they stand on.
    leased_at: u64,
    origin: Origin,
}

/// Cells that were taken out of a [`Lease`], for putting them back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use = "cells that are not spent are to be put back"]
pub struct Spent {
    cells: u32,
    first: (u64, Stretch),
    spare: (u64, Stretch),
}

/// What the store was asked of one key. Who only looks asks for nothing, and so does who charges late or gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// How many cells a request lacks.
    pub cost: u32,
    /// How many are to be leased besides.
    pub extra: u32,
    /// When it was asked.
    pub sent: u64,
}

/// What the store told of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The key's debt after the question, leased cells included, in nanoseconds.
    pub debt: u64,
    /// How many cells were leased. They are the last ones of the debt.
    pub leased: u32,
    /// The store's clock when it decided.
    pub clock: u64,
    /// Whether the key's debt was in the way of the request.
    pub limited: bool,
    /// Which life of the key it is.
    pub origin: Origin,
}

/// Cells to give back: the store's TAT of the key as the lease left it, and as it would be without them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unspent {
    /// Where they end, on the store's clock.
    pub end: u64,
    /// Where they begin.
    pub start: u64,
}

/// What the store does with a question: decides on `cost` cells, charges them if they may pass, and then leases up to
/// `extra` more, but at most half of what is left. The verdict's TAT includes them.
///
/// The script in Redis is the same, line by line.
pub fn grant(gcra: &Gcra, tat: u64, now: u64, cost: u32, extra: u32) -> (Verdict, u32) {
    let Verdict::Allow { state: tat } = gcra.decide(tat, now, cost) else {
        return (gcra.decide(tat, now, cost), 0);
    };
    let free = gcra.tolerance().saturating_sub(tat.saturating_sub(now));
    let most = free / gcra.interval() / 2;
    let leased = extra.min(u32::try_from(most).unwrap_or(u32::MAX));
    if leased == 0 {
        return (Verdict::Allow { state: tat }, 0);
    }
    let tat = tat.max(now) + gcra.interval() * u64::from(leased);
    (Verdict::Allow { state: tat }, leased)
}

impl Lease {
    /// Cells that were not spent for so long are given back where that is possible.
    pub const HOLD: Duration = Duration::from_secs(1);
    const HOLD_NANOS: u64 = 1_000_000_000;
    /// After a refusal, the store is not asked again for so long at least, or an eighth of the time that wins back the
    /// burst. Under overload there would be a question for each request otherwise, as each cell that comes back is asked
    /// for by itself. No cell is lost meanwhile, as the burst does not fill up.
    pub const PAUSE: Duration = Duration::from_millis(10);
    const PAUSE_NANOS: u64 = 10_000_000;
    /// What was told is believed for so long: the key may have been freed of its debt by another instance, or by a store that
    /// lost it.
    pub const MEMORY: Duration = Duration::from_secs(1);
    const MEMORY_NANOS: u64 = 1_000_000_000;

    /// How many cells can be spent at `now`.
    pub fn available(&self, now: u64) -> u32 {
        let cells = self.cells(&self.first, now) + self.cells(&self.spare, now);
        u32::try_from(cells).unwrap_or(u32::MAX)
    }

    /// What is known to become of a request of `cost` cells. `Allow` means that it can be paid out of the lease, or
    /// that the store has to be asked for the rest of it; a refusal stands until its wait is over.
    ///
    /// The verdict's TAT is the key's as far as is known, less the cells that are held.
    pub fn decide(&self, gcra: &Gcra, cost: u32, now: u64) -> Verdict {
        let state = self.balance(now);
        if cost > gcra.burst() {
            return Verdict::DenyForever { state };
        }
        let reach = Self::reach(gcra, now);
        let cells = [&self.first, &self.spare].map(|held| held.cells(self.interval, now, reach));
        let cells: u64 = cells.iter().sum();
        let lacking = cost.saturating_sub(u32::try_from(cells).unwrap_or(u32::MAX));
        if lacking == 0 {
            return Verdict::Allow { state };
        }
        if !self.is_fresh(now) {
            return Verdict::Allow { state };
        }
        let pause = self.pause(now);
        match gcra.decide(self.tat, now, lacking) {
            Verdict::Allow { .. } if pause == 0 => Verdict::Allow { state },
            Verdict::Allow { .. } => Verdict::Deny { state, wait: pause },
            Verdict::Deny { wait, .. } => Verdict::Deny {
                state,
                wait: wait.max(pause),
            },
            Verdict::DenyForever { .. } => Verdict::DenyForever { state },
        }
    }

    /// For how long the store is not to be asked again.
    pub const fn pause(&self, now: u64) -> u64 {
        self.pause.saturating_sub(now)
    }

    /// Whether what is known was told lately.
    pub(super) const fn is_fresh(&self, now: u64) -> bool {
        self.told != 0 && now.saturating_sub(self.told) <= Self::MEMORY_NANOS
    }

    /// The key's TAT as far as is known, less the cells that are held.
    pub fn balance(&self, now: u64) -> u64 {
        let held = u64::from(self.available(now)) * self.interval;
        self.tat.saturating_sub(held)
    }

    /// Takes up to `cost` cells, those first that run off first.
    pub fn spend(&mut self, gcra: &Gcra, cost: u32, now: u64) -> Spent {
        if self.interval != gcra.interval() {
            // The quota was changed: cells of the old one have another length.
            self.first = Stretch::default();
            self.spare = Stretch::default();
            self.interval = gcra.interval();
        }
        if self.cells(&self.first, now) == 0 {
            self.first = std::mem::take(&mut self.spare);
        }
        let reach = Self::reach(gcra, now);
        let mut spent = Spent::default();
        for (stretch, taken) in [
            (&mut self.first, &mut spent.first),
            (&mut self.spare, &mut spent.spare),
        ] {
            let wanted = u64::from(cost - spent.cells);
            let cells = stretch.cells(self.interval, now, reach).min(wanted);
            if cells > 0 {
                let length = cells * self.interval;
                stretch.next = stretch.next.max(now) + length;
                *taken = (length, *stretch);
                // At most `wanted`, which came from this type.
                spent.cells += u32::try_from(cells).unwrap_or_default();
            }
        }
        spent
    }

    /// Puts cells back that were taken and not spent. They are lost if others were taken since, or moved.
    pub fn put_back(&mut self, spent: Spent) {
        // The spare one may have moved up in between.
        for (length, left) in [spent.first, spent.spare] {
            for stretch in [&mut self.first, &mut self.spare] {
                if length > 0 && *stretch == left {
                    stretch.next -= length;
                    break;
                }
            }
        }
    }

    /// How many cells to ask the store for, besides what a request lacks: none at first, so that who comes once holds
    /// nothing, then twice as many each time that the last ones were used up in short time, up to `most`. Short is an
    /// eighth of the time that wins back the burst, and a second at most: cells run off, and those that an instance does
    /// not come to spend are lost to all.
    pub fn extra(&self, gcra: &Gcra, most: u32, now: u64) -> u32 {
        if self.paid == 0 || self.interval != gcra.interval() {
            return 0;
        }
        let short = Self::HOLD_NANOS.min(gcra.tolerance() / 8);
        let wanted = if now.saturating_sub(self.paid) <= short {
            self.wanted.saturating_mul(2).max(1)
        } else {
            self.wanted / 4
        };
        wanted.min(most)
    }

    /// Whether it is time to fetch more: half of the last lease is gone, and nothing was fetched ahead.
    pub fn is_half_gone(&self, now: u64) -> bool {
        self.size > 1 && self.cells(&self.spare, now) == 0 && self.available(now) <= self.size / 2
    }

    /// Takes note of what the store answered.
    ///
    /// The store decided when it was asked or later. So what it says in times from its own clock on is taken as from then on: leased
    /// cells are lost a little early, and never spent late. What is held already goes by what was taken back since.
    pub fn told(&mut self, gcra: &Gcra, asked: Asked, grant: Grant, now: u64) {
        let Asked { cost, extra, sent } = asked;
        self.tat = sent.saturating_add(grant.debt);
        self.told = now.max(1);
        if cost > 0 || extra > 0 {
            self.paid = self.told;
        }
        if self.interval != gcra.interval() {
            self.first = Stretch::default();
            self.spare = Stretch::default();
            self.interval = gcra.interval();
        }
        for held in [&mut self.first, &mut self.spare] {
            held.move_back(grant.origin);
        }
        if grant.limited {
            self.pause = sent + Self::PAUSE_NANOS.min(gcra.tolerance() / 8);
        } else if extra > 0 {
            (self.size, self.wanted) = (grant.leased, extra);
        }
        if grant.leased == 0 {
            return;
        }
        let next = self
            .tat
            .saturating_sub(u64::from(grant.leased) * self.interval);
        let leased = Stretch {
            next,
            end: self.tat,
            ahead: grant.clock.saturating_sub(sent),
            leased_at: sent,
            origin: grant.origin,
        };
        if self.cells(&self.first, now) == 0 {
            self.first = std::mem::take(&mut self.spare);
        }
        // With both in use, the one that was fetched ahead gives way. That is rare: a request takes from both before it
        // asks.
        if self.cells(&self.first, now) == 0 {
            self.first = leased;
        } else {
            self.spare = leased;
        }
    }

    /// Whether the cells held have not been spent for long.
    pub fn is_stale(&self, now: u64) -> bool {
        self.available(now) > 0 && now.saturating_sub(self.paid) > Self::HOLD_NANOS
    }

    /// Takes out the cells that are the last of the store's TAT, as far as is known: those can be given back.
    pub fn take_unspent(&mut self, now: u64) -> Option<Unspent> {
        let spare_holds = self.cells(&self.spare, now) > 0;
        let last = if spare_holds {
            &mut self.spare
        } else {
            &mut self.first
        };
        let stretch = std::mem::take(last);
        if self.cells(&stretch, now) == 0 {
            return None;
        }
        let start = stretch.next.max(now);
        // If the store takes them. If not, it is asked in vain.
        self.tat = self.tat.saturating_sub(stretch.end - start);
        Some(Unspent {
            end: stretch.end + stretch.ahead,
            start: start + stretch.ahead,
        })
    }

    /// Forgets what is known and held: somebody has freed the key of its debt, which these cells were part of.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// The TAT that the store told last.
    pub const fn known_tat(&self) -> u64 {
        self.tat
    }

    fn cells(&self, stretch: &Stretch, now: u64) -> u64 {
        stretch.cells(self.interval, now, u64::MAX)
    }

    /// Where cells that are spent at `now` end at the latest. Those of a lease do, unless the burst is smaller now, or
    /// that of another tier.
    const fn reach(gcra: &Gcra, now: u64) -> u64 {
        now.saturating_add(gcra.tolerance())
    }
}

impl Stretch {
    /// How many cells there are that have not begun and end by `reach`.
    fn cells(&self, interval: u64, now: u64, reach: u64) -> u64 {
        let left = self.end.min(reach).saturating_sub(self.next.max(now));
        left.checked_div(interval).unwrap_or(0)
    }

    /// Moves back by what was taken back since. That was no more than the cells stood on, so they begin no earlier than they were
    /// leased. In another life of the key they stand on nothing.
    fn move_back(&mut self, told: Origin) {
        if told.born != self.origin.born {
            *self = Self::default();
            return;
        }
        let since = told.refunded.saturating_sub(self.origin.refunded);
        let by = since.min(self.next.saturating_sub(self.leased_at));
        self.next -= by;
        self.end -= by;
        self.origin.refunded += since;
    }
}

impl Spent {
    /// How many cells it is.
    pub const fn cells(&self) -> u32 {
        self.cells
    }

    /// For taking them back in the store: each was charged there, where its stretch is.
    pub(super) fn receipts(&self, gcra: &Gcra) -> [Receipt; 2] {
        [self.first, self.spare].map(|(length, left)| {
            let start = left.next.saturating_sub(length);
            Receipt {
                after: left.next.saturating_add(left.ahead),
                born: left.origin.born,
                refunded: left.origin.refunded,
                stood_on: start.saturating_sub(left.leased_at),
                // At most what was asked for, which came from this type.
                cells: u32::try_from(length / gcra.interval()).unwrap_or_default(),
            }
        })
    }
}

#[cfg(test)]
mod tests;
