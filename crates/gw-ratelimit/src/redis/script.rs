//! The questions as Redis is asked them, and its answers.

use std::fmt::Write as _;

use ::redis::Cmd;
use smallvec::SmallVec;

use super::key::Names;
use crate::decision::Ruling;
use crate::gcra::Gcra;

/// A script and what Redis calls it once it knows it.
#[derive(Debug)]
pub(super) struct Script {
    text: &'static str,
    hash: String,
}

/// What one policy is asked about a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    pub(super) policy: usize,
    pub(super) digest: u128,
    pub(super) gcra: Gcra,
    pub(super) cost: u32,
    /// How many cells to lease besides.
    pub(super) extra: u32,
    pub(super) enforced: bool,
}

/// What one policy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) ruling: Ruling,
    /// The key's debt from here on, in nanoseconds.
    pub(super) debt: u64,
    /// The cells leased; they are the last ones in the debt.
    pub(super) leased: u32,
}

/// What all policies say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answers {
    /// Redis' clock, in nanoseconds of Unix time.
    pub(super) clock: u64,
    /// In the order of the questions.
    pub(super) of_policies: SmallVec<[Answer; 4]>,
}

/// Leased cells that were not spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Return {
    pub(super) policy: usize,
    pub(super) digest: u128,
    /// The key's TAT as the lease left it, in nanoseconds of Unix time.
    pub(super) end: u64,
    /// What it would be without these cells.
    pub(super) start: u64,
}

impl Script {
    pub(super) fn decide() -> Self {
        Self::new(include_str!("decide.lua"))
    }

    pub(super) fn give_back() -> Self {
        Self::new(include_str!("give_back.lua"))
    }

    fn new(text: &'static str) -> Self {
        let hash = ::redis::Script::new(text).get_hash().to_owned();
        Self { text, hash }
    }

    /// The call of this script. `known` says whether Redis is believed to know it.
    fn call(&self, known: bool, keys: usize) -> Cmd {
        let mut call = if known {
            let mut call = ::redis::cmd("EVALSHA");
            call.arg(&self.hash);
            call
        } else {
            let mut call = ::redis::cmd("EVAL");
            call.arg(self.text);
            call
        };
        call.arg(keys);
        call
    }

    /// The call of the script that decides.
    pub(super) fn ask(&self, known: bool, names: &Names, questions: &[Question]) -> Cmd {
        let mut call = self.call(known, questions.len());
        let mut name = String::new();
        for question in questions {
            names.write(question.policy, question.digest, &mut name);
            call.arg(&name);
        }
        for question in questions {
            let amounts = Amounts::new(&question.gcra);
            call.arg(amounts.unit)
                .arg(amounts.interval)
                .arg(amounts.tolerance)
                .arg(amounts.cost(&question.gcra, question.cost))
                .arg(question.extra)
                .arg(u8::from(question.enforced));
        }
        call
    }

    /// The call of the script that gives back.
    pub(super) fn returning(&self, known: bool, names: &Names, given: &Return) -> Cmd {
        let mut call = self.call(known, 1);
        let mut name = String::new();
        names.write(given.policy, given.digest, &mut name);
        call.arg(&name);
        for tat in [given.end, given.start] {
            name.clear();
            // Writing to a string does not fail.
            let _ = write!(name, "{}.{:09}", tat / SECOND, tat % SECOND);
            call.arg(&name);
        }
        call
    }
}

const SECOND: u64 = 1_000_000_000;

/// A quota's numbers, so that all that is made of them is exact in a Lua number, which has 53 bits.
#[derive(Debug, Clone, Copy)]
struct Amounts {
    /// In nanoseconds; all else is in units.
    unit: u64,
    interval: u64,
    tolerance: u64,
}

impl Amounts {
    /// 52 days in nanoseconds.
    const MOST_NANOS: u64 = 1 << 52;

    fn new(gcra: &Gcra) -> Self {
        let unit = if gcra.tolerance() <= Self::MOST_NANOS {
            1
        } else {
            1000
        };
        // Rounded up: stricter by less than a microsecond a cell.
        let interval = gcra.interval().div_ceil(unit);
        Self {
            unit,
            interval,
            tolerance: interval.saturating_mul(gcra.burst().into()),
        }
    }

    fn cost(&self, gcra: &Gcra, cost: u32) -> u64 {
        if cost > gcra.burst() {
            self.tolerance + 1
        } else {
            self.interval.saturating_mul(cost.into())
        }
    }
}

impl Answers {
    /// `None` if this is no answer to these questions.
    pub(super) fn read(numbers: &[i64], questions: &[Question]) -> Option<Self> {
        let (clock, rest) = numbers.split_at_checked(2)?;
        let [seconds, micros] = *clock else {
            return None;
        };
        let (answers, []) = rest.as_chunks::<3>() else {
            return None;
        };
        if answers.len() != questions.len() {
            return None;
        }
        let clock = u64::try_from(seconds).ok()?.checked_mul(SECOND)?;
        let micros = u64::try_from(micros).ok()?;
        let of_policies: Option<_> = answers
            .iter()
            .zip(questions)
            .map(|(answer, question)| Answer::read(*answer, question))
            .collect();
        Some(Self {
            clock: clock.checked_add(micros.checked_mul(1000)?)?,
            of_policies: of_policies?,
        })
    }
}

impl Answer {
    fn read([ruling, debt, leased]: [i64; 3], question: &Question) -> Option<Self> {
        let ruling = match ruling {
            0 => Ruling::Allowed,
            1 => Ruling::Limited,
            2 => Ruling::TooCostly,
            _ => return None,
        };
        let unit = Amounts::new(&question.gcra).unit;
        Some(Self {
            ruling,
            debt: u64::try_from(debt).ok()?.checked_mul(unit)?,
            leased: u32::try_from(leased).ok()?,
        })
    }
}
