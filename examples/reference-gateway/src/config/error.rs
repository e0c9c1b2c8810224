//! What is wrong with a file, and where.

use std::fmt;

/// How many characters of a source line an error shows: enough for context, and a line of a
/// megabyte stays readable.
const EXCERPT: usize = 120;

/// One fault in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file as it was named to the loader.
    pub file: String,
    /// Counted from 1; 0 when the whole file is at fault (missing, unreadable, too large).
    pub line: usize,
    /// In characters, counted from 1; 0 when `line` is 0.
    pub column: usize,
    /// Dotted path of the key, such as `routes[2].upstream`; empty for syntax errors and faults of
    /// the whole file.
    pub key: String,
    /// The rule that was broken and what to write instead. Never contains a string value.
    pub message: String,
    /// The line of the file that is at fault; `None` when `line` is 0, or when nobody should see it.
    pub source_line: Option<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)?;
        let Some(source_line) = &self.source_line else {
            return Ok(());
        };
        let at = self.column.saturating_sub(1);
        let hidden = if at < EXCERPT { 0 } else { at - EXCERPT / 2 };
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        let shown: String = source_line
            .chars()
            .skip(hidden)
            .take(EXCERPT)
            .map(printable)
            .collect();
        write!(
            f,
            "\n  {number} | {}\n  {margin} | {}^",
            shown.trim_end(),
            " ".repeat(at - hidden)
        )
    }
}

impl std::error::Error for ConfigError {}

/// One column each, so that the caret stays under its character, and nothing that steers a
/// terminal.
fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

/// The faults that were found in one pass, in the order of the file; at least one, and 40 at the most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
    /// Whether there are others, which are not told.
    more: bool,
}

impl ConfigErrors {
    /// Puts the errors in the order of the file.
    pub(super) fn new(mut errors: Vec<ConfigError>, more: bool) -> Self {
        errors.sort_by(|a, b| (a.line, a.column, &a.key).cmp(&(b.line, b.column, &b.key)));
        Self { errors, more }
    }

    /// The same without the file's lines.
    pub(super) fn without_lines(mut self) -> Self {
        self.errors
            .iter_mut()
            .for_each(|error| error.source_line = None);
        self
    }

    /// The first fault, and how many more there are.
    pub(crate) fn brief(&self) -> String {
        match self.errors.as_slice() {
            [] => String::new(),
            [only] => only.to_string(),
            [first, rest @ ..] => {
                let least = if self.more { "at least " } else { "" };
                format!("{first} (and {least}{} more)", rest.len())
            }
        }
    }

    /// The faults, first line of the file first.
    pub fn as_slice(&self) -> &[ConfigError] {
        &self.errors
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self {
            errors: vec![error],
            more: false,
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.errors.iter().enumerate() {
            let gap = if i == 0 { "" } else { "\n" };
            write!(f, "{gap}{error}")?;
        }
        if self.more {
            f.write_str("\nand more, which are told once these are mended")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
