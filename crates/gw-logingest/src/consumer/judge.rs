//! What becomes of the events of one request, as a pure decision.

use super::backlog::{Load, Tag, Work};
use super::pace::{Blame, Hope, Pace, Stamp};
use super::size::Size;
use crate::batch::ClientId;
use crate::dead_letter::DeadLetter;
use crate::sink::{Delivery, Item, Reason};

/// An event goes to the dead letters when the sink has refused so many requests with nothing else in them.
const REFUSALS: u32 = 3;

/// An event for the dead letters.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) letter: DeadLetter,
    pub(super) tag: Tag,
    /// The class of the reason, for the metrics.
    pub(super) class: &'static str,
}

/// What becomes of the events of one request.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) delivered: Vec<Tag>,
    pub(super) duplicates: Vec<Tag>,
    pub(super) redirected: Vec<Tag>,
    pub(super) letters: Vec<Letter>,
    /// Refused for now, each on its own.
    pub(super) later: Vec<Work>,
    /// To be sent again as soon as requests may start.
    pub(super) back: Vec<Work>,
    /// The same, each on its own.
    pub(super) pieces: Vec<Vec<Work>>,
    pub(super) lesson: Lesson,
}

/// What the answer says about the sink.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Lesson {
    /// Nothing.
    #[default]
    Nothing,
    /// The request was too large.
    Smaller,
    /// It works.
    Works,
    /// It refused an event with nothing beside it, as often as it is asked.
    RefusedAlone,
    /// It works, and cannot take more.
    Overloaded,
    /// It takes nothing at present.
    Down(Option<std::time::Duration>),
    /// It needs another configuration.
    Blocked(Reason),
    /// The same, or this client sends nothing that it takes.
    Misconfigured(Reason, ClientId),
}

impl Verdict {
    /// `pace` says what to believe of an event that is refused alone, and `hope` who else could tell.
    pub(super) fn new(
        load: &Load,
        stamp: Stamp,
        delivery: Delivery,
        pace: &Pace,
        hope: Hope,
    ) -> Self {
        match delivery {
            Delivery::Items(items) => Self::of_items(load, stamp, items, pace),
            Delivery::TooLarge => Self::of_too_large(load),
            Delivery::Refused(reason) => Self::of_refused(load, &reason, pace, hope),
            Delivery::Retry { after, .. } => Self::all_back(load, Lesson::Down(after)),
            Delivery::Blocked(reason) => Self::all_back(load, Lesson::Blocked(reason)),
        }
    }

    /// Without the events whose batches are no longer in hand: what becomes of them is found out anew.
    pub(super) fn of(mut self, in_hand: impl Fn(Tag) -> bool) -> Self {
        for tags in [
            &mut self.delivered,
            &mut self.duplicates,
            &mut self.redirected,
        ] {
            tags.retain(|tag| in_hand(*tag));
        }
        self.letters.retain(|letter| in_hand(letter.tag));
        for works in [&mut self.later, &mut self.back]
            .into_iter()
            .chain(&mut self.pieces)
        {
            works.retain(|work| in_hand(work.tag));
        }
        self
    }

    /// How many events are tried again.
    pub(super) fn retried(&self) -> usize {
        let pieces = self.pieces.iter().map(Vec::len).sum::<usize>();
        self.later.len() + self.back.len() + pieces
    }

    fn all_back(load: &Load, lesson: Lesson) -> Self {
        let works = load.works().collect();
        let (back, pieces) = match load.piece {
            true => (Vec::new(), vec![works]),
            false => (works, Vec::new()),
        };
        Self {
            back,
            pieces,
            lesson,
            ..Self::default()
        }
    }

    fn in_halves(load: &Load, lesson: Lesson) -> Self {
        let mut first: Vec<Work> = load.works().collect();
        let second = first.split_off(first.len() / 2);
        Self {
            pieces: vec![first, second],
            lesson,
            ..Self::default()
        }
    }

