//! One file of the log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::time::Instant;

use super::log::Unreadable;
use super::record::{LONGEST_SEGMENT, SEGMENT_HEAD, put_head};
use crate::fs::{File as _, Fs, read_full, write_all};

/// The greatest id of a segment: tickets are counted from it, and from the one after it.
pub(super) const LAST_SEGMENT: u64 = u32::MAX as u64 - 1;

/// What is read at once where the device does not give all: systems read files by pages of this size.
const BLOCK: usize = 4096;

/// So many blocks may be lost until the rest of the file is not asked for. Each may take a failing device seconds, while the queue
/// is not open yet.
const MOST_LOST: usize = 256;

/// A segment in the table of the log.
#[derive(Debug)]
pub(super) struct Segment<F: Fs> {
    pub(super) name: Name,
    pub(super) file: Arc<F::File>,
    /// The bytes that it takes on disk. For the one that is written to, those written so far: the rest is reserved.
    pub(super) size: u64,
    /// Bytes of records that are not yet delivered; more if the device did not give all of the file, so that it stays.
    pub(super) live: u64,
    /// No ticket in it is below this.
    pub(super) first: u64,
    /// No ticket in it is above this.
    pub(super) last: u64,
    /// Whether there is damage, so that it is kept aside instead of being removed.
    pub(super) broken: bool,
    /// Whether a write or a sync failed: what reads show behind the confirmed records may be in memory alone.
    pub(super) failed: bool,
    /// Whether the device gave errors, so that nothing is copied from it.
    pub(super) stuck: bool,
    /// When a batch of it was last delivered, or when it was made or found.
    pub(super) touched: Instant,
}

/// What a name in the directory means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    Segment(u64),
    /// A segment in which a write or a sync failed. The name is for a process that starts before the power has gone: until
    /// then reads may show records that are in memory alone, so that a copy elsewhere is the one to trust.
    Failed(u64),
    Acks(u64),
    /// A segment that was set aside.
    Broken(u64),
}

impl Name {
    /// What it means, if it is one that a queue gives: there is an id after each of them.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let number = |digits: &str| {
            let plain = digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit());
            u64::from_str_radix(digits, 16).ok().filter(|_| plain)
        };
        if let Some(rest) = name.strip_prefix("segment-") {
            let id = |digits| number(digits).filter(|id| *id <= LAST_SEGMENT);
            return if let Some(digits) = rest.strip_suffix(".log.broken") {
                id(digits).map(Self::Broken)
            } else if let Some(digits) = rest.strip_suffix(".log.failed") {
                id(digits).map(Self::Failed)
            } else {
                id(rest.strip_suffix(".log")?).map(Self::Segment)
            };
        }
        let id = number(name.strip_prefix("acks-")?.strip_suffix(".log")?);
        id.filter(|id| *id < u64::MAX).map(Self::Acks)
    }

    pub(super) fn path(self, dir: &Path) -> PathBuf {
        dir.join(match self {
            Self::Segment(id) => format!("segment-{id:016x}.log"),
            Self::Failed(id) => format!("segment-{id:016x}.log.failed"),
            Self::Acks(id) => format!("acks-{id:016x}.log"),
            Self::Broken(id) => format!("segment-{id:016x}.log.broken"),
        })
    }
}

impl<F: Fs> Segment<F> {
    /// A new file with reserved space, whose head and name are durable before it is returned.
    pub(super) fn create(fs: &F, dir: &Path, id: u64, base: u64, len: u64) -> io::Result<Self> {
        let name = Name::Segment(id);
        let path = name.path(dir);
        let file = fs.create(&path)?;
        let prepare = || {
            file.reserve(len)?;
            let mut head = Vec::new();
            put_head(&mut head, id, base);
            write_all(&file, &head, 0)?;
            file.sync()?;
            fs.sync_dir(dir)
        };
        if let Err(error) = prepare() {
            // If it stays, the next start finds it without a record and removes it.
            drop(fs.remove(&path));
            return Err(error);
        }
        Ok(Self {
            name,
            file: Arc::new(file),
            size: SEGMENT_HEAD,
            live: 0,
            first: base,
            last: 0,
            broken: false,
            failed: false,
            stuck: false,
            touched: Instant::now(),
        })
    }

    /// A record of it could not be read.
    pub(super) const fn unreadable(&mut self, why: Unreadable) {
        match why {
            Unreadable::Damaged => self.broken = true,
            Unreadable::Device | Unreadable::Panicked => self.stuck = true,
        }
    }
}

/// The whole of a file.
pub(super) fn read_whole<F: Fs>(file: &F::File, buf: &mut Vec<u8>) -> io::Result<()> {
    allocate::<F>(file, buf)?;
    let read = read_full(file, buf, 0)?;
    buf.truncate(read);
    Ok(())
}

/// As much of a file as the device gives, with zeros for what it does not. Whether that is the whole file.
pub(super) fn read_given<F: Fs>(file: &F::File, buf: &mut Vec<u8>) -> io::Result<bool> {
    if read_whole::<F>(file, buf).is_ok() {
        return Ok(true);
    }
    allocate::<F>(file, buf)?;
    let mut lost = 0;
    for (place, block) in buf.chunks_mut(BLOCK).enumerate() {
        if lost < MOST_LOST && read_full(file, block, (place * BLOCK) as u64).is_err() {
            block.fill(0);
            lost += 1;
        }
    }
    Ok(false)
}

/// Makes the buffer as long as the file, with zeros.
fn allocate<F: Fs>(file: &F::File, buf: &mut Vec<u8>) -> io::Result<()> {
    let len = file.len()?;
    if len > LONGEST_SEGMENT {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    buf.clear();
    buf.resize(len as usize, 0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_made() {
        for name in [
            Name::Segment(0),
            Name::Failed(7),
            Name::Acks(u64::MAX - 1),
            Name::Broken(LAST_SEGMENT),
        ] {
            let path = name.path(Path::new("dir"));
            let text = path.file_name().unwrap().to_str().unwrap();
            assert_eq!(Name::parse(text), Some(name));
        }
        for name in [
            "lock",
            "segment-1.log",
            "segment-+00000000000000f.log",
            "segment-00000000ffffffff.log",
            "acks-0000000000000001",
            "acks-ffffffffffffffff.log",
            "",
        ] {
            assert_eq!(Name::parse(name), None, "{name}");
        }
    }
}
