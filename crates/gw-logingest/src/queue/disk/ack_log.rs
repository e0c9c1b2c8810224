//! The file that says which batches are done. It may be lost: then they are delivered again.

use std::io;
use std::path::Path;

use super::acks::{self, Tickets};
use super::segment::Name;
use crate::fs::{File as _, Fs, write_all};

/// What is done, in memory and on disk.
#[derive(Debug)]
pub(super) struct AckLog<F: Fs> {
    done: Tickets,
    file: Option<AckFile<F>>,
    next: u64,
    /// Whether something was written since the last sync.
    dirty: bool,
    /// How long the file may get before it is written afresh, beside twice what is needed.
    slack: u64,
    /// From this length on, the file is written afresh, where it is not its being longer than needed that says so: a write or a
    /// sync of it has failed.
    rewrite_at: Option<u64>,
}

#[derive(Debug)]
struct AckFile<F: Fs> {
    id: u64,
    file: F::File,
    size: u64,
}

impl<F: Fs> AckLog<F> {
    /// What earlier files said. `next` is an id that no file has had.
    pub(super) const fn new(done: Tickets, next: u64, slack: u64) -> Self {
        Self {
            done,
            file: None,
            next,
            dirty: false,
            slack,
            rewrite_at: None,
        }
    }

    pub(super) const fn done(&self) -> &Tickets {
        &self.done
    }

    /// The bytes of the file.
    pub(super) fn size(&self) -> u64 {
        self.file.as_ref().map_or(0, |file| file.size)
    }

    /// Adds tickets, in memory at once and on disk as far as it works.
    pub(super) fn add(&mut self, fs: &F, dir: &Path, tickets: impl Iterator<Item = u64>) {
        let mut added = Tickets::default();
        tickets.for_each(|ticket| added.insert(ticket, ticket));
        if added.len() == 0 {
            return;
        }
        for (first, last) in added.ranges() {
            self.done.insert(first, last);
        }
        if self.file.is_none() && self.rewrite(fs, dir).is_ok() {
            return;
        }
        let Some(file) = &mut self.file else {
            return;
        };
        let entries = acks::entries(file.id, &added);
        if write_all(&file.file, &entries, file.size).is_ok() {
            file.size += entries.len() as u64;
            self.dirty = true;
        } else {
            // All of it goes to a new file at the next occasion; this one stays until then.
            self.rewrite_at = Some(0);
        }
    }

    /// No record with a ticket below this can come back.
    pub(super) fn forget_below(&mut self, ticket: u64) {
        self.done.forget_below(ticket);
    }

    /// Writes the file afresh if it has grown much beyond what is needed.
    pub(super) fn tidy(&mut self, fs: &F, dir: &Path) {
        let long = self.slack + 2 * acks::bytes(self.done.len());
        if self.size() > self.rewrite_at.unwrap_or(long) && self.rewrite(fs, dir).is_err() {
            self.rewrite_at = Some(self.size().saturating_add(self.slack));
        }
    }

    /// A new file with all that is known, durable before the old one goes.
    pub(super) fn rewrite(&mut self, fs: &F, dir: &Path) -> io::Result<()> {
        let id = self.next;
        // Also if it fails: what became of the name is then unknown.
        self.next += 1;
        let path = Name::Acks(id).path(dir);
        let file = fs.create(&path)?;
        let entries = acks::entries(id, &self.done);
        let write = || {
            write_all(&file, &entries, 0)?;
            file.sync()?;
            fs.sync_dir(dir)
        };
        if let Err(error) = write() {
            drop(fs.remove(&path));
            return Err(error);
        }
        let size = entries.len() as u64;
        if let Some(old) = self.file.replace(AckFile { id, file, size }) {
            // If it stays, its entries are as true as before.
            drop(fs.remove(&Name::Acks(old.id).path(dir)));
        }
        self.rewrite_at = None;
        self.dirty = false;
        Ok(())
    }

    /// Makes the file durable, as far as it works.
    pub(super) fn sync(&mut self) {
        if let Some(file) = self.file.as_ref().filter(|_| self.dirty) {
            self.dirty = false;
            if file.file.sync().is_err() {
                self.rewrite_at = Some(0);
            }
        }
    }
}
