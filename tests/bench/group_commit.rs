//! The least that makes bytes durable for many who wait: one thread that writes all that waits, syncs once, and tells them.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use bytes::Bytes;
use rustix::fs::{FallocateFlags, fallocate};
use tokio::sync::oneshot;

use super::Result;
use super::closed_loop::{self, Client, Run};

/// A new file after so many bytes, with its space reserved, as the gateway's queue has it.
const FILE: u64 = 64 << 20;
/// The most that shares a sync.
const GROUP: usize = 1024;

type Waiting = (Bytes, oneshot::Sender<()>);

/// The loop. It ends with the last clone.
#[derive(Debug, Clone)]
pub struct GroupCommit {
    waiting: Sender<Waiting>,
}

impl GroupCommit {
    /// Writes to files in this directory, which are removed at once and so take space only while they are written to.
    ///
    /// # Errors
    ///
    /// If the first file cannot be made.
    pub fn start(directory: &Path) -> Result<Self> {
        let (waiting, received) = channel();
        let mut files = Files::new(directory)?;
        thread::Builder::new()
            .name("group-commit".to_owned())
            .spawn(move || serve(&mut files, &received))?;
        Ok(Self { waiting })
    }

    /// Resolves when the bytes are durable.
    ///
    /// # Errors
    ///
    /// If the disk does not take them.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, they become durable all the same.
    pub async fn store(&self, payload: Bytes) -> Result<()> {
        let (done, durable) = oneshot::channel();
        self.waiting.send((payload, done))?;
        Ok(durable.await?)
    }

    /// Makes so many copies of `payload` durable, by so many writers with one each at a time.
    ///
    /// # Errors
    ///
    /// If the disk does not take them.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the writers.
    pub async fn run(&self, payload: Bytes, writers: usize, count: usize) -> Result<Run> {
        let commit = self.clone();
        let writer = Writer { commit, payload };
        let (_, run) = closed_loop::run(vec![writer; writers], count).await?;
        Ok(run)
    }
}

/// Has one payload at a time made durable.
#[derive(Debug, Clone)]
struct Writer {
    commit: GroupCommit,
    payload: Bytes,
}

impl Client for Writer {
    async fn exchange(&mut self) -> Result<()> {
        self.commit.store(self.payload.clone()).await
    }
}

/// Whoever waits when it fails learns it by the end of its channel.
fn serve(files: &mut Files, received: &Receiver<Waiting>) -> io::Result<()> {
    let mut buffer = Vec::new();
    while let Ok(first) = received.recv() {
        let mut group = vec![first];
        group.extend(received.try_iter().take(GROUP - 1));
        buffer.clear();
        for (payload, _) in &group {
            buffer.extend_from_slice(&(payload.len() as u64).to_le_bytes());
            buffer.extend_from_slice(payload);
        }
        files.append(&buffer)?;
        for (_, done) in group {
            // A writer that has gone needs no answer.
            _ = done.send(());
        }
    }
    Ok(())
}

struct Files {
    directory: PathBuf,
    file: File,
    at: u64,
}

impl Files {
    fn new(directory: &Path) -> io::Result<Self> {
        let directory = directory.to_owned();
        let file = create(&directory)?;
        Ok(Self {
            directory,
            file,
            at: 0,
        })
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.at + bytes.len() as u64 > FILE {
            self.file = create(&self.directory)?;
            self.at = 0;
        }
        self.file.write_all_at(bytes, self.at)?;
        self.at += bytes.len() as u64;
        self.file.sync_data()
    }
}

fn create(directory: &Path) -> io::Result<File> {
    let path = directory.join("group-commit");
    let mut options = OpenOptions::new();
    let file = options.create_new(true).write(true).open(&path)?;
    fallocate(&file, FallocateFlags::empty(), 0, FILE)?;
    file.sync_data()?;
    std::fs::remove_file(path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_of_them_become_durable() {
        let directory = tempfile::tempdir().unwrap();
        let commit = GroupCommit::start(directory.path()).unwrap();
        let run = commit.run("payload".into(), 4, 100).await.unwrap();
        assert_eq!(run.requests(), 100);
    }
}
