//! A file of lines that is only ever longer by whole, durable pieces.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::spawn_blocking;

use crate::fs::{File, Fs, RealFs, parent, read_full, write_all};

/// How much is read at once when looking for the end of the last whole line.
const BLOCK: usize = 64 * 1024;

/// Appends lines to a file. Each call may block.
#[derive(Debug)]
pub(crate) struct LinesFile<F: Fs = RealFs> {
    fs: F,
    path: PathBuf,
    /// Where the durable lines end in the file that was last used; `None` until one was looked at.
    end: Option<u64>,
    /// `None` before the first use and after a failure. A file whose sync has failed is never synced again by the same
    /// handle: the kernel may have thrown the bytes away and call them clean.
    file: Option<F::File>,
}

/// A [`LinesFile`] for tasks, which must not block. Clones share the file.
#[derive(Debug, Clone)]
pub(crate) struct SharedLines(Arc<Mutex<LinesFile>>);

impl SharedLines {
    pub(crate) fn new(fs: RealFs, path: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Mutex::new(LinesFile::with(fs, path))))
    }

    /// Does this with the file where blocking is allowed. If the future is dropped, it is done all the same.
    pub(crate) async fn with<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut LinesFile) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let file = Arc::clone(&self.0);
        let acting = spawn_blocking(move || {
            // A panic inside leaves a file that is opened anew: nothing of it is trusted.
            act(&mut file.lock().unwrap_or_else(PoisonError::into_inner))
        });
        acting.await.map_err(io::Error::other)?
    }
}

impl<F: Fs> LinesFile<F> {
    pub(crate) fn with(fs: F, path: impl Into<PathBuf>) -> Self {
        Self {
            fs,
            path: path.into(),
            end: None,
            file: None,
        }
    }

    /// Gives each of the durable lines to `found`, with its line break.
    pub(crate) fn read(&mut self, mut found: impl FnMut(&[u8])) -> io::Result<()> {
        let (file, end) = self.open()?;
        let mut block = vec![0; BLOCK];
        let mut begun = Vec::new();
        let mut at = 0;
        while at < end {
            let wanted = (end - at).min(BLOCK as u64) as usize;
            let buffer = block.get_mut(..wanted).unwrap_or_default();
            let read = read_full(&file, buffer, at)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            at += read as u64;
            let pieces = buffer.get(..read).unwrap_or_default();
            for piece in pieces.split_inclusive(|byte| *byte == b'\n') {
                begun.extend_from_slice(piece);
                if piece.ends_with(b"\n") {
                    found(&begun);
                    begun.clear();
                }
            }
        }
        self.file = Some(file);
        Ok(())
    }

    /// Appends whole lines and returns the new length once they are durable. After an error none of them is there, or
    /// will be removed before the next are written.
    pub(crate) fn append(&mut self, lines: &[u8]) -> io::Result<u64> {
        let (file, end) = self.open()?;
        let written = write_all(&file, lines, end).and_then(|()| file.sync());
        written?;
        let end = end + lines.len() as u64;
        self.end = Some(end);
        self.file = Some(file);
        Ok(end)
    }

    /// The file, taken out: whoever fails with it does not put it back.
    fn open(&mut self) -> io::Result<(F::File, u64)> {
        if let (Some(file), Some(end)) = (self.file.take(), self.end) {
            return Ok((file, end));
        }
        let file = match self.fs.open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.create()?,
            other => other?,
        };
        let len = file.len()?;
        let end = match self.end {
            Some(end) if end <= len => end,
            // Also if it is shorter than it was: then it is another file, since somebody moved the old one away.
            _ => whole_lines(&file, len)?,
        };
        // What stands behind is the rest of a write that failed, or of a process that died.
        file.set_len(end)?;
        file.sync()?;
        // Without this the file itself may be gone after a loss of power; also if an earlier process made it and died.
        self.fs.sync_dir(parent(&self.path))?;
        self.end = Some(end);
        Ok((file, end))
    }

    fn create(&self) -> io::Result<F::File> {
        self.fs.create_dir(parent(&self.path))?;
        self.fs.create(&self.path)
    }
}

