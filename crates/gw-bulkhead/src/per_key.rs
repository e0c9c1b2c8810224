use std::fmt;
use std::hash::{DefaultHasher, Hash as _};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gw_core::key::{AvailableIn, KeyExtractor, MissingKey};
use gw_core::stage::{Facts, Given, Missing};
use http::request::Parts;

/// The facts that hold where lanes are in a pipeline at best: the caller is not known yet.
///
/// A key of [`LaneConfig::per_key`](crate::LaneConfig::per_key) must be available in them. Outside of a pipeline, behind
/// an authenticator, [`key_fn`](gw_core::key::key_fn) reads whatever is there.
pub type BeforeAuthentication = Facts<Given, Given, Missing>;

/// How many requests of one client a lane takes, and how clients are told apart.
#[derive(Clone)]
pub(crate) struct PerKey {
    pub(crate) max: NonZeroU32,
    read: Read,
    complained: Arc<AtomicBool>,
}

/// Goes before each key that there is, and tells it from there being none: else a client could choose to be counted with those
/// that have none.
pub(crate) const KEYED: u8 = 1;

type Read = Arc<dyn Fn(&Parts, &mut DefaultHasher) -> Result<(), MissingKey> + Send + Sync>;

impl PerKey {
    pub(crate) fn new<K>(key: K, max: NonZeroU32) -> Self
    where
        K: KeyExtractor + AvailableIn<BeforeAuthentication> + Send + Sync + 'static,
    {
        Self {
            max,
            read: Arc::new(move |parts, hasher| key.hash_into(parts, hasher)),
            complained: Arc::default(),
        }
    }

    /// Feeds the key of a request to `hasher`; requests without one are one client. The first time that happens, it is
    /// returned why.
    pub(crate) fn hash(&self, parts: &Parts, hasher: &mut DefaultHasher) -> Option<MissingKey> {
        let mut read = hasher.clone();
        KEYED.hash(&mut read);
        match (self.read)(parts, &mut read) {
            Ok(()) => {
                *hasher = read;
                None
            }
            Err(missing) => {
                let first = !self.complained.swap(true, Ordering::Relaxed);
                first.then_some(missing)
            }
        }
    }
}

impl fmt::Debug for PerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerKey")
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}
