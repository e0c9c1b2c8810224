//! Batches, a sink that does as told, and a store for dead letters.
#![allow(
    dead_code,
    reason = "each test binary uses its own part of the support"
)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use gw_logingest::consumer::{Consumer, ConsumerBuilder};
use gw_logingest::dead_letter::{DeadLetter, DeadLetters, KeepError};
use gw_logingest::sink::{Delivery, Item, Sink};
use gw_logingest::{Batch, BatchId, Class, ClientId, Event, MemoryQueue, Queue};
use tokio::time::Instant;

pub fn queue() -> MemoryQueue {
    let queue = MemoryQueue::builder().client_share(1_000.0);
    queue.build().unwrap()
}

/// A batch of events with these ids and sizes.
pub fn batch_of(events: &[(String, usize)]) -> Batch {
    batch_by("client", events)
}

/// The same of this client.
pub fn batch_by(client: &str, events: &[(String, usize)]) -> Batch {
    let now = SystemTime::now();
    let mut builder = Batch::builder(BatchId::new(now), ClientId::new(client).unwrap(), now);
    for (id, size) in events {
        let json = format!(
            "{{\"@timestamp\":\"2026-11-21T07:00:00.000Z\",\"message\":\"{}\"}}",
            "x".repeat(*size)
        );
        builder.push(Some(id), Class::Normal, json.as_bytes());
    }
    builder.finish()
}

/// Appends events with these numbers as ids, in batches of ten.
pub async fn fill(queue: &impl Queue, ids: std::ops::Range<usize>, size: usize) {
    let ids: Vec<usize> = ids.collect();
    for chunk in ids.chunks(10) {
        let events: Vec<_> = chunk.iter().map(|id| (id.to_string(), size)).collect();
        queue.append(batch_of(&events)).await.unwrap();
    }
}

/// A sink whose answers come from a function of the number of the request and its events.
pub struct Scripted<F> {
    answer: F,
    takes: Duration,
    seen: Arc<Seen>,
}

/// What a scripted sink was asked.
#[derive(Default)]
pub struct Seen {
    requests: Mutex<Vec<Request>>,
}

#[derive(Clone, Debug)]
pub struct Request {
    pub at: Instant,
    pub ids: Vec<String>,
    pub bytes: usize,
}

impl<F> Scripted<F>
where
    F: Fn(usize, &[Event]) -> Delivery + Send + Sync + 'static,
{
    pub fn new(takes: Duration, answer: F) -> (Self, Arc<Seen>) {
        let seen = Arc::new(Seen::default());
        let sink = Self {
            answer,
            takes,
            seen: seen.clone(),
        };
        (sink, seen)
    }
}

impl<F> Sink for Scripted<F>
where
    F: Fn(usize, &[Event]) -> Delivery + Send + Sync + 'static,
{
    async fn deliver(&self, events: &[Event]) -> Delivery {
        let number = {
            let mut requests = self.seen.requests.lock().unwrap();
            requests.push(Request {
                at: Instant::now(),
                ids: events.iter().map(|event| event.id().into_owned()).collect(),
                bytes: events.iter().map(|event| event.json().len()).sum(),
            });
            requests.len() - 1
        };
        tokio::time::sleep(self.takes).await;
        (self.answer)(number, events)
    }
}

impl Seen {
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// How often each id was offered.
    pub fn offers(&self) -> HashMap<String, usize> {
        let mut offers = HashMap::new();
        for id in self.requests().into_iter().flat_map(|request| request.ids) {
            *offers.entry(id).or_default() += 1;
        }
        offers
    }
}

pub fn all(item: Item) -> impl Fn(&[Event]) -> Delivery {
    move |events| Delivery::Items(vec![item.clone(); events.len()])
}

/// Dead letters in memory, with a bound that can be moved, and one for the client `poison`.
#[derive(Clone, Default)]
pub struct Letters(Arc<Mutex<(Vec<DeadLetter>, usize)>>, Arc<AtomicUsize>);

impl Letters {
    pub fn bounded(bound: usize) -> Self {
        let letters = Self::default();
        letters.bound(bound);
        letters
    }

    pub fn bound(&self, bound: usize) {
        self.0.lock().unwrap().1 = bound;
    }

    /// How many the client `poison` may have.
    pub fn share(&self, share: usize) {
        self.1.store(share, Ordering::Relaxed);
    }

    pub fn all(&self) -> Vec<DeadLetter> {
        self.0.lock().unwrap().0.clone()
    }

    pub fn ids(&self) -> Vec<String> {
        let id = |letter: &DeadLetter| letter.event().id().into_owned();
        self.all().iter().map(id).collect()
    }
}

impl DeadLetters for Letters {
    async fn keep(&self, letters: &[DeadLetter]) -> Vec<Result<(), KeepError>> {
        let (kept, bound) = &mut *self.0.lock().unwrap();
        if kept.len() + letters.len() > *bound {
            return vec![Err(KeepError::Full); letters.len()];
        }
        let mut outcomes = Vec::new();
        for letter in letters {
            let poison = |letter: &&DeadLetter| letter.event().client().as_str() == "poison";
            let share = self.1.load(Ordering::Relaxed);
            if poison(&letter) && kept.iter().filter(poison).count() >= share {
                outcomes.push(Err(KeepError::OverShare));
            } else {
                kept.push(letter.clone());
                outcomes.push(Ok(()));
            }
        }
        outcomes
    }
}

/// A consumer with repeatable waits.
pub fn consumer<Q: Queue, S: Sink>(
    queue: Q,
    sink: S,
    letters: &Letters,
) -> ConsumerBuilder<Q, S, Letters> {
    Consumer::builder(queue, sink)
        .dead_letters(letters.clone())
        .seed(7)
}
