//! The scripts that Redis is asked to run.

mod answer;
mod order;
mod terms;

use std::fmt::Write as _;

use ::redis::Cmd;

pub(super) use self::answer::{Answer, Answers, Seen, Settled};
pub(super) use self::order::{Order, Task};
use self::terms::Terms;
use super::key::Names;
use crate::algorithm::Algorithm;

/// A script and what Redis calls it once it knows it.
#[derive(Debug)]
pub(super) struct Script {
    text: &'static str,
    hash: String,
}

/// A key of one policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) policy: usize,
    pub(super) digest: u128,
}

/// What one policy is asked about a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    pub(super) place: Place,
    pub(super) algorithm: Algorithm,
    pub(super) cost: u32,
    /// How many cells to lease besides.
    pub(super) extra: u32,
    pub(super) enforced: bool,
}

/// Leased cells that were not spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Return {
    pub(super) place: Place,
    /// The key's TAT as the lease left it, in nanoseconds of Unix time.
    pub(super) end: u64,
    /// What it would be without these cells.
    pub(super) start: u64,
}

const SECOND: u64 = 1_000_000_000;

impl Script {
    pub(super) fn decide() -> Self {
        Self::new(concat!(
            include_str!("script/state.lua"),
            include_str!("script/decide.lua")
        ))
    }

    pub(super) fn settle() -> Self {
        Self::new(concat!(
            include_str!("script/state.lua"),
            include_str!("script/settle.lua")
        ))
    }

    pub(super) fn give_back() -> Self {
        Self::new(include_str!("script/give_back.lua"))
    }

    fn new(text: &'static str) -> Self {
        let hash = ::redis::Script::new(text).get_hash().to_owned();
        Self { text, hash }
    }

    /// The call of this script for these keys. `known` says whether Redis is believed to know it.
    fn call(
        &self,
        known: bool,
        names: &Names,
        places: impl ExactSizeIterator<Item = Place>,
    ) -> Cmd {
        let mut call = if known {
            let mut call = ::redis::cmd("EVALSHA");
            call.arg(&self.hash);
            call
        } else {
            let mut call = ::redis::cmd("EVAL");
            call.arg(self.text);
            call
        };
        call.arg(places.len());
        let mut name = String::new();
        for place in places {
            names.write(place.policy, place.digest, &mut name);
            call.arg(&name);
        }
        call
    }

    /// The call of the script that decides.
    pub(super) fn ask(&self, known: bool, names: &Names, questions: &[Question]) -> Cmd {
        let places = questions.iter().map(|question| question.place);
        let mut call = self.call(known, names, places);
        for question in questions {
            let terms = Terms::of(&question.algorithm);
            terms.write(&mut call);
            call.arg(terms.cost(&question.algorithm, question.cost))
                .arg(question.extra)
                .arg(u8::from(question.enforced));
        }
        call
    }

    /// The call of the script that charges late and takes back.
    pub(super) fn settling(&self, known: bool, names: &Names, orders: &[Order]) -> Cmd {
        let places = orders.iter().map(|order| order.place);
        let mut call = self.call(known, names, places);
        for order in orders {
            order.write(&mut call);
        }
        call
    }

    /// The call of the script that gives back.
    pub(super) fn returning(&self, known: bool, names: &Names, given: &[Return]) -> Cmd {
        let mut call = self.call(known, names, given.iter().map(|given| given.place));
        let mut text = String::new();
        for tat in given.iter().flat_map(|given| [given.end, given.start]) {
            write_time(tat, &mut text);
            call.arg(&text);
        }
        call
    }
}

/// Replaces `text` by a time in nanoseconds, as seconds and nanoseconds.
fn write_time(nanos: u64, text: &mut String) {
    text.clear();
    // Writing to a string does not fail.
    let _ = write!(text, "{}.{:09}", nanos / SECOND, nanos % SECOND);
}
