use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use gw_core::ConfigError;
use serde_json::Value;

use super::accounts::Accounts;
use super::{DeadLetter, DeadLetters, KeepError};
use crate::batch::ClientId;
use crate::fs::{Fs, RealFs};
use crate::sink::{LinesFile, SharedLines};

/// Appends dead letters to a file, one JSON object a line ([`DeadLetter::to_json`]), synced before they count as kept.
///
/// One client's letters may take as much as is free, and never less than a sixty-fourth of the bound: one client alone gets
/// half of the file, two get a third each. What earlier processes left counts, so the file is read once.
///
/// On Unix the file is made for its owner alone, and so is its directory. After a loss of power in the middle of a write,
/// lines of that write may be damaged; they come again.
///
/// Who has dealt with the letters removes the file while no consumer writes to it. A consumer that is started anew in the same process
/// gets a clone, as of a [`FileSink`](crate::sink::FileSink).
#[derive(Debug, Clone)]
pub struct DeadLetterFile {
    file: SharedLines,
    max_bytes: u64,
    /// None until the file was read. Locked only while the file is.
    accounts: Arc<Mutex<Option<Accounts>>>,
}

const LEAST: u64 = 1024;

/// A letter with its room.
struct Line {
    /// Its place among the letters.
    index: usize,
    client: ClientId,
    text: Vec<u8>,
}

impl DeadLetterFile {
    /// Appends to this file, up to `max_bytes`, at least 1 KiB. It and its directory are made when they are needed.
    ///
    /// A letter is as large as its event and some hundred bytes more. One that is larger than the whole file is over its client's
    /// share.
    ///
    /// # Errors
    ///
    /// If `max_bytes` is less: it would hold hardly a letter, and each client's would be over its share.
    pub fn new(path: impl Into<PathBuf>, max_bytes: u64) -> Result<Self, ConfigError> {
        if max_bytes < LEAST {
            return Err(ConfigError::new("max_bytes", "must be at least 1 KiB"));
        }
        Ok(Self {
            file: SharedLines::new(RealFs::PRIVATE, path),
            max_bytes,
            accounts: Arc::default(),
        })
    }
}

impl DeadLetters for DeadLetterFile {
    async fn keep(&self, letters: &[DeadLetter]) -> Vec<Result<(), KeepError>> {
        let (accounts, max_bytes) = (Arc::clone(&self.accounts), self.max_bytes);
        let lines = letters.iter().enumerate().map(|(index, letter)| {
            let mut text = letter.to_json();
            text.push(b'\n');
            let client = letter.event().client().clone();
            Line {
                index,
                client,
                text,
            }
        });
        let lines: Vec<_> = lines.collect();
        let kept = self.file.with(move |file| {
            let mut accounts = accounts.lock().unwrap_or_else(PoisonError::into_inner);
            let accounts = match &mut *accounts {
                Some(accounts) => accounts,
                none => none.insert(read(file, max_bytes)?),
            };
            Ok(append(file, accounts, lines))
        });
        match kept.await {
            Ok(kept) => kept,
            Err(error) => {
                let error = KeepError::Failed(Arc::new(error));
                vec![Err(error); letters.len()]
            }
        }
    }
}

/// What the letters that are there take.
fn read<F: Fs>(file: &mut LinesFile<F>, max_bytes: u64) -> io::Result<Accounts> {
    let mut accounts = Accounts::new(max_bytes);
    file.read(|line| {
        let bytes = line.len() as u64;
        let letter: Option<Value> = serde_json::from_slice(line).ok();
        let client = letter.as_ref().and_then(|it| it.get("client")?.as_str());
        match client.and_then(|client| ClientId::new(client).ok()) {
            Some(client) => accounts.count(&client, bytes),
            // Somebody else wrote it, but it is there.
            None => accounts.count_foreign(bytes),
        }
    })?;
    Ok(accounts)
}

