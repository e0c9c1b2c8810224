//! The file as text: bounded, and able to say on which line an offset is.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use super::error::ConfigError;
use super::secrets::without_secrets;

/// Largest file that is read, in bytes. The contract file has 10 KiB; a megabyte is thousands of
/// routes.
pub(super) const MAX_BYTES: usize = 1 << 20;
const TOO_LARGE: &str = "is larger than 1 MiB: this is not a configuration file";

/// Name and text of one configuration file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'t> {
    pub name: &'t str,
    pub text: &'t str,
}

impl<'t> Source<'t> {
    /// Refuses text that cannot be a configuration file before a parser sees it.
    pub(super) fn new(name: &'t str, text: &'t str) -> Result<Self, ConfigError> {
        let source = Self { name, text };
        if text.len() > MAX_BYTES {
            return Err(source.whole(TOO_LARGE));
        }
        match text.find('\0') {
            Some(offset) => Err(source.error(
                offset,
                String::new(),
                "holds a NUL byte: this is not a text file",
            )),
            None => Ok(source),
        }
    }

    /// An error at a byte offset of the text.
    pub(super) fn error(
        &self,
        offset: usize,
        key: String,
        message: impl Into<String>,
    ) -> ConfigError {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let rest = self.text.get(line_start..).unwrap_or_default();
        let line = rest.split('\n').next().unwrap_or_default();
        let line_end = line_start + line.trim_end_matches('\r').len();
        let visible = |text: &str| text.trim_start_matches('\u{feff}').to_owned();
        let head = before.get(line_start..).unwrap_or_default();
        ConfigError {
            file: self.name.to_owned(),
            line: before.matches('\n').count() + 1,
            column: visible(head).chars().count() + 1,
            key,
            message: message.into(),
            source_line: Some(visible(&without_secrets(self.text, line_start..line_end))),
        }
    }

    /// An error of the file as a whole.
    fn whole(&self, message: &str) -> ConfigError {
        whole_file(self.name, message)
    }
}

/// Reads a file that may be anything, also a pipe that a shell has made.
pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    text_of(path, read_bytes(path, MAX_BYTES))
}

/// The same of a regular file alone: one that the configuration names must not hold up the start.
pub(super) fn read_regular(path: &Path) -> Result<String, ConfigError> {
    text_of(path, regular_bytes(path, MAX_BYTES))
}

fn text_of(path: &Path, bytes: Result<Vec<u8>, String>) -> Result<String, ConfigError> {
    let name = path.display().to_string();
    let bytes = bytes.map_err(|message| whole_file(&name, &message))?;
    if bytes.len() > MAX_BYTES {
        return Err(whole_file(&name, TOO_LARGE));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) => {
            let offset = error.utf8_error().valid_up_to();
            // The valid part is unchanged by the lossy copy, so the offset still fits.
            let lossy = String::from_utf8_lossy(error.as_bytes());
            let source = Source {
                name: &name,
                text: &lossy,
            };
            Err(source.error(
                offset,
                String::new(),
                "is not UTF-8 from here on: save the file as UTF-8 text",
            ))
        }
    }
}

/// The bytes of a regular file, or what is wrong with it. Of a file with more than `most` it is more, but no more than a byte.
pub(crate) fn regular_bytes(path: &Path, most: usize) -> Result<Vec<u8>, String> {
    // Before it is opened: a pipe that nobody writes to would hang there.
    let metadata = std::fs::metadata(path).map_err(|error| explain(&error))?;
    if metadata.is_file() || metadata.is_dir() {
        read_bytes(path, most)
    } else {
        Err("is a pipe or a device: name a regular file".to_owned())
    }
}

fn read_bytes(path: &Path, most: usize) -> Result<Vec<u8>, String> {
    let file = File::open(path).map_err(|error| explain(&error))?;
    if file.metadata().map_err(|error| explain(&error))?.is_dir() {
        return Err(explain(&ErrorKind::IsADirectory.into()));
    }
    // Not the length from the metadata: a device or a growing file has no honest one.
    let mut bytes = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| explain(&error))?;
    Ok(bytes)
}

fn explain(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "does not exist: check the path".to_owned(),
        ErrorKind::IsADirectory => "is a directory: name the file in it".to_owned(),
        ErrorKind::PermissionDenied => {
            "may not be read by this user: check its permissions".to_owned()
        }
        _ => format!("cannot be read: {error}"),
    }
}

fn whole_file(name: &str, message: &str) -> ConfigError {
    ConfigError {
        file: name.to_owned(),
        line: 0,
        column: 0,
        key: String::new(),
        message: message.to_owned(),
        source_line: None,
    }
}
