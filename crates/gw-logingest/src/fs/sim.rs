//! A file system in memory that forgets what was not synced, for tests.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test support"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{File, Fs};

const SECTOR: usize = 512;

/// A disk. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct SimFs {
    disk: Arc<Mutex<Disk>>,
}

/// An open file of a [`SimFs`].
#[derive(Debug)]
pub(crate) struct SimFile {
    fs: SimFs,
    node: u64,
}

/// The lock of a directory.
#[derive(Debug)]
pub(crate) struct SimLock {
    fs: SimFs,
}

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Create,
    Read,
    Write,
    Sync,
    Reserve,
    SetLen,
    Rename,
    Remove,
    SyncDir,
}

/// What a loss of power takes, of what was not synced.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Loss {
    /// All of it.
    Everything,
    /// Nothing, as when only the process ends.
    Nothing,
    /// Each sector, length and name is kept, lost or torn as this number says.
    Seed(u64),
    /// The unit with number n is lost if bit n is set.
    Mask(u64),
}

#[derive(Debug, Default)]
struct Disk {
    nodes: BTreeMap<u64, Node>,
    /// As the process sees them.
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    /// Changes of names since the last sync of the directory.
    renamed: Vec<NameOp>,
    next_node: u64,
    locked: bool,
    /// All calls that changed something, in order.
    trace: Vec<Op>,
    /// After so many calls that change something, the power is off.
    cut: Option<usize>,
    faults: Vec<Fault>,
    /// The next call of this kind is the end of its thread.
    panic: Option<Op>,
    space: Option<usize>,
    short_writes: bool,
}

#[derive(Debug, Default)]
struct Node {
    seen: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
    dirty_len: bool,
    /// The device does not give these bytes, nor any that are asked for together with them.
    bad: Range<usize>,
}

#[derive(Debug, Clone)]
enum NameOp {
    Create(PathBuf, u64),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

#[derive(Debug)]
struct Fault {
    op: Op,
    skip: usize,
    times: usize,
}

impl SimFs {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        // A call that was told to panic leaves the disk as it was.
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The power goes after so many more calls that change something, unless it is off already.
    pub(crate) fn cut_after(&self, calls: usize) {
        let mut disk = self.disk();
        let now = disk.trace.len();
        let off = disk.cut.filter(|cut| *cut <= now);
        disk.cut = off.or(Some(now + calls));
    }

    /// Of the calls of this kind, so many succeed and then so many fail.
    pub(crate) fn fail(&self, op: Op, skip: usize, times: usize) {
        self.disk().faults.push(Fault { op, skip, times });
    }

    /// The next call of this kind panics.
    pub(crate) fn panic(&self, op: Op) {
        self.disk().panic = Some(op);
    }

    /// No more faults.
    pub(crate) fn heal(&self) {
        self.disk().faults.clear();
    }

    /// The bytes that fit on the disk.
    pub(crate) fn set_space(&self, bytes: Option<usize>) {
        self.disk().space = bytes;
    }

    /// Writes of more than a sector write only a part.
    pub(crate) fn write_short(&self) {
        self.disk().short_writes = true;
    }

    /// The calls that changed something so far.
    pub(crate) fn trace(&self) -> Vec<Op> {
        self.disk().trace.clone()
    }

    /// The bytes of all files.
    pub(crate) fn used(&self) -> usize {
        self.disk().used()
    }

    /// The files, as the process sees them.
    pub(crate) fn files(&self) -> Vec<(String, usize)> {
        let disk = self.disk();
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        disk.names
            .iter()
            .map(|(path, node)| (name(path), disk.nodes[node].seen.len()))
            .collect()
    }

    /// Changes bytes of a file behind everybody's back, durably.
    pub(crate) fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut disk = self.disk();
        let node = disk.names[path];
        let node = disk.nodes.get_mut(&node).unwrap();
        change(&mut node.seen);
        node.durable = node.seen.clone();
        node.dirty.clear();
        node.dirty_len = false;
    }

    /// The device no longer gives these bytes of a file; with an empty range it does again.
    pub(crate) fn spoil(&self, path: &Path, bad: Range<usize>) {
        let mut disk = self.disk();
        let node = disk.names[path];
        disk.nodes.get_mut(&node).unwrap().bad = bad;
    }

