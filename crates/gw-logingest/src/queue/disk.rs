//! The engine on disk: a log of segments, written by one thread that makes all waiting batches durable together.

mod ack_log;
mod acks;
mod committer;
mod config;
mod engine;
mod log;
mod reader;
mod record;
mod recovery;
mod segment;

use std::path::Path;
use std::sync::Arc;

use self::config::Config;
pub use self::config::{DiskQueueBuilder, OpenError};
use self::engine::{Engine, Owner};
use super::{AppendError, Durability, Leased, Queue, QueueStatus, Want};
use crate::batch::{Batch, ClientId};
use crate::fs::RealFs;

/// A queue in a directory. A batch is confirmed once it survives a loss of power.
///
/// Clones share the queue. With the last clone it ends: what was appended is stored, nothing more is taken, and the
/// directory is free a moment later; [`DiskQueue::shutdown`] waits for that. Batches that are leased then and
/// acknowledged later are leased again by the next queue on this directory.
///
/// # What may fail
///
/// A file in which a write or a sync failed is not written to again and is renamed to `*.failed`: until the power has gone, reads
/// may show there what the disk does not have, and a restart trusts other copies first. A file with damage in it is renamed to
/// `*.broken` when nothing else in it is wanted, and kept; so is, at once, one that says what is
/// delivered and cannot be read. If the thread that writes panics, nothing is stored any more
/// ([`QueueState::Failing`](super::QueueState::Failing)). A batch whose reading panics, at the start or later, or that the device
/// does not give, stays in its file for the next queue on this directory to try.
///
/// On Unix the files are made for their owner alone (0600, the directory 0700), whatever the umask. What is there keeps its mode.
#[derive(Debug, Clone)]
pub struct DiskQueue {
    engine: Engine<RealFs>,
    /// Ends the threads with the last clone.
    _owner: Arc<Owner<RealFs>>,
}

impl DiskQueue {
    /// The settings of a queue in this directory, with defaults.
    pub fn builder(dir: impl AsRef<Path>) -> DiskQueueBuilder {
        DiskQueueBuilder::new(dir.as_ref())
    }

    fn open(fs: RealFs, config: Config) -> Result<Self, OpenError> {
        let (engine, owner) = Engine::open(fs, config)?;
        Ok(Self {
            engine,
            _owner: Arc::new(owner),
        })
    }

    /// Takes no more batches, stores those that were appended and what was acknowledged, and resolves when the
    /// directory is free. What is leased by then can still be read, but no longer acknowledged.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the queue ends all the same.
    pub async fn shutdown(&self) {
        self.engine.shutdown().await;
    }
}

impl Queue for DiskQueue {
    async fn append(&self, batch: Batch) -> Result<Durability, AppendError> {
        self.engine.append(batch).await
    }

    async fn lease(&self, want: Want) -> Vec<Leased> {
        self.engine.lease(want).await
    }

    fn has_room(&self, client: &ClientId, bytes: usize) -> Result<(), AppendError> {
        self.engine.has_room(client, bytes)
    }

    fn status(&self) -> QueueStatus {
        self.engine.status()
    }

    fn hold(&self, client: &ClientId) {
        self.engine.hold(client);
    }

    fn release(&self, client: &ClientId) {
        self.engine.release(client);
    }

    fn close(&self) {
        self.engine.close();
    }

    fn name(&self) -> Option<&str> {
        self.engine.name()
    }
}

#[cfg(test)]
mod tests;
