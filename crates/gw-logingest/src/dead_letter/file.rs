use std::path::PathBuf;

use super::{DeadLetter, DeadLetters, KeepError};
use crate::fs::RealFs;
use crate::sink::SharedLines;

/// Appends dead letters to a file, one JSON object a line ([`DeadLetter::to_json`]), synced before they count as kept.
///
/// After a loss of power in the middle of a write, lines of that write may be damaged; they come again.
///
/// Who has dealt with the letters removes the file while no consumer writes to it.
#[derive(Debug, Clone)]
pub struct DeadLetterFile {
    file: SharedLines,
    max_bytes: u64,
}

impl DeadLetterFile {
    /// Appends to this file, up to `max_bytes`. It and its directory are made when they are needed.
    pub fn new(path: impl Into<PathBuf>, max_bytes: u64) -> Self {
        Self {
            file: SharedLines::new(RealFs::PRIVATE, path),
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
        let max_bytes = self.max_bytes;
        let appended = self.file.with(move |file| {
            let fits = file.len()?.saturating_add(lines.len() as u64) <= max_bytes;
            if fits {
                file.append(&lines)?;
            }
            Ok(fits)
        });
        match appended.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(KeepError::Full),
            Err(error) => Err(KeepError::Failed(error)),
        }
    }
}
