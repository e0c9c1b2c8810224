use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::spawn_blocking;

use super::{DeadLetter, DeadLetters, KeepError};
use crate::sink::LinesFile;

/// Appends dead letters to a file, one JSON object a line ([`DeadLetter::to_json`]), synced before they count as kept.
///
/// After a loss of power in the middle of a write, lines of that write may be damaged; they come again.
///
/// Who has dealt with the letters removes the file while no consumer writes to it.
#[derive(Debug, Clone)]
pub struct DeadLetterFile {
    file: Arc<Mutex<LinesFile>>,
    max_bytes: u64,
}

impl DeadLetterFile {
    /// Appends to this file, up to `max_bytes`. It and its directory are made when they are needed.
    pub fn new(path: impl Into<PathBuf>, max_bytes: u64) -> Self {
        Self {
            file: Arc::new(Mutex::new(LinesFile::new(path))),
            max_bytes,
        }
    }
}

impl DeadLetters for DeadLetterFile {
    async fn keep(&self, letters: &[DeadLetter]) -> Result<(), KeepError> {
        let mut lines = Vec::new();
        for letter in letters {
            lines.extend_from_slice(&letter.to_json());
            lines.push(b'\n');
        }
        let (file, max_bytes) = (self.file.clone(), self.max_bytes);
        let append = move || {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            let length = file.len().map_err(KeepError::Failed)?;
            if length.saturating_add(lines.len() as u64) > max_bytes {
                return Err(KeepError::Full);
            }
            file.append(&lines).map_err(KeepError::Failed)?;
            Ok(())
        };
        let done = spawn_blocking(append).await;
        done.unwrap_or_else(|error| Err(KeepError::Failed(std::io::Error::other(error))))
    }
}
