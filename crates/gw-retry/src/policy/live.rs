//! The policy of a layer, which is exchanged while requests run.

use std::fmt;
use std::sync::PoisonError;

use super::{Methods, Permits, RetryPolicy};
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering};

/// What all requests ask of it is one word, and what those with a body ask another one, so that reading them takes no lock. All
/// else is asked after what may be a failure.
pub(crate) struct LivePolicy {
    permits: AtomicU64,
    replay_max: AtomicU64,
    whole: Mutex<RetryPolicy>,
}

impl LivePolicy {
    pub(crate) fn new(policy: RetryPolicy) -> Self {
        Self {
            permits: AtomicU64::new(policy.permits().pack()),
            replay_max: AtomicU64::new(policy.replay_max() as u64),
            whole: Mutex::new(policy),
        }
    }

    /// For requests that begin from now on. Those that begin just now may find a part of it.
    pub(crate) fn set(&self, policy: RetryPolicy) {
        // Under the lock: of two that set it, one has set all of it in the end.
        let mut whole = self.lock();
        // Relaxed: each word is read alone.
        let replay_max = policy.replay_max() as u64;
        self.permits
            .store(policy.permits().pack(), Ordering::Relaxed);
        self.replay_max.store(replay_max, Ordering::Relaxed);
        *whole = policy;
    }

    #[inline]
    pub(crate) fn permits(&self) -> Permits {
        Permits::unpack(self.permits.load(Ordering::Relaxed))
    }

    pub(crate) fn replay_max(&self) -> usize {
        let bytes = self.replay_max.load(Ordering::Relaxed);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// All of it.
    pub(crate) fn get(&self) -> RetryPolicy {
        self.lock().clone()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, RetryPolicy> {
        // Whoever panicked under it left a policy there.
        self.whole.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for LivePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

const AGAIN: u64 = 1 << 32;
const UNSENT: u64 = 1 << 33;
const IDEMPOTENT_GRPC: u64 = 1 << 34;

impl Permits {
    /// The methods in the lowest bits, those with a key above them, and then the rest.
    fn pack(self) -> u64 {
        let flags = [
            (self.again, AGAIN),
            (self.unsent, UNSENT),
            (self.idempotent_grpc, IDEMPOTENT_GRPC),
        ];
        let flags = flags.iter().filter(|(is_set, _)| *is_set);
        let sets = u64::from(self.methods.0) | u64::from(self.keyed.0) << 16;
        flags.fold(sets, |word, (_, bit)| word | bit)
    }

    #[inline]
    const fn unpack(word: u64) -> Self {
        Self {
            methods: Methods(word as u16),
            keyed: Methods((word >> 16) as u16),
            again: word & AGAIN != 0,
            unsent: word & UNSENT != 0,
            idempotent_grpc: word & IDEMPOTENT_GRPC != 0,
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn what_requests_ask_is_what_the_policy_says() {
        let builder = RetryPolicy::builder;
        let all = [
            builder(),
            builder().max_attempts(1),
            builder().unsent(false),
            builder().idempotent_grpc(true),
            builder().methods([Method::TRACE, Method::GET]),
            builder().keyed_methods([Method::PATCH]).methods([]),
        ];
        let live = LivePolicy::new(RetryPolicy::none());
        for (number, policy) in all.into_iter().enumerate() {
            let policy = policy.replay_max(number).build().unwrap();
            live.set(policy.clone());
            assert_eq!(live.permits(), policy.permits());
            assert_eq!(live.get().permits(), policy.permits());
            assert_eq!(live.replay_max(), number);
        }
    }
}
