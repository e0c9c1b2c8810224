//! A fault before it has a line: a key path and a sentence. The document turns it into a place.

use std::fmt;

/// Longest key that an error spells out.
const SHOWN_KEY: usize = 64;

/// Most faults that are kept: nobody reads more at once, and each costs a search for its place.
const MAX_FINDINGS: usize = 40;

/// Where a value stands in the tree: `routes[2].upstream`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct KeyPath(Vec<Step>);

/// One step down the tree.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

impl KeyPath {
    /// The path of a top-level key.
    pub fn of(key: &str) -> Self {
        Self::default().key(key)
    }

    /// What lies at `path` below this one, such as `queue.max_bytes` or `listen[0]`. For keys that the program has: a name
    /// that is written in the file may have dots, and is a [`key`](Self::key).
    pub fn below(&self, path: &str) -> Self {
        path.split('.').fold(self.clone(), |path, part| {
            let (key, index) = part.split_once('[').unwrap_or((part, ""));
            let path = path.key(key);
            match index.trim_end_matches(']').parse() {
                Ok(index) => path.index(index),
                Err(_) => path,
            }
        })
    }

    /// What has this key in the table here.
    pub fn key(&self, key: &str) -> Self {
        self.step(Step::Key(key.to_owned()))
    }

    /// What has this place in the array here, counted from 0.
    pub fn index(&self, index: usize) -> Self {
        self.step(Step::Index(index))
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Whether `other` lies below this path.
    pub(super) fn contains(&self, other: &Self) -> bool {
        other.0.len() > self.0.len() && other.0.starts_with(&self.0)
    }

    fn step(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

/// For paths without names.
impl From<&'static str> for KeyPath {
    fn from(path: &'static str) -> Self {
        Self::default().below(path)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
                    let dot = if i == 0 { "" } else { "." };
                    let cut: String = key.chars().take(SHOWN_KEY).collect();
                    let more = if cut.len() < key.len() { "…" } else { "" };
                    let bare = cut
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
                    if bare && !cut.is_empty() {
                        write!(f, "{dot}{cut}{more}")?;
                    } else {
                        write!(f, "{dot}{cut:?}{more}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Which half of `key = value` is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Key,
    /// The value, or the nearest table around it when the key is not written.
    Value,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub path: KeyPath,
    pub anchor: Anchor,
    pub message: String,
}

/// Faults collected so far, up to a bound.
#[derive(Debug, Default)]
pub(super) struct Findings {
    kept: Vec<Finding>,
    more: bool,
}

impl Findings {
    /// A fault of a value.
    pub(super) fn at(&mut self, path: KeyPath, message: impl Into<String>) {
        self.push(Finding {
            path,
            anchor: Anchor::Value,
            message: message.into(),
        });
    }

    /// A fault of a key.
    pub(super) fn at_key(&mut self, path: KeyPath, message: impl Into<String>) {
        self.push(Finding {
            path,
            anchor: Anchor::Key,
            message: message.into(),
        });
    }

    /// A fault of a value, if `broken`.
    pub(super) fn check(&mut self, broken: bool, path: KeyPath, message: impl Into<String>) {
        if broken {
            self.at(path, message);
        }
    }

    /// Any fault; when there are enough, it is only known that there are more.
    pub(super) fn push(&mut self, finding: Finding) {
        if self.is_full() {
            self.more = true;
        } else {
            self.kept.push(finding);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.kept.len() >= MAX_FINDINGS
    }

    pub(super) const fn has_more(&self) -> bool {
        self.more
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Those that were kept, and whether there are more.
    pub(super) fn into_parts(self) -> (Vec<Finding>, bool) {
        (self.kept, self.more)
    }
}
