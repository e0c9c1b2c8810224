//! The two ways in: a path, or a text that is already there.

use std::path::Path;

use super::document::Document;
use super::environment::{Environment, substitute};
use super::error::{ConfigError, ConfigErrors};
use super::finding::{Findings, KeyPath};
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
    pub(crate) fn load(path: &Path, env: Environment<'_>) -> Result<Self, ConfigErrors> {
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
    pub(crate) fn parse(
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

fn located(document: &Document<'_>, findings: Findings) -> ConfigErrors {
    let errors: Vec<ConfigError> = findings
        .into_vec()
        .into_iter()
        .map(|finding| document.error(finding))
        .collect();
    ConfigErrors::new(errors)
}
