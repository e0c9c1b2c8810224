//! Numbers that several threads count without getting in one another's way.
//!
//! One number that all threads count is a piece of memory that their cores take from each other, a dozen times a request.
//! Here each thread counts beside the others, and who looks adds up.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// So many threads count without sharing. More of them share in turn, and still lose nothing.
const SHARDS: usize = 8;

/// How many numbers fill what cores take from each other at once.
const WIDTH: usize = 8;

#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([AtomicU64; WIDTH]);

/// A few numbers, so often as there are shards.
#[derive(Debug)]
pub(super) struct Shards {
    lines: Box<[Line]>,
    /// The lines of one shard.
    stride: usize,
}

impl Shards {
    /// So many numbers, all of whose bits are 0.
    pub(super) fn new(numbers: usize) -> Self {
        let stride = numbers.div_ceil(WIDTH);
        let lines = (0..stride * SHARDS).map(|_| Line::default()).collect();
        Self { lines, stride }
    }

    /// The current thread's share of a number.
    pub(super) fn own(&self, number: usize) -> Option<&AtomicU64> {
        self.share(shard_of_thread(), number)
    }

    /// All shares of a number.
    pub(super) fn all(&self, number: usize) -> impl Iterator<Item = &AtomicU64> {
        (0..SHARDS).filter_map(move |shard| self.share(shard, number))
    }

    fn share(&self, shard: usize, number: usize) -> Option<&AtomicU64> {
        let line = self.lines.get(shard * self.stride + number / WIDTH)?;
        line.0.get(number % WIDTH)
    }
}

/// Threads take shards in turn, as they begin to count.
fn shard_of_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: Cell<Option<usize>> = const { Cell::new(None) };
    }
    OWN.get().unwrap_or_else(|| {
        let shard = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
        OWN.set(Some(shard));
        shard
    })
}

/// Adds to a number of which the bits are kept.
pub(super) fn add(share: &AtomicU64, value: f64) {
    let add = |bits| Some((f64::from_bits(bits) + value).to_bits());
    // Never fails: there is always a new value.
    _ = share.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
}

/// The sum of numbers of which the bits are kept.
pub(super) fn sum<'a>(shares: impl Iterator<Item = &'a AtomicU64>) -> f64 {
    shares.fold(0.0, |sum, share| {
        sum + f64::from_bits(share.load(Ordering::Relaxed))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_do_not_share_their_places() {
        let shards = Shards::new(WIDTH + 2);
        for number in 0..WIDTH + 2 {
            let add = u64::try_from(number).unwrap() + 1;
            shards
                .own(number)
                .unwrap()
                .fetch_add(add, Ordering::Relaxed);
        }
        for number in 0..WIDTH + 2 {
            let shares: Vec<_> = shards
                .all(number)
                .map(|it| it.load(Ordering::Relaxed))
                .collect();
            assert_eq!(shares.len(), SHARDS);
            assert_eq!(
                shares.iter().sum::<u64>(),
                u64::try_from(number).unwrap() + 1
            );
        }
    }

    #[test]
    fn a_thread_keeps_its_shard() {
        let shard = shard_of_thread();
        assert!(shard < SHARDS);
        assert_eq!(shard, shard_of_thread());
    }
}
