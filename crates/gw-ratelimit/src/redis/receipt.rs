//! What it takes to take a charge back.

use crate::algorithm::Algorithm;
use crate::redis::script::Seen;

/// Which life of a key something was charged in. A key begins a new one when its debt has run off, or was freed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Origin {
    /// When the key was new, in microseconds of Unix time.
    pub born: u64,
    /// How much had been taken back from it until then, in nanoseconds of debt. If more is when a charge is taken back,
    /// that charge has less to stand on.
    pub refunded: u64,
}

/// A charge in Redis.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Receipt {
    /// The TAT that it led to, in nanoseconds of Unix time; or the number of the window, from 1970 on.
    pub(super) after: u64,
    pub(super) born: u64,
    pub(super) refunded: u64,
    /// The debt that it stood on, in nanoseconds: no more of it can have been taken back since.
    pub(super) stood_on: u64,
    pub(super) cells: u32,
}

/// The charges of one request under one policy: what was asked for, and what came out of up to two leases.
pub(super) type Receipts = [Receipt; 3];

/// Charges of one request that can be taken back, the last one last.
#[derive(Debug, Default)]
pub(super) struct Paid {
    parts: Vec<(Algorithm, Receipt)>,
}

impl Receipt {
    /// For cells that were charged last, before any lease.
    pub(super) fn of(algorithm: &Algorithm, seen: &Seen, clock: u64, cells: u32) -> Self {
        let (after, stood_on) = match (seen, algorithm) {
            (Seen::Rate { debt, leased, .. }, Algorithm::Gcra(gcra)) => {
                let own = debt.saturating_sub(gcra.cost(*leased));
                let after = clock.saturating_add(own);
                (after, algorithm.stood_on(after, cells, clock))
            }
            // That of the clock, also where it was set back.
            (_, Algorithm::Window(window)) => (clock / window.length(), 0),
            // Not reached: a rate is seen as one.
            (Seen::Window { .. }, Algorithm::Gcra(_)) => (0, 0),
        };
        Self {
            after,
            born: seen.origin().born,
            refunded: seen.origin().refunded,
            stood_on,
            cells,
        }
    }

    /// As if so many cells less had been charged.
    fn take_off(&mut self, algorithm: &Algorithm, cells: u32) {
        self.cells -= cells;
        if let Algorithm::Gcra(gcra) = algorithm {
            self.after = self.after.saturating_sub(gcra.cost(cells));
        }
        self.discount(algorithm, cells);
    }

    /// It did not stand on what is being taken back.
    fn discount(&mut self, algorithm: &Algorithm, cells: u32) {
        self.refunded = self.refunded.saturating_add(algorithm.owed(cells));
    }

    /// Whether this one came at once after another, so that both can be taken back as one.
    fn follows(&self, algorithm: &Algorithm, before: &Self) -> bool {
        let same = (self.born, self.refunded) == (before.born, before.refunded);
        same && match algorithm {
            Algorithm::Gcra(gcra) => {
                self.after.saturating_sub(gcra.cost(self.cells)) == before.after
            }
            Algorithm::Window(_) => self.after == before.after,
        }
    }
}

impl Paid {
    /// Of more charges than these, the first ones are not taken back any more.
    const MOST: usize = 4;

    pub(super) fn new(algorithm: &Algorithm, receipts: &Receipts) -> Self {
        let mut paid = Self::default();
        for receipt in receipts.iter().filter(|receipt| receipt.cells > 0) {
            paid.add(*algorithm, *receipt);
        }
        paid
    }

    /// One that came after all others.
    pub(super) fn add(&mut self, algorithm: Algorithm, receipt: Receipt) {
        if receipt.cells == 0 {
            return;
        }
        if let Some((of, last)) = self.parts.last_mut()
            && *of == algorithm
            && receipt.follows(&algorithm, last)
        {
            last.after = receipt.after;
            last.cells = last.cells.saturating_add(receipt.cells);
            return;
        }
        if self.parts.len() >= Self::MOST {
            self.parts.remove(0);
        }
        self.parts.push((algorithm, receipt));
    }

    /// Takes cells out that are to be taken back, the last ones first: of which charges, and how many of each.
    pub(super) fn take(&mut self, mut cells: u32) -> Vec<(Algorithm, Receipt, u32)> {
        let mut taken = Vec::new();
        while cells > 0 {
            let Some((algorithm, mut last)) = self.parts.pop() else {
                break;
            };
            let some = last.cells.min(cells);
            cells -= some;
            taken.push((algorithm, last, some));
            for (_, before) in &mut self.parts {
                before.discount(&algorithm, some);
            }
            last.take_off(&algorithm, some);
            if last.cells > 0 {
                self.parts.push((algorithm, last));
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::Quota;

    const SECOND: u64 = 1_000_000_000;

    fn rate() -> Algorithm {
        Algorithm::new(Quota::per_second(1).burst(10)).unwrap()
    }

    fn receipt(after: u64, cells: u32) -> Receipt {
        Receipt {
            after: after * SECOND,
            born: 7,
            refunded: 0,
            stood_on: 0,
            cells,
        }
    }

    #[test]
    fn charges_that_follow_one_another_are_one() {
        let mut paid = Paid::new(
            &rate(),
            &[receipt(102, 2), Receipt::default(), receipt(105, 3)],
        );
        // One second of somebody else's is in between.
        paid.add(rate(), receipt(107, 1));
        let taken = paid.take(3);
        let expected = [
            (rate(), receipt(107, 1), 1),
            // Did not stand on what is taken back before it.
            (
                rate(),
                Receipt {
                    refunded: SECOND,
                    ..receipt(105, 5)
                },
                2,
            ),
        ];
        assert_eq!(taken, expected);
        let rest = Receipt {
            refunded: 3 * SECOND,
            ..receipt(103, 3)
        };
        assert_eq!(paid.take(9), [(rate(), rest, 3)]);
        assert_eq!(paid.take(1), []);
    }

    #[test]
    fn only_the_last_charges_can_be_taken_back() {
        let mut paid = Paid::default();
        for number in 1..=9 {
            paid.add(rate(), receipt(100 + 10 * number, 1));
        }
        let taken: Vec<_> = paid.take(9).iter().map(|(_, part, _)| part.after).collect();
        assert_eq!(taken, [190, 180, 170, 160].map(|after| after * SECOND));
    }
}
