//! The tree into typed tables: serde over the tree itself, so that an error knows its key path and
//! so that reading can go on after it.

mod error;
mod node;

use std::collections::HashSet;

use serde::Deserialize;
use toml::Spanned;
use toml::de::DeValue;

pub(super) use self::error::Broken;
use self::node::Node;
use super::finding::{Anchor, Finding, Findings, KeyPath};

/// Reads `T`, or reports every value that does not fit. `left_out` lists entries that were reported
/// before.
///
/// A serde visitor stops at its first error. So the entry at fault is left out and the tree is read
/// again, until nothing is at fault or what is left makes no sense without it.
pub(super) fn read<T: for<'de> Deserialize<'de>>(
    root: &Spanned<DeValue<'_>>,
    left_out: Vec<KeyPath>,
    findings: &mut Findings,
) -> Option<T> {
    let mut left_out: HashSet<KeyPath> = left_out.into_iter().collect();
    loop {
        let error = match T::deserialize(Node::root(root, &left_out)) {
            Ok(value) => return findings.is_empty().then_some(value),
            Err(error) => error,
        };
        let (entry, anchor) = error.place.unwrap_or((KeyPath::default(), Anchor::Value));
        let path = match &error.key {
            Some(key) => entry.key(key),
            None => entry.clone(),
        };
        // A key is not missing if it was left out, and a table of which something was left out is
        // not as it was written: what it lacks or contradicts now may be our doing.
        let ours = left_out
            .iter()
            .any(|gone| *gone == path || path.contains(gone));
        if !ours {
            findings.push(Finding {
                path,
                anchor,
                message: error.message,
            });
        }
        let root_failed = entry.steps().is_empty();
        if root_failed || findings.has_more() || !left_out.insert(entry) {
            return None;
        }
    }
}
