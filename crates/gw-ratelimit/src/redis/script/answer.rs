use smallvec::SmallVec;

use super::terms::Terms;
use super::{Order, Question, SECOND};
use crate::algorithm::Algorithm;
use crate::decision::Ruling;
use crate::redis::receipt::Origin;

/// What one policy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::redis) struct Answer {
    pub(in crate::redis) ruling: Ruling,
    pub(in crate::redis) seen: Seen,
}

/// How a key stands from here on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::redis) enum Seen {
    Rate {
        /// In nanoseconds.
        debt: u64,
        /// How many cells were leased; they are the last ones in the debt.
        leased: u32,
        origin: Origin,
    },
    Window {
        current: u32,
        previous: u32,
        /// How much of the window is over, in microseconds.
        elapsed: u64,
        origin: Origin,
    },
}

/// What all policies say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::redis) struct Answers {
    /// Redis' clock, in nanoseconds of Unix time.
    pub(in crate::redis) clock: u64,
    /// In the order of the questions.
    pub(in crate::redis) of_policies: SmallVec<[Answer; 4]>,
}

/// What became of one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::redis) struct Settled {
    /// How many cells were charged or taken back.
    pub(in crate::redis) cells: u32,
    pub(in crate::redis) seen: Seen,
    /// Redis' clock, in nanoseconds of Unix time.
    pub(in crate::redis) clock: u64,
}

impl Answers {
    /// `None` if this is no answer to these questions.
    pub(in crate::redis) fn read(numbers: &[i64], questions: &[Question]) -> Option<Self> {
        let (clock, answers) = split(numbers, questions.len())?;
        let answers = answers.iter().zip(questions);
        let of_policies: Option<_> = answers
            .map(|([ruling, numbers @ ..], question)| {
                let ruling = match ruling {
                    0 => Ruling::Allowed,
                    1 => Ruling::Limited,
                    2 => Ruling::TooCostly,
                    _ => return None,
                };
                let seen = Seen::read(*numbers, &question.algorithm)?;
                if seen.leased() > question.extra {
                    return None;
                }
                Some(Answer { ruling, seen })
            })
            .collect();
        Some(Self {
            clock,
            of_policies: of_policies?,
        })
    }
}

impl Settled {
    /// `None` if this is no answer to these orders; else one for each.
    pub(in crate::redis) fn read(numbers: &[i64], orders: &[Order]) -> Option<Vec<Self>> {
        let (clock, answers) = split(numbers, orders.len())?;
        let answers = answers.iter().zip(orders);
        let settled = answers.map(|([cells, numbers @ ..], order)| {
            Some(Self {
                cells: u32::try_from(*cells).ok()?,
                seen: Seen::read(*numbers, &order.algorithm)?,
                clock,
            })
        });
        settled.collect()
    }
}

impl Seen {
    fn read(numbers: [i64; 4], algorithm: &Algorithm) -> Option<Self> {
        let [first, second, born, last] = numbers.map(u64::try_from);
        let (first, second, born, last) = (first.ok()?, second.ok()?, born.ok()?, last.ok()?);
        Some(match algorithm {
            Algorithm::Gcra(_) => Self::Rate {
                debt: first.checked_mul(Terms::of(algorithm).unit)?,
                leased: u32::try_from(second).ok()?,
                origin: Origin {
                    born,
                    refunded: last,
                },
            },
            Algorithm::Window(_) => Self::Window {
                current: u32::try_from(first).ok()?,
                previous: u32::try_from(second).ok()?,
                elapsed: last,
                origin: Origin { born, refunded: 0 },
            },
        })
    }

    pub(in crate::redis) const fn leased(&self) -> u32 {
        match self {
            Self::Rate { leased, .. } => *leased,
            Self::Window { .. } => 0,
        }
    }

    pub(in crate::redis) const fn origin(&self) -> Origin {
        match self {
            Self::Rate { origin, .. } | Self::Window { origin, .. } => *origin,
        }
    }
}

/// The clock, and five numbers for each that was asked for.
fn split(numbers: &[i64], asked: usize) -> Option<(u64, &[[i64; 5]])> {
    let (clock, rest) = numbers.split_at_checked(2)?;
    let [seconds, micros] = *clock else {
        return None;
    };
    let (answers, []) = rest.as_chunks::<5>() else {
        return None;
    };
    let clock = u64::try_from(seconds).ok()?.checked_mul(SECOND)?;
    let micros = u64::try_from(micros).ok()?.checked_mul(1000)?;
    let clock = clock.checked_add(micros)?;
    (answers.len() == asked).then_some((clock, answers))
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;
    use crate::quota::Quota;
    use crate::redis::script::Place;

    #[test]
    fn more_cells_than_were_asked_for_make_no_sense() {
        let question = Question {
            place: Place {
                policy: 0,
                digest: 1,
            },
            algorithm: Algorithm::new(Quota::per_second(10).burst(100)).unwrap(),
            cost: 1,
            extra: 4,
            enforced: true,
        };
        let read = |leased| {
            let numbers = [1_767_225_600, 5, 0, 500_000, leased, 1, 0];
            Answers::read(&numbers, slice::from_ref(&question))
        };
        assert!([0, 4].map(read).iter().all(Option::is_some));
        assert_eq!([5, -1, i64::MAX].map(read), [None, None, None]);
    }
}
