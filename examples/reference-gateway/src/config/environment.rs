//! `"${NAME}"` and `"${NAME:-default}"` as whole values.

use toml::Spanned;
use toml::de::DeValue;

use super::finding::{Findings, KeyPath};

/// Where variables come from: an argument, so that tests need no process environment.
pub type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// The variables of this process. One that is not Unicode counts as unset.
pub fn process_environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Replaces the references in all string values below `value`. The places stay those of the file.
/// What cannot be replaced is reported and listed in `failed`.
pub(super) fn substitute(
    value: &mut Spanned<DeValue<'_>>,
    path: &KeyPath,
    env: Environment<'_>,
    findings: &mut Findings,
    failed: &mut Vec<KeyPath>,
) {
    match value.get_mut() {
        DeValue::String(text) => match resolve(text, env) {
            Ok(None) => {}
            Ok(Some(new)) => *text = new.into(),
            Err(message) => {
                findings.at(path.clone(), message);
                failed.push(path.clone());
            }
        },
        DeValue::Array(array) => {
            for (i, item) in array.iter_mut().enumerate() {
                substitute(item, &path.index(i), env, findings, failed);
            }
        }
        DeValue::Table(table) => {
            for (key, item) in table.iter_mut() {
                substitute(item, &path.key(key.get_ref()), env, findings, failed);
            }
        }
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {}
    }
}

/// `None`: the text holds no reference.
fn resolve(text: &str, env: Environment<'_>) -> Result<Option<String>, String> {
    const FORM: &str =
        "a variable must be the whole value: write \"${NAME}\" or \"${NAME:-default}\"";
    if !text.contains("${") {
        return Ok(None);
    }
    let inner = text
        .strip_prefix("${")
        .and_then(|rest| rest.strip_suffix('}'))
        .ok_or(FORM)?;
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    if default.is_some_and(|default| default.contains("${")) {
        return Err("a default must be plain: no variable is looked for in it".to_owned());
    }
    let letters = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if name.is_empty() || !letters || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(FORM.to_owned());
    }
    match (env(name), default) {
        // As in a shell: the default also stands in for an empty variable.
        (Some(value), Some(default)) if value.is_empty() => Ok(Some(default.to_owned())),
        (Some(value), _) => Ok(Some(value)),
        (None, Some(default)) => Ok(Some(default.to_owned())),
        (None, None) => Err(format!(
            "environment variable {name} is not set: set it, or write \"${{{name}:-default}}\""
        )),
    }
}
