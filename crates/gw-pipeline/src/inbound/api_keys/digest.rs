use std::fmt;
use std::str::FromStr;

use gw_core::ConfigError;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// The SHA-256 of a key: what is kept in its place.
///
/// It is read from 64 hex digits. Comparing two takes the same time wherever they differ, and neither `Debug` nor an
/// error shows one: of a key that can be guessed, the digest gives the key away.
#[derive(Clone, Copy)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// Takes a digest that was made elsewhere.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest of `key`.
    pub fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// What a digest is looked up by, before it is compared.
    pub(super) fn start(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

impl PartialEq for KeyDigest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for KeyDigest {}

impl FromStr for KeyDigest {
    type Err = ConfigError;

    /// # Errors
    ///
    /// If `text` is anything but 64 hex digits.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let wrong = || ConfigError::new("digest", "must be 64 hex digits, the SHA-256 of the key");
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let mut bytes = [0; 32];
        if pairs.len() != bytes.len() || !rest.is_empty() {
            return Err(wrong());
        }
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            let digit = |c: u8| {
                char::from(c)
                    .to_digit(16)
                    .and_then(|n| u8::try_from(n).ok())
            };
            *byte = digit(*high).ok_or_else(wrong)? << 4 | digit(*low).ok_or_else(wrong)?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_sha_256() {
        // FIPS 180-4's example.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(KeyDigest::of(b"abc"), abc.parse().unwrap());
        assert_eq!(KeyDigest::of(b"abc"), abc.to_uppercase().parse().unwrap());
        assert_ne!(KeyDigest::of(b"abd"), abc.parse().unwrap());
        assert_eq!(KeyDigest::of(b"abc").start(), 0xba78_16bf_8f01_cfea);
    }

    #[test]
    fn what_is_not_64_hex_digits_is_refused_and_not_repeated() {
        let good = "0".repeat(64);
        for bad in [
            "",
            "hunter2",
            &good[1..],
            &format!("{good}0"),
            &format!("{}+f", &good[2..]),
            &format!("{}é", &good[2..]),
            &format!("0x{}", &good[2..]),
        ] {
            let error = bad.parse::<KeyDigest>().unwrap_err().to_string();
            assert_eq!(
                error,
                "digest: must be 64 hex digits, the SHA-256 of the key"
            );
        }
        assert_eq!(format!("{:?}", KeyDigest::of(b"a")), "KeyDigest(…)");
    }
}
