use crate::ratio::Ratio;
use crate::sync::{AtomicU64, Ordering};

/// Retries on their way as a share of the requests on their way: both in one word, so that one CAS decides.
///
/// The upper half counts requests, the lower half retries.
#[derive(Debug)]
pub(super) struct ActiveShare {
    word: AtomicU64,
    /// The share in millionths in the upper half, what there always is in the lower.
    terms: AtomicU64,
}

const REQUEST: u64 = 1 << 32;

impl ActiveShare {
    pub(super) fn new(share: Ratio, min: u32) -> Self {
        Self {
            word: AtomicU64::new(0),
            terms: AtomicU64::new(join(share.millionths(), min)),
        }
    }

    /// The share, and what there always is.
    pub(super) fn terms(&self) -> (Ratio, u32) {
        let (share, min) = split(self.terms.load(Ordering::Relaxed));
        (Ratio::of_millionths(share), min)
    }

    /// What they are from now on, for retries that are yet to come.
    pub(super) fn set(&self, share: Ratio, min: u32) {
        let terms = join(share.millionths(), min);
        self.terms.store(terms, Ordering::Relaxed);
    }

    pub(super) fn enter(&self) {
        self.word.fetch_add(REQUEST, Ordering::Relaxed);
    }

    pub(super) fn leave(&self) {
        self.word.fetch_sub(REQUEST, Ordering::Relaxed);
    }

    /// Whether a retry may begin in the place of one that has failed.
    pub(super) fn begin_instead(&self) -> bool {
        let (requests, retries) = split(self.word.load(Ordering::Relaxed));
        retries <= self.most(requests)
    }

    /// Whether one more retry fits.
    pub(super) fn begin_retry(&self) -> bool {
        // Relaxed throughout: the word is all there is, and nothing is published with it.
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let (requests, retries) = split(word);
            if retries >= self.most(requests) {
                return false;
            }
            let next = word + 1;
            match self
                .word
                .compare_exchange_weak(word, next, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
    }

    pub(super) fn end_retry(&self) {
        self.word.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn available(&self) -> u64 {
        let (requests, retries) = split(self.word.load(Ordering::Relaxed));
        u64::from(self.most(requests).saturating_sub(retries))
    }

    pub(super) fn is_zero(&self) -> bool {
        self.terms.load(Ordering::Relaxed) == 0
    }

    fn most(&self, requests: u32) -> u32 {
        let (share, min) = self.terms();
        share.of(requests).max(min)
    }
}

const fn split(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

fn join(upper: u32, lower: u32) -> u64 {
    u64::from(upper) << 32 | u64::from(lower)
}
