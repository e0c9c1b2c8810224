//! The two ways in: a path, or a text that is already there.

use std::path::Path;

use super::document::Document;
use super::environment::{Environment, substitute};
use super::error::{ConfigError, ConfigErrors};
use super::finding::{Anchor, Finding, Findings, KeyPath};
use super::source::{self, Source};
use super::table::{Config, File};
use super::{read, rules};

impl Config {
    /// Reads and checks a file. Paths in it are relative to its folder; the files they name are not
    /// opened.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the file, as far as one pass can tell: a syntax error comes
    /// alone, then all values of the wrong kind together, then all broken rules together.
    pub fn load(path: &Path, env: Environment<'_>) -> Result<Self, ConfigErrors> {
        let text = source::read(path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::parse(&path.display().to_string(), &text, folder, env)
    }

    /// Checks a text. `name` stands in the errors, `base_dir` is what paths in the text are
    /// relative to.
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load).
    pub fn parse(
        name: &str,
        text: &str,
        base_dir: &Path,
        env: Environment<'_>,
    ) -> Result<Self, ConfigErrors> {
        let mut document = Document::parse(Source::new(name, text)?)?;
        let mut findings = Findings::default();
        let mut unset = Vec::new();
        substitute(
            document.root_mut(),
            &KeyPath::default(),
            env,
            &mut findings,
            &mut unset,
        );

        let Some(file) = read::read::<File>(document.root(), unset, &mut findings) else {
            return Err(located(&document, findings));
        };
        rules::check(&file, &mut findings);
        match file.settle(base_dir, &mut findings) {
            Some(config) if findings.is_empty() => Ok(config),
            _ => Err(located(&document, findings)),
        }
    }
}

/// The error of a setting that turned out wrong only when it was used: an address that is taken, a file that is missing.
///
/// If the file cannot be read again, the error has no line.
pub fn blame(path: &Path, key: &KeyPath, message: impl Into<String>) -> ConfigError {
    let file = path.display().to_string();
    let message = message.into();
    let placed = source::read_regular(path).ok().and_then(|text| {
        let document = Document::parse(Source::new(&file, &text).ok()?).ok()?;
        let finding = Finding {
            path: key.clone(),
            anchor: Anchor::Value,
            message: message.clone(),
        };
        Some(document.error(finding))
    });
    placed.unwrap_or(ConfigError {
        file,
        line: 0,
        column: 0,
        key: key.to_string(),
        message,
        source_line: None,
    })
}

pub(super) fn located(document: &Document<'_>, findings: Findings) -> ConfigErrors {
    let (findings, more) = findings.into_parts();
    let errors = findings.into_iter().map(|finding| document.error(finding));
    ConfigErrors::new(errors.collect(), more)
}
