//! How much of a store each client's letters take. Pure.

use std::collections::HashMap;

use super::KeepError;
use crate::batch::ClientId;
use crate::queue::clients::{Limits, Owner};

/// The bytes of each client's letters, by the rule by which clients share a queue. Beyond so many clients, the rest have one
/// account together.
#[derive(Debug)]
pub(super) struct Accounts {
    limits: Limits,
    used: u64,
    held: HashMap<Owner, u64>,
}

impl Accounts {
    pub(super) fn new(capacity: u64) -> Self {
        Self {
            limits: Limits::usual(capacity),
            used: 0,
            held: HashMap::new(),
        }
    }

    /// Room for a letter of so many bytes, or why there is none.
    pub(super) fn take(&mut self, client: &ClientId, bytes: u64) -> Result<(), KeepError> {
        let free = self.limits.capacity.saturating_sub(self.used);
        let owner = self.owner(client);
        let held = self.held.get(&owner).copied().unwrap_or_default();
        if held.saturating_add(bytes) > self.limits.allowance(free) {
            return Err(KeepError::OverShare);
        }
        if bytes > free {
            return Err(KeepError::Full);
        }
        self.count(client, bytes);
        Ok(())
    }

    /// A letter that is there, whatever the bounds are.
    pub(super) fn count(&mut self, client: &ClientId, bytes: u64) {
        let owner = self.owner(client);
        *self.held.entry(owner).or_default() += bytes;
        self.used = self.used.saturating_add(bytes);
    }

    /// Bytes that are there and are nobody's.
    pub(super) const fn count_foreign(&mut self, bytes: u64) {
        self.used = self.used.saturating_add(bytes);
    }

    /// The room for a letter is not used after all.
    pub(super) fn give_back(&mut self, client: &ClientId, bytes: u64) {
        let owner = self.owner(client);
        if let Some(held) = self.held.get_mut(&owner) {
            *held = held.saturating_sub(bytes);
        }
        self.used = self.used.saturating_sub(bytes);
    }

    fn owner(&self, client: &ClientId) -> Owner {
        let own = Some(client.clone());
        let has_account = self.held.contains_key(&own);
        own.filter(|_| has_account || self.held.len() < self.limits.clients)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(name: &str) -> ClientId {
        ClientId::new(name).unwrap()
    }

    /// Bytes that the client gets, in letters of ten.
    fn fill(accounts: &mut Accounts, name: &str) -> (u64, KeepError) {
        let mut bytes = 0;
        loop {
            match accounts.take(&client(name), 10) {
                Ok(()) => bytes += 10,
                Err(why) => return (bytes, why),
            }
        }
    }

    #[test]
    fn one_client_gets_half_and_the_next_half_of_the_rest() {
        let mut accounts = Accounts::new(6_400);
        for (name, expected) in [("a", 3_200), ("b", 1_600), ("c", 800), ("a", 0)] {
            let (bytes, why) = fill(&mut accounts, name);
            assert_eq!(bytes, expected, "{name}");
            assert!(matches!(why, KeepError::OverShare), "{name}: {why:?}");
        }
        // A sixty-fourth is everybody's, until there is nothing left.
        let mut full = 0;
        for name in 0..60 {
            let (bytes, why) = fill(&mut accounts, &name.to_string());
            assert!(bytes <= 400, "{bytes}");
            full += u64::from(matches!(why, KeepError::Full));
        }
        assert!(full > 0);
        assert_eq!(accounts.used, 6_400);
    }

    #[test]
    fn a_letter_that_never_fits_is_its_clients_matter() {
        let mut accounts = Accounts::new(1_000);
        let why = accounts.take(&client("a"), 1_001).unwrap_err();
        assert!(matches!(why, KeepError::OverShare), "{why:?}");
        assert!(accounts.take(&client("b"), 100).is_ok());
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let mut accounts = Accounts::new(1_000);
        accounts.take(&client("a"), 500).unwrap();
        accounts.give_back(&client("a"), 500);
        accounts.take(&client("a"), 500).unwrap();
        assert_eq!(accounts.used, 500);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut accounts = Accounts::new(1 << 40);
        for name in 0..11_000 {
            accounts.take(&client(&name.to_string()), 1).unwrap();
        }
        assert_eq!(accounts.held.len(), 10_001);
        assert_eq!(accounts.held[&None], 1_000);
        accounts.take(&client("5"), 1).unwrap();
        assert_eq!(accounts.held[&Some(client("5"))], 2);
    }
}
