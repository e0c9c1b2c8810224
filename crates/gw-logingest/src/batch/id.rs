use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Corrupt;

/// The id of a batch: 48 bits of milliseconds since 1970, then 80 random bits, so that ids sort by time. As text, 32
/// lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(u128);

/// Who sends: 1 to 128 bytes of visible ASCII. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(Arc<str>);

/// Text that is not a [`ClientId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidClientId(());

const RANDOM_BITS: u32 = 80;

impl BatchId {
    /// A new id for a batch that is received `now`.
    pub fn new(now: SystemTime) -> Self {
        let time = u128::from(millis(now)) << RANDOM_BITS;
        Self(time | (fastrand::u128(..) >> (u128::BITS - RANDOM_BITS)))
    }

    /// The id with this value.
    pub const fn from_u128(id: u128) -> Self {
        Self(id)
    }

    /// The value.
    pub const fn as_u128(self) -> u128 {
        self.0
    }

    /// The time in the id, to the millisecond.
    pub fn time(self) -> SystemTime {
        // 48 bits of milliseconds are within the range of each platform's clock.
        UNIX_EPOCH + Duration::from_millis((self.0 >> RANDOM_BITS) as u64)
    }
}

/// Milliseconds since 1970, as far as they fit in 48 bits; times before are 1970.
pub(super) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis())
        .unwrap_or(u64::MAX)
        .min((1 << 48) - 1)
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BatchId({self})")
    }
}

impl FromStr for BatchId {
    type Err = Corrupt;

    fn from_str(text: &str) -> Result<Self, Corrupt> {
        let digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 32 || !text.bytes().all(digit) {
            return Err(Corrupt::new("not 32 lower-case hexadecimal digits"));
        }
        u128::from_str_radix(text, 16)
            .map(Self)
            .map_err(|_| Corrupt::new("not 32 lower-case hexadecimal digits"))
    }
}

impl ClientId {
    /// The longest id, in bytes.
    pub const MAX: usize = 128;

    /// Checks the text.
    ///
    /// # Errors
    ///
    /// If it is empty, longer than [`ClientId::MAX`] bytes, or has bytes other than `!` to `~`.
    pub fn new(id: &str) -> Result<Self, InvalidClientId> {
        let valid = (1..=Self::MAX).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
        if valid {
            Ok(Self(Arc::from(id)))
        } else {
            Err(InvalidClientId(()))
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientId({})", self.0)
    }
}

impl fmt::Display for InvalidClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a client id must be 1 to 128 bytes of visible ASCII")
    }
}

impl std::error::Error for InvalidClientId {}
