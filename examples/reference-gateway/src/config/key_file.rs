//! The file that `[auth.api_keys.NAME]` names: read as the configuration is. Its errors show none of its lines, since
//! a key may stand where its digest belongs.

use std::path::Path;

use gw_pipeline::inbound::{ApiKey, ApiKeys, ApiKeysBuilder, KeyDigest};
use serde::Deserialize;

use super::document::Document;
use super::error::ConfigErrors;
use super::finding::{Anchor, Finding, Findings, KeyPath};
use super::read;
use super::source::{self, Source};
use super::value::text;

/// The file as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct KeyFile {
    key: Vec<Entry>,
}

/// `[[key]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    #[serde(deserialize_with = "text")]
    sha256: KeyDigest,
    #[serde(default)]
    scopes: Vec<String>,
}

/// Adds the keys of the file to `builder`, and builds the set.
///
/// # Errors
///
/// Everything that is wrong with the file, as [`Config::load`](super::Config::load) tells it, but without its lines.
pub fn read_keys(path: &Path, builder: ApiKeysBuilder) -> Result<ApiKeys, ConfigErrors> {
    keys(path, builder).map_err(ConfigErrors::without_lines)
}

/// Whether the file is good and opens nothing. What is wrong with it [`read_keys`] tells.
pub(crate) fn holds_no_key(path: &Path) -> bool {
    let empty = |text: &str| {
        let document = Document::parse(Source::new("", text).ok()?).ok()?;
        let file = read::read::<KeyFile>(document.root(), Vec::new(), &mut Findings::default());
        Some(file?.key.is_empty())
    };
    source::read_regular(path).is_ok_and(|text| empty(&text) == Some(true))
}

fn keys(path: &Path, builder: ApiKeysBuilder) -> Result<ApiKeys, ConfigErrors> {
    let text = source::read_regular(path)?;
    let name = path.display().to_string();
    let document = Document::parse(Source::new(&name, &text)?)?;
    let mut findings = Findings::default();
    let Some(file) = read::read::<KeyFile>(document.root(), Vec::new(), &mut findings) else {
        return Err(super::load::located(&document, findings));
    };
    let keys = file
        .key
        .into_iter()
        .map(|entry| ApiKey::new(entry.id, entry.sha256).scopes(entry.scopes));
    builder.keys(keys).build().map_err(|error| {
        let written = error.field().replacen("keys", "key", 1);
        let written = written
            .replace(".consumer", ".id")
            .replace(".digest", ".sha256");
        let finding = Finding {
            path: KeyPath::default().below(&written),
            anchor: Anchor::Value,
            message: error.rule().to_owned(),
        };
        document.error(finding).into()
    })
}
