use gw_logingest::queue::OpenError;
use gw_logingest::{
    AppendError, Batch, ClientId, DiskQueue, Durability, Leased, MemoryQueue, Queue, QueueStatus,
    Want,
};

use crate::assembly::Fault;
use crate::config::table;

/// A queue in memory takes no more bytes.
const MOST_IN_MEMORY: u64 = 64 << 30;

/// The queue that the file asks for. Clones share it.
#[derive(Debug, Clone)]
pub enum Engine {
    Memory(MemoryQueue),
    Disk(DiskQueue),
}

impl Engine {
    /// What the settings say is checked, and nothing is opened: a queue in memory stands in for one on disk.
    pub(super) fn plan(written: &table::LogQueue) -> Result<Self, Fault> {
        match written {
            table::LogQueue::Memory(queue) => memory(queue.max_bytes),
            table::LogQueue::Disk(queue) => {
                segment(queue.max_bytes)?;
                memory(queue.max_bytes.min(MOST_IN_MEMORY))
            }
            table::LogQueue::Redis(_)
            | table::LogQueue::Nats(_)
            | table::LogQueue::Kafka(_)
            | table::LogQueue::Sqs(_) => Err(Fault::new(
                "log_ingest.queue.engine",
                "is not supported by this version: use \"disk\" or \"memory\"",
            )),
        }
    }

    pub(super) fn open(written: &table::LogQueue) -> Result<Self, Fault> {
        let table::LogQueue::Disk(queue) = written else {
            return Self::plan(written);
        };
        DiskQueue::builder(&queue.dir)
            .max_bytes(queue.max_bytes)
            .segment_bytes(segment(queue.max_bytes)?)
            .max_memory(queue.max_memory)
            .open()
            .map(Self::Disk)
            .map_err(|error| open_fault(&error))
    }

    /// The file's word for it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Memory(_) => "memory",
            Self::Disk(_) => "disk",
        }
    }

    /// Whether the next process finds what this one leaves.
    pub(super) const fn outlives_the_process(&self) -> bool {
        matches!(self, Self::Disk(_))
    }

    /// Takes no more batches, and resolves when what was taken is stored and the directory is free.
    pub(super) async fn shutdown(&self) {
        match self {
            Self::Memory(queue) => queue.close(),
            Self::Disk(queue) => queue.shutdown().await,
        }
    }
}

fn memory(max_bytes: u64) -> Result<Engine, Fault> {
    if !(256 << 10..=MOST_IN_MEMORY).contains(&max_bytes) {
        let rule = "must be \"256KiB\" to \"64GiB\" in memory";
        return Err(Fault::new("log_ingest.queue.max_bytes", rule));
    }
    let queue = MemoryQueue::builder().max_bytes(max_bytes).build();
    queue
        .map(Engine::Memory)
        .map_err(|error| Fault::new("log_ingest.queue.max_bytes", error.rule()))
}

/// The bytes of one file of the log: an eighth of the queue, since two of them are set aside; 64 MiB where that is less,
/// unless there would be too many files.
fn segment(max_bytes: u64) -> Result<u64, Fault> {
    const LEAST: u64 = 64 << 10;
    const USUAL: u64 = 64 << 20;
    const LONGEST: u64 = 1 << 30;
    const FILES: u64 = 512;
    if !(4 * LEAST..=FILES * LONGEST).contains(&max_bytes) {
        let rule = "must be \"256KiB\" to \"512GiB\" on disk";
        return Err(Fault::new("log_ingest.queue.max_bytes", rule));
    }
    let eighth = (max_bytes / 8).clamp(LEAST, USUAL);
    Ok(eighth.max(max_bytes.div_ceil(FILES)))
}

fn open_fault(error: &OpenError) -> Fault {
    let message = match error {
        OpenError::InUse { .. } => {
            "another process, or another gateway in this one, has this queue open".to_owned()
        }
        OpenError::Directory { source, .. } => format!("cannot be used for the queue: {source}"),
        other => other.to_string(),
    };
    Fault::new("log_ingest.queue.dir", message)
}

impl Queue for Engine {
    async fn append(&self, batch: Batch) -> Result<Durability, AppendError> {
        match self {
            Self::Memory(queue) => queue.append(batch).await,
            Self::Disk(queue) => queue.append(batch).await,
        }
    }

    async fn lease(&self, want: Want) -> Vec<Leased> {
        match self {
            Self::Memory(queue) => queue.lease(want).await,
            Self::Disk(queue) => queue.lease(want).await,
        }
    }

    fn has_room(&self, client: &ClientId, bytes: usize) -> Result<(), AppendError> {
        match self {
            Self::Memory(queue) => queue.has_room(client, bytes),
            Self::Disk(queue) => queue.has_room(client, bytes),
        }
    }

    fn status(&self) -> QueueStatus {
        match self {
            Self::Memory(queue) => queue.status(),
            Self::Disk(queue) => queue.status(),
        }
    }

    fn hold(&self, client: &ClientId) {
        match self {
            Self::Memory(queue) => queue.hold(client),
            Self::Disk(queue) => queue.hold(client),
        }
    }

    fn release(&self, client: &ClientId) {
        match self {
            Self::Memory(queue) => queue.release(client),
            Self::Disk(queue) => queue.release(client),
        }
    }

    fn close(&self) {
        match self {
            Self::Memory(queue) => queue.close(),
            Self::Disk(queue) => queue.close(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Story: what stands in for it in memory refused a queue of 64 GiB to 512 GiB on disk.
    #[test]
    fn a_disk_holds_more_than_memory() {
        let disk = |max_bytes| {
            let queue = table::DiskQueue {
                max_bytes,
                ..table::DiskQueue::default()
            };
            Engine::plan(&table::LogQueue::Disk(queue))
        };
        assert!(disk(512 << 30).is_ok());
        assert!(disk((512 << 30) + 1).is_err());
        let memory =
            |max_bytes| Engine::plan(&table::LogQueue::Memory(table::MemoryQueue { max_bytes }));
        assert!(memory(64 << 30).is_ok());
        assert!(memory((64 << 30) + 1).is_err());
    }

    #[test]
    fn each_size_that_is_accepted_has_segments_that_the_queue_takes() {
        let sizes = [
            256 << 10,
            (256 << 10) + 1,
            1 << 20,
            1 << 30,
            512 << 30,
            (512 << 30) - 1,
        ];
        for max_bytes in sizes {
            let bytes = segment(max_bytes).unwrap();
            let files = max_bytes / bytes;
            assert!(
                (4..=512).contains(&files),
                "{max_bytes}: {files} of {bytes}"
            );
            assert!((64 << 10..=1 << 30).contains(&bytes), "{max_bytes}");
        }
        for max_bytes in [0, (256 << 10) - 1, (512 << 30) + 1] {
            let key = segment(max_bytes).unwrap_err().key;
            assert_eq!(key, "log_ingest.queue.max_bytes".into());
        }
        assert_eq!(segment(1 << 30).unwrap(), 64 << 20);
    }
}
