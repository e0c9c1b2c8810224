//! Reading the access log.

use std::path::Path;

use serde_json::Value;

use crate::command::until;
use crate::gateway::Gateway;

/// The file that [`to_file`] names.
pub(crate) const FILE: &str = "access.log";

/// `[observe]` with a log in a file beside the configuration; `more` continues its table.
pub(crate) fn to_file(more: &str) -> String {
    format!("[observe]\naccess_log = {{ path = \"{FILE}\"{more} }}\n")
}

/// The lines of requests, summaries left out.
pub(crate) fn requests<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<Value> {
    let lines = lines.into_iter().map(|line| {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    });
    lines.filter(|line| line.get("summary").is_none()).collect()
}

/// Waits for the lines of so many requests in this file.
pub(crate) async fn in_file(file: &Path, count: usize) -> Vec<Value> {
    until(&format!("{count} lines in {}", file.display()), || async {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        // The last line may be half written.
        let whole = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        let lines = requests(whole);
        assert!(lines.len() <= count, "{text}");
        (lines.len() == count).then_some(lines)
    })
    .await
}

impl Gateway {
    /// Waits for the lines of so many requests in the log beside the configuration.
    pub(crate) async fn logged(&self, count: usize) -> Vec<Value> {
        in_file(&self.folder().join(FILE), count).await
    }
}
