use std::ffi::OsString;
use std::path::{Path, PathBuf};

use gw_logingest::ConfigError;
use gw_logingest::dead_letter::{DeadLetter, DeadLetterFile, DeadLetters, KeepError};

use crate::config::table;

/// As much as somebody can look through. At the bound delivery pauses: nothing is lost, and somebody has to look.
const MAX_BYTES: u64 = 64 << 20;

/// Where events go that the sink will never take.
#[derive(Debug)]
pub(super) enum Letters {
    File(DeadLetterFile),
    /// A queue in memory promises nothing, and has no place that would: they are counted.
    Counted,
}

impl Letters {
    /// Beside the directory of the queue.
    pub(super) fn beside(written: &table::LogQueue) -> Result<Self, ConfigError> {
        match written {
            table::LogQueue::Disk(queue) => {
                DeadLetterFile::new(file(&queue.dir), MAX_BYTES).map(Self::File)
            }
            _ => Ok(Self::Counted),
        }
    }
}

/// `log-queue.dead.ndjson` for `log-queue`; inside the directory if that has no name of its own.
fn file(queue: &Path) -> PathBuf {
    const ENDING: &str = "dead.ndjson";
    match queue.file_name() {
        Some(name) => {
            let mut name = OsString::from(name);
            name.push(".");
            name.push(ENDING);
            queue.with_file_name(name)
        }
        None => queue.join(ENDING),
    }
}

impl DeadLetters for Letters {
    async fn keep(&self, letters: &[DeadLetter]) -> Vec<Result<(), KeepError>> {
        match self {
            Self::File(file) => file.keep(letters).await,
            Self::Counted => vec![Ok(()); letters.len()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_lies_beside_the_directory() {
        let places = [
            ("/var/gw/log-queue", "/var/gw/log-queue.dead.ndjson"),
            ("logs", "logs.dead.ndjson"),
            ("/", "/dead.ndjson"),
            ("..", "../dead.ndjson"),
        ];
        for (queue, letters) in places {
            assert_eq!(file(Path::new(queue)), Path::new(letters));
        }
    }
}