    /// How many units a loss of power decides on, see [`Loss::Mask`].
    pub(crate) fn unsynced(&self) -> usize {
        let disk = self.disk();
        let units = |node: &Node| node.dirty.len() + usize::from(node.dirty_len);
        disk.nodes.values().map(units).sum::<usize>() + disk.renamed.len()
    }

    /// The process ends and the power stays: what was written is there, synced or not, and so is what a failed sync left
    /// in memory alone.
    pub(crate) fn kill(&self) {
        let mut disk = self.disk();
        disk.cut = None;
        disk.faults.clear();
        disk.locked = false;
    }

    /// The power goes and comes back.
    pub(crate) fn crash(&self, loss: Loss) {
        let mut disk = self.disk();
        let mut random = match loss {
            Loss::Seed(seed) => fastrand::Rng::with_seed(seed),
            _ => fastrand::Rng::with_seed(0),
        };
        let mut unit = 0;
        // None: torn.
        let mut kept = || {
            unit += 1;
            match loss {
                Loss::Everything => Some(false),
                Loss::Nothing => Some(true),
                Loss::Mask(mask) => Some(mask >> (unit - 1) & 1 == 0),
                Loss::Seed(_) => match random.u8(..5) {
                    0 | 1 => Some(true),
                    2 | 3 => Some(false),
                    _ => None,
                },
            }
        };
        for node in disk.nodes.values_mut() {
            let dirty: Vec<_> = node.dirty.iter().map(|sector| (*sector, kept())).collect();
            if node.dirty_len && kept() != Some(false) {
                node.durable.resize(node.seen.len(), 0);
            }
            for (sector, kept) in dirty {
                let start = sector * SECTOR;
                let keep = match kept {
                    Some(true) => SECTOR,
                    Some(false) => 0,
                    None => 24 + sector % 200,
                };
                let end = (start + keep).min(node.seen.len()).min(node.durable.len());
                if start < end {
                    let (durable, seen) = (&mut node.durable, &node.seen);
                    durable[start..end].copy_from_slice(&seen[start..end]);
                }
            }
            node.seen = node.durable.clone();
            node.dirty.clear();
            node.dirty_len = false;
        }
        let mut names = std::mem::take(&mut disk.durable_names);
        for op in std::mem::take(&mut disk.renamed) {
            if kept() == Some(true) {
                op.apply(&mut names);
            }
        }
        disk.durable_names = names.clone();
        disk.names = names;
        let reachable: BTreeSet<_> = disk.names.values().copied().collect();
        disk.nodes.retain(|node, _| reachable.contains(node));
        disk.cut = None;
        disk.faults.clear();
        disk.locked = false;
    }
}

impl NameOp {
    fn apply(self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Create(path, node) => drop(names.insert(path, node)),
            Self::Rename(from, to) => {
                if let Some(node) = names.remove(&from) {
                    names.insert(to, node);
                }
            }
            Self::Remove(path) => drop(names.remove(&path)),
        }
    }
}

impl Disk {
    fn used(&self) -> usize {
        let open: BTreeSet<_> = self.names.values().collect();
        open.iter().map(|node| self.nodes[node].seen.len()).sum()
    }

    fn powered(&self) -> io::Result<()> {
        match self.cut {
            Some(cut) if self.trace.len() >= cut => Err(io::Error::other("the power is off")),
            _ => Ok(()),
        }
    }

    /// Counts the call, and fails it if the power is off or a fault is due.
    fn enter(&mut self, op: Op) -> io::Result<()> {
        self.powered()?;
        if self.panic.take_if(|at| *at == op).is_some() {
            panic!("{op:?} panics");
        }
        if op != Op::Read {
            self.trace.push(op);
        }
        for fault in self.faults.iter_mut().filter(|fault| fault.op == op) {
            if fault.skip > 0 {
                fault.skip -= 1;
            } else if fault.times > 0 {
                fault.times -= 1;
                return Err(io::Error::other("input/output error"));
            }
        }
        Ok(())
    }

