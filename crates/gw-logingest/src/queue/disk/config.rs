use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gw_core::ConfigError;

use super::record::{LONGEST_SEGMENT, SEGMENT_HEAD, longest_payload};
use super::{DiskQueue, acks};
use crate::fs::RealFs;
use crate::queue::clients::{Limits, Shares};

/// Settings of a [`DiskQueue`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it is opened"]
pub struct DiskQueueBuilder {
    dir: PathBuf,
    name: Option<Arc<str>>,
    max_bytes: u64,
    max_memory: u64,
    segment_bytes: u64,
    max_delay: Duration,
    shares: Shares,
}

/// The settings, once checked.
#[derive(Debug, Clone)]
pub(super) struct Config {
    pub(super) dir: PathBuf,
    pub(super) name: Option<Arc<str>>,
    pub(super) segment_bytes: u64,
    pub(super) max_delay: Duration,
    pub(super) limits: Limits,
}

/// Why a queue could not be opened. Damaged files are no reason: they are set aside.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// A setting cannot be used.
    Config(ConfigError),
    /// Another queue has the directory open, in this process or in another.
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory cannot be made, read or written.
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl DiskQueueBuilder {
    /// The least and the most bytes of a segment.
    const SEGMENT: std::ops::RangeInclusive<u64> = 64 * 1024..=LONGEST_SEGMENT;
    /// The most files; each is held open.
    const MAX_SEGMENTS: u64 = 512;
    const LEAST_MEMORY: u64 = 4 << 20;
    const MAX_DELAY: Duration = Duration::from_millis(5);

    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_path_buf(),
            name: None,
            max_bytes: 1 << 30,
            max_memory: 64 << 20,
            segment_bytes: 64 << 20,
            max_delay: Duration::ZERO,
            shares: Shares::DEFAULT,
        }
    }

    /// A name, which is the label `queue` of all metrics of the queue, its intake and its consumer. Without names the gauges of several
    /// queues in one process are one, and show whichever was measured last. None by default; not empty.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The most bytes of all files, 4 to 512 [segments](Self::segment_bytes). 1 GiB by default. Two segments of it are set aside
    /// for the space that is reserved ahead and for batches that are moved; the rest is the room for batches. Segments that were
    /// set aside as damaged (`*.broken`) do not count.
    pub const fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// The most bytes of memory for what is known of the batches that are in the files, 4 MiB or more. 64 MiB by default. At this
    /// bound the queue is as full as at the one of its bytes, and clients share it as they share these. It counts 160 bytes for
    /// each batch and 512 for each client that has any, 288 for one beyond [`max_clients`](Self::max_clients). So 64 MiB are enough
    /// for 400 000 batches of a few clients, or 150 000 of as many, and are reached before 1 GiB if the mean batch is smaller than
    /// 2 to 6 KiB: with many small batches, or with much more space, this is the setting that says how long an outage may last.
    ///
    /// What an earlier queue left in the directory is opened whatever the bound is now.
    pub const fn max_memory(mut self, bytes: u64) -> Self {
        self.max_memory = bytes;
        self
    }

    /// The bytes of one file, 64 KiB to 1 GiB. 64 MiB by default. A batch must fit in one, and in what one client may hold
    /// while one file and an eighth of another, 64 KiB at most, are in use.
    pub const fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// How long a commit waits for more batches to share it, at most 5 ms. Zero by default: those that arrive during
    /// one commit share the next, which is enough unless the disk is slow.
    pub const fn max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = delay;
        self
    }

    /// A client may hold at most this times the free bytes, 0.001 to 1 000 000. 1 by default: one client alone gets half of the
    /// queue, two get a third each.
    pub const fn client_share(mut self, share: f64) -> Self {
        self.shares.share = share;
        self
    }

    /// Bytes that a client may hold however little is free, at most the room for batches. A sixty-fourth of that by default.
    pub const fn client_floor(mut self, bytes: u64) -> Self {
        self.shares.floor = Some(bytes);
        self
    }

    /// The most clients with an account of their own, 1 to 1 000 000, 10 000 by default. Those beyond share one, and what one client may hold:
    /// each until its batches there are gone, if there is room for an account of its own by then.
    pub const fn max_clients(mut self, clients: usize) -> Self {
        self.shares.clients = clients;
        self
    }

    /// Opens the directory, makes it if it is missing, reads what an earlier queue left there, and starts two threads.
    /// Blocks for as long as the reading takes, about half a second for a gigabyte that is in memory already.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]. A full disk is no error here: what is stored can be delivered, and storing begins when there
    /// is space.
    pub fn open(self) -> Result<DiskQueue, OpenError> {
        DiskQueue::open(RealFs::PRIVATE, self.check()?)
    }

    pub(super) fn check(self) -> Result<Config, ConfigError> {
        if self.name.as_deref().is_some_and(str::is_empty) {
            return Err(ConfigError::new("name", "must not be empty"));
        }
        if !Self::SEGMENT.contains(&self.segment_bytes) {
            return Err(ConfigError::new(
                "segment_bytes",
                "must be 65536 to 1073741824",
            ));
        }
        let segments = self.max_bytes / self.segment_bytes;
        if !(4..=Self::MAX_SEGMENTS).contains(&segments) {
            return Err(ConfigError::new("max_bytes", "must be 4 to 512 segments"));
        }
        if self.max_delay > Self::MAX_DELAY {
            return Err(ConfigError::new("max_delay", "must be at most 5 ms"));
        }
        if self.max_memory < Self::LEAST_MEMORY {
            return Err(ConfigError::new("max_memory", "must be at least 4194304"));
        }
        let capacity = self.max_bytes - 2 * self.segment_bytes;
        Ok(Config {
            dir: self.dir,
            name: self.name,
            segment_bytes: self.segment_bytes,
            max_delay: self.max_delay,
            limits: self.shares.limits(capacity)?.within(self.max_memory),
        })
    }
}

impl Config {
    /// The most bytes of batches that wait to be stored, all of them in memory.
    pub(super) fn most_pending(&self) -> u64 {
        const MOST: u64 = 64 << 20;

        MOST.min(self.limits.capacity / 2).max(self.segment_bytes)
    }

    /// How much longer than needed the file may be that says what is done.
    pub(super) fn ack_slack(&self) -> u64 {
        const MOST: u64 = 64 * 1024;

        MOST.min(self.segment_bytes / 8)
    }

    /// The longest encoded batch that fits in a segment, and in what one client may hold when all is delivered. Then the
    /// segment that is written to is there all the same, and so is the file that says what is done.
    pub(super) fn longest_batch(&self) -> usize {
        // All that is delivered is one range.
        let stays = self.segment_bytes + self.ack_slack() + 2 * acks::bytes(1);
        let most = self.limits.most(self.limits.capacity.saturating_sub(stays));
        longest_payload(most.min(self.segment_bytes - SEGMENT_HEAD))
    }
}

impl From<ConfigError> for OpenError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::InUse { dir } => write!(f, "another queue has {} open", dir.display()),
            Self::Directory { dir, .. } => write!(f, "cannot use {} for a queue", dir.display()),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Config(_) | Self::InUse { .. } => None,
            Self::Directory { source, .. } => Some(source),
        }
    }
}