    fn of_items(load: &Load, stamp: Stamp, items: Vec<Item>, pace: &Pace) -> Self {
        let mut verdict = Self::default();
        let mut blocked = None;
        let items = items.into_iter().chain(std::iter::repeat(Item::Retry));
        for (mut work, item) in load.works().zip(items) {
            match item {
                Item::Delivered => verdict.delivered.push(work.tag),
                Item::Duplicate => verdict.duplicates.push(work.tag),
                Item::Redirected => verdict.redirected.push(work.tag),
                Item::Retry => {
                    work.tag.failures = work.tag.failures.saturating_add(1);
                    verdict.later.push(work);
                }
                Item::Rejected(reason) => verdict.letters.push(Letter {
                    letter: DeadLetter::new(work.event, reason),
                    tag: work.tag,
                    class: "rejected",
                }),
                Item::Blocked(reason) => {
                    verdict.back.push(work);
                    blocked = Some(reason);
                }
            }
        }
        let settled = load.events.len() - verdict.later.len() - verdict.back.len();
        verdict.lesson = match blocked {
            Some(reason) => Lesson::Blocked(reason),
            None if verdict.later.is_empty() => Lesson::Works,
            None if settled == 0 => Lesson::Down(None),
            None => Lesson::Overloaded,
        };
        // What is taken of a request that was under way meanwhile may have been taken before.
        let others_from = match settled {
            0 => pace.next_number(),
            _ => stamp.number(),
        };
        for work in &mut verdict.later {
            work.tag.others_from.get_or_insert(others_from);
        }
        verdict
    }

    fn of_too_large(load: &Load) -> Self {
        if load.bytes <= Size::SMALL {
            // No sink of logs is meant to be so; dead-lettering would go on through the whole queue.
            let reason = Reason::new(
                "too_large",
                "even a small request is too large for the sink",
            );
            return Self::all_back(load, Lesson::Blocked(reason.with_status(413)));
        }
        if load.events.len() > 1 {
            return match load.piece {
                // Nobody cuts it smaller later.
                true => Self::in_halves(load, Lesson::Smaller),
                false => Self::all_back(load, Lesson::Smaller),
            };
        }
        let reason = Reason::new("too_large", "the event alone is too large for the sink");
        let letters = load.works().map(|work| Letter {
            letter: DeadLetter::new(work.event, reason.clone().with_status(413)),
            tag: work.tag,
            class: "too_large",
        });
        Self {
            letters: letters.collect(),
            lesson: Lesson::Works,
            ..Self::default()
        }
    }

    fn of_refused(load: &Load, reason: &Reason, pace: &Pace, hope: Hope) -> Self {
        if load.events.len() > 1 {
            let mut verdict = Self::in_halves(load, Lesson::Nothing);
            for work in verdict.pieces.iter_mut().flatten() {
                work.tag.refused_before.get_or_insert(pace.next_number());
            }
            return verdict;
        }
        let mut verdict = Self::default();
        for mut work in load.works() {
            work.tag.refusals = work.tag.refusals.saturating_add(1);
            let next = pace.next_number();
            let refused_before = *work.tag.refused_before.get_or_insert(next);
            match pace.blame(refused_before, hope) {
                Blame::Event if work.tag.refusals < REFUSALS => verdict.pieces.push(vec![work]),
                Blame::Event => {
                    verdict.letters.push(Letter {
                        letter: DeadLetter::new(work.event, reason.clone()),
                        tag: work.tag,
                        class: "rejected",
                    });
                    verdict.lesson = Lesson::RefusedAlone;
                }
                Blame::Unknown => {
                    verdict.later.push(work);
                    verdict.lesson = Lesson::RefusedAlone;
                }
                Blame::Configuration => {
                    let client = work.event.client().clone();
                    verdict.later.push(work);
                    verdict.lesson = Lesson::Misconfigured(reason.clone(), client);
                }
            }
        }
        verdict
    }
}