/// Appends the lines for which there is room, together. If that fails, fewer at a time: a disk that is full for all may take
/// some. One that takes not even one is not asked for the rest.
fn append<F: Fs>(
    file: &mut LinesFile<F>,
    accounts: &mut Accounts,
    lines: Vec<Line>,
) -> Vec<Result<(), KeepError>> {
    let mut kept = vec![Ok(()); lines.len()];
    let mut note = |index: usize, error: KeepError| {
        if let Some(kept) = kept.get_mut(index) {
            *kept = Err(error);
        }
    };
    let mut fitting = Vec::with_capacity(lines.len());
    for line in lines {
        match accounts.take(&line.client, line.text.len() as u64) {
            Ok(()) => fitting.push(line),
            Err(why) => note(line.index, why),
        }
    }
    let mut rest = fitting.as_slice();
    let mut step = rest.len();
    let mut failed = None;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(step.min(rest.len()));
        let texts: Vec<_> = now.iter().map(|line| line.text.as_slice()).collect();
        match file.append(&texts.concat()) {
            Ok(_) => rest = later,
            Err(error) if now.len() == 1 => {
                failed = Some(KeepError::Failed(Arc::new(error)));
                break;
            }
            Err(_) => step = now.len() / 2,
        }
    }
    if let Some(why) = failed {
        for line in rest {
            accounts.give_back(&line.client, line.text.len() as u64);
            note(line.index, why.clone());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::sim::{Op, SimFs};

    /// Letters of hundred bytes each.
    fn lines(clients: &[&str]) -> Vec<Line> {
        let line = |(index, client): (usize, &&str)| {
            let text = format!("{{\"client\":\"{client}\",\"n\":{index}");
            let text = format!("{text:<98}}}\n").into_bytes();
            let client = ClientId::new(client).unwrap();
            Line {
                index,
                client,
                text,
            }
        };
        clients.iter().enumerate().map(line).collect()
    }

    /// What became of each: `.` kept, `f` full, `s` over the share, `x` failed.
    fn outcomes(kept: &[Result<(), KeepError>]) -> String {
        let letter = |kept: &Result<(), KeepError>| match kept {
            Ok(()) => '.',
            Err(KeepError::Full) => 'f',
            Err(KeepError::OverShare) => 's',
            Err(KeepError::Failed(_)) => 'x',
        };
        kept.iter().map(letter).collect()
    }

    fn stored(fs: &SimFs) -> usize {
        let mut lines = LinesFile::with(fs.clone(), "dir/dead");
        let mut count = 0;
        lines.read(|_| count += 1).unwrap();
        count
    }

    #[test]
    fn a_disk_that_takes_some_gets_some() {
        let fs = SimFs::default();
        let mut file = LinesFile::with(fs.clone(), "dir/dead");
        let mut accounts = read(&mut file, 1 << 20).unwrap();
        fs.set_space(Some(1_250));
        let kept = append(&mut file, &mut accounts, lines(&["a"; 20]));
        assert_eq!(outcomes(&kept), "............xxxxxxxx");
        assert_eq!(stored(&fs), 12);
        // What was not kept takes no room of the client's.
        fs.set_space(None);
        let kept = append(&mut file, &mut accounts, lines(&["a"; 3]));
        assert_eq!(outcomes(&kept), "...");
        assert_eq!(stored(&fs), 15);
    }

    #[test]
    fn a_dead_disk_is_not_asked_for_each_letter() {
        let fs = SimFs::default();
        let mut file = LinesFile::with(fs.clone(), "dir/dead");
        let mut accounts = read(&mut file, 1 << 20).unwrap();
        fs.fail(Op::Write, 0, usize::MAX);
        let kept = append(&mut file, &mut accounts, lines(&["a"; 1_000]));
        assert!(outcomes(&kept).chars().all(|outcome| outcome == 'x'));
        let writes = fs.trace().iter().filter(|op| **op == Op::Write).count();
        assert!(writes <= 11, "{writes}");
    }

    /// What was there before: the share of each client begins anew with no process, and lines of others count.
    #[test]
    fn what_earlier_processes_left_counts() {
        let fs = SimFs::default();
        let mut file = LinesFile::with(fs.clone(), "dir/dead");
        file.append(&vec![b'x'; 70_000]).unwrap();
        file.append(b"\n").unwrap();
        for line in lines(&["a", "a", "a", "b", "a"]) {
            file.append(&line.text).unwrap();
        }
        let mut file = LinesFile::with(fs, "dir/dead");
        let mut accounts = read(&mut file, 70_001 + 1_000).unwrap();
        let kept = append(
            &mut file,
            &mut accounts,
            lines(&["a", "c", "b", "c", "a", "d"]),
        );
        // Free are 500: a holds 400 of its 500, and so on with what each letter leaves.
        assert_eq!(outcomes(&kept), ".....f");
    }
}
