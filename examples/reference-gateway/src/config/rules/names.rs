//! Names: what they may look like, and whether what is named exists.

use std::collections::BTreeMap;

use crate::config::finding::{Findings, KeyPath};
use crate::config::suggest::nearest;
use crate::config::table::{File, LimitTable, Server};
use crate::config::value::Key;

/// Names become metric labels and parts of log lines.
const LONGEST: usize = 64;

/// Whether every name that is defined can be used as one.
pub(super) fn check(file: &File, findings: &mut Findings) {
    let auth = KeyPath::of("auth");
    let tables: [(KeyPath, Vec<&String>); 4] = [
        (auth.key("jwt"), file.auth.jwt.keys().collect()),
        (auth.key("api_keys"), file.auth.api_keys.keys().collect()),
        (KeyPath::of("limits"), file.limits.keys().collect()),
        (KeyPath::of("upstreams"), file.upstreams.keys().collect()),
    ];
    for (table, names) in tables {
        for name in names.into_iter().filter(|name| !usable(name, DOTTED)) {
            findings.at_key(table.key(name), RULE);
        }
    }
    let lanes = KeyPath::of("lanes").key("lane");
    for name in file.lanes.lane.keys().filter(|name| !usable(name, PLAIN)) {
        findings.at_key(lanes.key(name), LANE);
    }
    for (i, route) in file.routes.iter().enumerate() {
        findings.check(
            !usable(&route.name, DOTTED),
            KeyPath::of("routes").index(i).key("name"),
            RULE,
        );
    }
}

const RULE: &str = "must be a name of 1 to 64 letters, digits, -, _ and .";

/// The bulkhead's own rule: they become parts of thread names too.
const LANE: &str = "must be a name of 1 to 64 letters, digits, - and _";

const EARLY: &str = "counts by consumer or user, whom nobody knows before authentication: name it \
                     in the `consumer_limits` of a route with `auth`";

const DROPPED: &str = "counts all callers together: its field has the credentials, and is dropped before; count by \"consumer\", or name \
                       it in `limits`";

/// What names may have beside letters and digits.
const DOTTED: &[u8] = b"-_.";
const PLAIN: &[u8] = b"-_";

fn usable(name: &str, others: &[u8]) -> bool {
    let letter = |b: u8| b.is_ascii_alphanumeric() || others.contains(&b);
    (1..=LONGEST).contains(&name.len()) && name.bytes().all(letter)
}

/// Looks names up and reports those that are not there.
pub(super) struct Names<'f> {
    file: &'f File,
}

impl<'f> Names<'f> {
    pub(super) fn of(file: &'f File) -> Self {
        Self { file }
    }

    pub(super) fn upstream(&self, name: &str, at: KeyPath, findings: &mut Findings) {
        let known = self.file.upstreams.keys().map(String::as_str);
        look_up("[upstreams]", name, known, at, findings);
    }

    pub(super) fn lane(&self, name: &str, at: KeyPath, findings: &mut Findings) {
        // The core lane needs no table as long as it is the default one.
        let core =
            (self.file.server.default_lane == Server::CORE_LANE).then_some(Server::CORE_LANE);
        let known = self.file.lanes.lane.keys().map(String::as_str).chain(core);
        look_up("[lanes.lane]", name, known, at, findings);
    }

    pub(super) fn authenticators(&self, names: &[String], at: &KeyPath, findings: &mut Findings) {
        for (i, name) in names.iter().enumerate() {
            look_up(
                "[auth.jwt] or [auth.api_keys]",
                name,
                self.file.auth.names(),
                at.index(i),
                findings,
            );
        }
    }

    /// Limits that are asked before anyone knows who calls.
    pub(super) fn early_limits(&self, names: &[String], at: &KeyPath, findings: &mut Findings) {
        self.limits(names, at, findings);
        for (i, name) in names.iter().enumerate() {
            let identity = self
                .file
                .limits
                .get(name)
                .is_some_and(|limit| limit.key.needs_identity());
            findings.check(identity, at.index(i), EARLY);
        }
    }

    /// Limits that are asked when it is known who calls. One that is asked before as well would be two that have one name, in
    /// metrics, in `RateLimit` fields and in a store.
    pub(super) fn late_limits(&self, names: &[String], at: &KeyPath, findings: &mut Findings) {
        self.limits(names, at, findings);
        for (i, name) in names.iter().enumerate() {
            let limit = self.file.limits.get(name);
            // Those that need an identity are at fault where they are asked before.
            if limit.is_some_and(|limit| !limit.key.needs_identity())
                && let Some(early) = self.asked_early(name)
            {
                let rule = format!(
                    "is in `{early}` already, and counts before authentication: name it there alone, or define another one"
                );
                findings.at(at.index(i), rule);
            } else if let Some(Key::Header(field)) = limit.map(|limit| &limit.key) {
                findings.check(self.file.auth.drops(field), at.index(i), DROPPED);
            }
        }
    }

    /// Where a limit is named that is asked before anyone knows who calls.
    fn asked_early(&self, name: &String) -> Option<String> {
        if self.file.server.default_limits.contains(name) {
            return Some("server.default_limits".to_owned());
        }
        let mut routes = self.file.routes.iter();
        let first = routes.position(|route| route.limits.contains(name))?;
        Some(format!("routes[{first}].limits"))
    }

    fn limits(&self, names: &[String], at: &KeyPath, findings: &mut Findings) {
        let limits: &BTreeMap<String, LimitTable> = &self.file.limits;
        for (i, name) in names.iter().enumerate() {
            look_up(
                "[limits]",
                name,
                limits.keys().map(String::as_str),
                at.index(i),
                findings,
            );
        }
    }
}

fn look_up<'k>(
    table: &str,
    name: &str,
    known: impl Iterator<Item = &'k str> + Clone,
    at: KeyPath,
    findings: &mut Findings,
) {
    if findings.has_more() || known.clone().any(|candidate| candidate == name) {
        return;
    }
    let hint = match nearest(name, known) {
        Some(candidate) => format!("did you mean \"{candidate}\"?"),
        None => "define it, or name another".to_owned(),
    };
    findings.at(at, format!("names nothing in {table}; {hint}"));
}