/// Where the last whole line of a file ends that is so long.
fn whole_lines(file: &impl File, len: u64) -> io::Result<u64> {
    let mut end = len;
    let mut block = vec![0; BLOCK];
    while end > 0 {
        let start = end.saturating_sub(BLOCK as u64);
        let wanted = (end - start) as usize;
        let buffer = block.get_mut(..wanted).unwrap_or_default();
        let read = read_full(file, buffer, start)?;
        let found = buffer.iter().take(read).rposition(|byte| *byte == b'\n');
        if let Some(place) = found {
            return Ok(start + place as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::fs::sim::{Loss, Op, SimFs};

    #[test]
    fn what_is_not_a_whole_line_is_removed_before_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/lines");
        let mut lines = LinesFile::with(RealFs::PRIVATE, &path);
        assert_eq!(lines.append(b"one\ntwo\n").unwrap(), 8);
        assert_eq!(lines.append(b"three\n").unwrap(), 14);
        // A process that died in the middle of a long line.
        let torn = "x".repeat(200_000);
        fs::write(&path, format!("one\ntwo\nthree\n{torn}")).unwrap();
        let mut lines = LinesFile::with(RealFs::PRIVATE, &path);
        assert_eq!(lines.append(b"four\n").unwrap(), 19);
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "one\ntwo\nthree\nfour\n"
        );
        fs::write(&path, &torn).unwrap();
        assert_eq!(
            LinesFile::with(RealFs::PRIVATE, &path)
                .append(b"five\n")
                .unwrap(),
            5
        );
    }

    #[test]
    fn lines_are_read_one_by_one() {
        let fs = SimFs::default();
        let mut lines = LinesFile::with(fs.clone(), "dir/lines");
        let mut written = Vec::new();
        for length in [0, 1, BLOCK - 4, BLOCK, 3 * BLOCK, 5] {
            written.push([&vec![b'x'; length][..], b"\n"].concat());
        }
        lines.append(&written.concat()).unwrap();
        for mut lines in [lines, LinesFile::with(fs, "dir/lines")] {
            let mut found = Vec::new();
            lines.read(|line| found.push(line.to_vec())).unwrap();
            assert_eq!(found, written);
        }
    }

    #[test]
    fn an_unwritable_place_is_an_error_and_later_not() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let path = dir.path().join("file/lines");
        let mut lines = LinesFile::with(RealFs::PRIVATE, &path);
        assert!(lines.append(b"one\n").is_err());
        fs::remove_file(dir.path().join("file")).unwrap();
        assert_eq!(lines.append(b"one\n").unwrap(), 4);
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\n");
    }

    fn content(fs: &SimFs) -> String {
        let Ok(file) = fs.open(Path::new("dir/lines")) else {
            return String::new();
        };
        let mut bytes = vec![0; file.len().unwrap() as usize];
        read_full(&file, &mut bytes, 0).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[test]
    fn a_file_whose_sync_failed_is_opened_anew() {
        let fs = SimFs::default();
        let mut lines = LinesFile::with(fs.clone(), "dir/lines");
        lines.append(b"one\n").unwrap();
        fs.fail(Op::Sync, 0, 1);
        assert!(lines.append(b"two\n").is_err());
        fs.heal();
        assert_eq!(lines.append(b"three\n").unwrap(), 10);
        fs.crash(Loss::Everything);
        assert_eq!(content(&fs), "one\nthree\n");
    }

    /// Story: the disk was full, somebody moved the file away, and the new one began with as many zeros as the old one had bytes.
    #[test]
    fn a_file_that_was_moved_away_after_a_failure_begins_anew() {
        let fs = SimFs::default();
        let mut lines = LinesFile::with(fs.clone(), "dir/lines");
        lines.append(b"one\n").unwrap();
        fs.fail(Op::Write, 0, 1);
        assert!(lines.append(b"two\n").is_err());
        fs.rename(Path::new("dir/lines"), Path::new("dir/old"))
            .unwrap();
        assert_eq!(lines.append(b"three\n").unwrap(), 6);
        assert_eq!(content(&fs), "three\n");
    }

    #[test]
    fn a_file_that_a_killed_process_made_is_made_durable() {
        let fs = SimFs::default();
        fs.fail(Op::SyncDir, 0, 1);
        assert!(
            LinesFile::with(fs.clone(), "dir/lines")
                .append(b"one\n")
                .is_err()
        );
        fs.kill();
        assert!(
            LinesFile::with(fs.clone(), "dir/lines")
                .append(b"two\n")
                .is_ok()
        );
        fs.crash(Loss::Everything);
        assert_eq!(content(&fs), "two\n");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// Whatever fails and whenever the power goes: what was reported as durable is there, in order.
        #[test]
        fn durable_lines_survive(
            steps in prop::collection::vec((0..6_u8, 1..900_usize), 1..20),
            loss: u64,
        ) {
            let fs = SimFs::default();
            let mut lines = LinesFile::with(fs.clone(), "dir/lines");
            let mut durable = Vec::new();
            for (number, (step, length)) in steps.into_iter().enumerate() {
                match step {
                    0 => fs.fail(Op::Sync, 0, 1),
                    1 => fs.fail(Op::Write, 0, 1),
                    2 => {
                        fs.crash(Loss::Seed(loss ^ number as u64));
                        lines = LinesFile::with(fs.clone(), "dir/lines");
                    }
                    _ => {
                        let line = format!("{number}{}\n", "x".repeat(length));
                        if lines.append(line.as_bytes()).is_ok() {
                            durable.push(line);
                        }
                    }
                }
            }
            fs.crash(Loss::Seed(loss));
            let content = content(&fs);
            let mut rest = content.as_str();
            for line in &durable {
                let at = rest.find(line.as_str());
                prop_assert!(at.is_some(), "{line:?} is not in {content:?}");
                rest = &rest[at.unwrap() + line.len()..];
            }
        }
    }
}