    fn rename(&mut self, op: NameOp) {
        op.clone().apply(&mut self.names);
        self.renamed.push(op);
    }

    fn node(&self, path: &Path) -> io::Result<u64> {
        self.names
            .get(path)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The content of an open file.
    fn file(&mut self, node: u64) -> io::Result<&mut Node> {
        let content = self.nodes.get_mut(&node);
        content.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn resize(&mut self, node: u64, op: Op, len: u64) -> io::Result<()> {
        self.enter(op)?;
        self.grow(node, len as usize)?;
        self.file(node)?.set_len(len as usize);
        Ok(())
    }

    /// Whether there is space for the file to be so long.
    fn grow(&self, node: u64, len: usize) -> io::Result<()> {
        let more = len.saturating_sub(self.nodes[&node].seen.len());
        match self.space {
            Some(space) if more > 0 && self.used() + more > space => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }
}

impl Node {
    fn set_len(&mut self, len: usize) {
        if self.seen.len() != len {
            self.seen.resize(len, 0);
            self.dirty.retain(|sector| sector * SECTOR < len);
            self.dirty_len = true;
        }
    }
}

impl Fs for SimFs {
    type File = SimFile;
    type Lock = SimLock;

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _: &Path) -> io::Result<SimLock> {
        let mut disk = self.disk();
        if std::mem::replace(&mut disk.locked, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(SimLock { fs: self.clone() })
    }

    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        Ok(self.files().into_iter().map(|(name, _)| name).collect())
    }

    fn create(&self, path: &Path) -> io::Result<SimFile> {
        let mut disk = self.disk();
        disk.enter(Op::Create)?;
        if disk.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        disk.next_node += 1;
        let node = disk.next_node;
        disk.nodes.insert(node, Node::default());
        disk.rename(NameOp::Create(path.to_path_buf(), node));
        let fs = self.clone();
        Ok(SimFile { fs, node })
    }

    fn open(&self, path: &Path) -> io::Result<SimFile> {
        let mut disk = self.disk();
        disk.enter(Op::Read)?;
        let node = disk.node(path)?;
        let fs = self.clone();
        Ok(SimFile { fs, node })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.enter(Op::Rename)?;
        disk.node(from)?;
        disk.rename(NameOp::Rename(from.to_path_buf(), to.to_path_buf()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.enter(Op::Remove)?;
        disk.node(path)?;
        disk.rename(NameOp::Remove(path.to_path_buf()));
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.enter(Op::SyncDir)?;
        disk.durable_names = disk.names.clone();
        disk.renamed.clear();
        Ok(())
    }
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut disk = self.fs.disk();
        disk.enter(Op::Read)?;
        let node = disk.file(self.node)?;
        let rest = node.seen.get(offset as usize..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        let start = offset as usize;
        if start.max(node.bad.start) < (start + n).min(node.bad.end) {
            return Err(io::Error::other("input/output error"));
        }
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let mut disk = self.fs.disk();
        disk.enter(Op::Write)?;
        let n = if disk.short_writes && buf.len() > SECTOR {
            buf.len() / 2
        } else {
            buf.len()
        };
        let start = offset as usize;
        disk.grow(self.node, start + n)?;
        let node = disk.file(self.node)?;
        if start + n > node.seen.len() {
            node.set_len(start + n);
        }
        node.seen[start..start + n].copy_from_slice(&buf[..n]);
        node.dirty
            .extend(start / SECTOR..(start + n).div_ceil(SECTOR));
        Ok(n)
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.fs.disk();
        disk.powered()?;
        let entered = disk.enter(Op::Sync);
        let node = disk.file(self.node)?;
        if entered.is_ok() {
            node.durable = node.seen.clone();
        }
        // After an error the pages count as clean although they never reached the disk.
        node.dirty.clear();
        node.dirty_len = false;
        entered
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        self.fs.disk().resize(self.node, Op::Reserve, len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.fs.disk().resize(self.node, Op::SetLen, len)
    }

    fn len(&self) -> io::Result<u64> {
        let mut disk = self.fs.disk();
        let node = disk.file(self.node)?;
        Ok(node.seen.len() as u64)
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.fs.disk().locked = false;
    }
}
