//! How the cluster treats bulk requests.

use std::time::Duration;

use http::StatusCode;

/// How the cluster treats a bulk request. The other requests are answered as a healthy cluster would.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Behaviour {
    pub(super) manner: Manner,
    pub(super) delay: Duration,
    pub(super) retry_after: Option<Duration>,
    pub(super) garble: Option<Garble>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Manner {
    #[default]
    Healthy,
    Hung,
    Refusing(StatusCode),
    RefusingText(&'static str),
    FailingItems(Lottery),
    Saturated {
        documents: u32,
        per_second: u32,
    },
}

/// Which items fail: a share of all, drawn by a seed, the `_id`, and how often the document was offered before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Lottery {
    pub(super) fault: ItemFault,
    pub(super) share: f64,
    pub(super) seed: u64,
}

/// What goes wrong with an item while its neighbours are fine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ItemFault {
    /// 429 `es_rejected_execution_exception`: the write queue of its shard is full.
    Rejected,
    /// 503 `unavailable_shards_exception`: its shard has no primary.
    Unavailable,
    /// 403 `cluster_block_exception`: the index takes no writes.
    Blocked,
}

/// What is wrong with the answer to a request that was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Garble {
    /// 200 with a text that is no JSON.
    NotJson,
    /// 200 with the first half of the answer, well framed.
    Truncated,
    /// The answer without its last so many items.
    MissingItems(usize),
    /// The items in the reverse order.
    Reversed,
    /// 200 with an endless list of items, until the client leaves.
    Endless,
    /// No answer: the connection is closed.
    Lost,
}

impl Behaviour {
    /// Carries out and answers at once.
    pub fn healthy() -> Self {
        Self::default()
    }

    /// Carries out at once, and answers after `delay`. A client that gives up earlier meets its own documents when it
    /// tries again.
    pub fn slow(delay: Duration) -> Self {
        Self::default().delay(delay)
    }

    /// Reads requests and neither carries them out nor answers, as long as this lasts.
    pub fn hung() -> Self {
        Self::manner(Manner::Hung)
    }

    /// Carries out nothing and answers each request with this status.
    pub fn refusing(status: StatusCode) -> Self {
        Self::manner(Manner::Refusing(status))
    }

    /// Answers 400 to each request whose body holds this text, and carries out nothing of it; others are carried out.
    pub fn refusing_text(text: &'static str) -> Self {
        Self::manner(Manner::RefusingText(text))
    }

    /// This share of the items fails, 0.0 to 1.0.
    ///
    /// The same `seed` chooses the same items for the same sequence of offers, in whatever order they arrive.
    ///
    /// # Panics
    ///
    /// If `share` is not in this range.
    pub fn failing_items(fault: ItemFault, share: f64, seed: u64) -> Self {
        assert!((0.0..=1.0).contains(&share), "a share, not {share}");
        Self::manner(Manner::FailingItems(Lottery { fault, share, seed }))
    }

    /// A cluster that indexes `per_second` documents and lets `documents` wait. What finds the queue full is refused
    /// item by item with 429; the rest of the request is answered when it has been served.
    ///
    /// # Panics
    ///
    /// If one of the numbers is zero.
    pub fn saturated(documents: u32, per_second: u32) -> Self {
        assert!(
            documents > 0 && per_second > 0,
            "a queue and a rate above zero"
        );
        Self::manner(Manner::Saturated {
            documents,
            per_second,
        })
    }

    /// Answers later by `delay`.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Adds a `Retry-After` of whole seconds to a refusal of the whole request.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Spoils the answer, not the work.
    #[must_use]
    pub fn garble(mut self, garble: Garble) -> Self {
        self.garble = Some(garble);
        self
    }

    fn manner(manner: Manner) -> Self {
        Self {
            manner,
            ..Self::default()
        }
    }
}

impl Lottery {
    /// Whether the document of this `_id` fails when it is offered for the `offered`th time.
    pub(super) fn hits(&self, id: &str, offered: u32) -> bool {
        // FNV-1a: the choice must not depend on the version of the standard library.
        let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        let seed = self.seed ^ hash ^ (u64::from(offered) << 32);
        fastrand::Rng::with_seed(seed).f64() < self.share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lottery_draws_its_share_and_draws_again_for_each_offer() {
        let lottery = Lottery {
            fault: ItemFault::Rejected,
            share: 0.3,
            seed: 7,
        };
        let hits = (0..10_000).filter(|n| lottery.hits(&n.to_string(), 1));
        assert!((2_700..3_300).contains(&hits.count()));
        let again = (1..1_000).filter(|offered| lottery.hits("the same", *offered));
        assert!((200..400).contains(&again.count()));
    }

    #[test]
    fn nothing_and_everything_are_shares() {
        let draw = |share| {
            let lottery = Lottery {
                fault: ItemFault::Rejected,
                share,
                seed: 1,
            };
            (0..1_000)
                .filter(|n| lottery.hits(&n.to_string(), 1))
                .count()
        };
        assert_eq!((draw(0.0), draw(1.0)), (0, 1_000));
    }
}
