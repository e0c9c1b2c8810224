use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A bound on the bytes that all requests together keep to be sent again. Clones are the same pool; give one to all layers
/// of a process.
///
/// At the bound a request keeps no more and gives back what it kept: it is streamed on, and sent once.
#[derive(Debug, Clone)]
pub struct ReplayPool(Arc<Bytes>);

#[derive(Debug)]
struct Bytes {
    used: AtomicU64,
    max: u64,
}

impl ReplayPool {
    /// At most so many bytes. A frame counts as 64 at least.
    pub fn new(max_bytes: u64) -> Self {
        Self(Arc::new(Bytes {
            used: AtomicU64::new(0),
            max: max_bytes,
        }))
    }

    /// How many bytes are kept now.
    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    /// How many may be kept.
    pub fn max(&self) -> u64 {
        self.0.max
    }

    /// Room for so many more.
    pub(super) fn reserve(&self, bytes: u64) -> bool {
        // Relaxed: the number is all there is.
        let more = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.0.max);
        (self.0.used)
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }

    pub(super) fn release(&self, bytes: u64) {
        self.0.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Default for ReplayPool {
    /// 64 MiB.
    fn default() -> Self {
        Self::new(64 << 20)
    }
}
