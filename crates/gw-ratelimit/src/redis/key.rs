//! What a key is called in Redis.

use std::fmt::Write as _;
use std::hash::Hash;

use gw_core::key::{KeyExtractor, MissingKey};
use http::request::Parts;
use siphasher::sip128::{Hasher128 as _, SipHasher13};

/// Hashes keys to 128 bits, for all instances that know the secret in the same way.
///
/// Keyed, so that nobody can choose keys that share a state with another's, and so that who reads Redis cannot tell whose
/// state is whose by trying out addresses. Two clients share a state with a probability of 2^-128 per pair.
#[derive(Clone)]
pub(super) struct Digester {
    hasher: SipHasher13,
}

impl Digester {
    pub(super) fn new(secret: &[u8]) -> Self {
        let mut fold = SipHasher13::new();
        secret.hash(&mut fold);
        Self {
            hasher: SipHasher13::new_with_key(&fold.finish128().as_bytes()),
        }
    }

    /// The digest of `key` under the policy of this name.
    pub(super) fn digest<K: Hash + ?Sized>(&self, policy: &str, key: &K) -> u128 {
        let mut hasher = self.keyed(policy);
        key.hash(&mut hasher);
        hasher.finish128().as_u128()
    }

    /// The same for the key of a request, where it stands.
    pub(super) fn digest_of<K: KeyExtractor>(
        &self,
        policy: &str,
        extractor: &K,
        parts: &Parts,
    ) -> Result<u128, MissingKey> {
        let mut hasher = self.keyed(policy);
        extractor.hash_into(parts, &mut hasher)?;
        Ok(hasher.finish128().as_u128())
    }

    /// The digest of all requests that lack a key.
    pub(super) fn keyless(&self, policy: &str) -> u128 {
        let mut hasher = self.hasher;
        // What no key with a policy's name before it is hashed from: names are not empty.
        "".hash(&mut hasher);
        policy.hash(&mut hasher);
        hasher.finish128().as_u128()
    }

    fn keyed(&self, policy: &str) -> SipHasher13 {
        let mut hasher = self.hasher;
        policy.hash(&mut hasher);
        hasher
    }
}

impl std::fmt::Debug for Digester {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key stays out of logs.
        f.debug_struct("Digester").finish_non_exhaustive()
    }
}

/// The names of a limiter's keys: `{limiter}:policy:digest`; of sliding windows `{limiter}:policy/length:digest`, with the
/// length in microseconds, as states mean nothing under another one.
///
/// The braces make the limiter's name the hash tag: in a cluster all its keys are in one slot, as a script over several
/// of them needs.
#[derive(Debug)]
pub(super) struct Names {
    prefixes: Box<[Box<str>]>,
}

impl Names {
    /// A policy has a length if it is a sliding window.
    pub(super) fn new<'a>(
        limiter: &str,
        policies: impl Iterator<Item = (&'a str, Option<u64>)>,
    ) -> Self {
        let prefix = |(policy, length): (&str, Option<u64>)| match length {
            None => format!("{{{limiter}}}:{policy}:").into(),
            Some(micros) => format!("{{{limiter}}}:{policy}/{micros}:").into(),
        };
        Self {
            prefixes: policies.map(prefix).collect(),
        }
    }

    /// Replaces `name` by that of a key.
    pub(super) fn write(&self, policy: usize, digest: u128, name: &mut String) {
        name.clear();
        if let Some(prefix) = self.prefixes.get(policy) {
            name.push_str(prefix);
        }
        // Writing to a string does not fail.
        let _ = write!(name, "{digest:032x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_digest_for_those_who_know_the_secret() {
        let [one, same, other] = ["0123456789abcdef", "0123456789abcdef", "0123456789abcdeF"]
            .map(|secret| Digester::new(secret.as_bytes()));
        assert_eq!(one.digest("p", "ann"), same.digest("p", "ann"));
        let all = [
            one.digest("p", "ann"),
            one.digest("p", "bob"),
            one.digest("q", "ann"),
            one.keyless("p"),
            one.keyless("q"),
            other.digest("p", "ann"),
        ];
        for (at, digest) in all.iter().enumerate() {
            assert!(!all[..at].contains(digest), "{at}");
        }
    }

    #[test]
    fn names_carry_one_hash_tag() {
        let policies = [("per_ip", None), ("total", None), ("day", Some(86_400))];
        let names = Names::new("api", policies.into_iter());
        let mut name = String::new();
        names.write(1, 255, &mut name);
        assert_eq!(name, "{api}:total:000000000000000000000000000000ff");
        names.write(2, 1, &mut name);
        assert_eq!(name, "{api}:day/86400:00000000000000000000000000000001");
    }
}
