//! Searching, as far as tests of shippers need it: everything, `ids`, and `term`.

use http::StatusCode;
use serde_json::{Value, json};

use super::answer::Refused;
use super::ledger::Document;
use super::store::Store;

const DEFAULT_SIZE: u64 = 10;

/// Answers `_search`.
pub(super) fn search(store: &Store, index: Option<&str>, body: &[u8]) -> Result<Value, Refused> {
    let request = parse(body)?;
    let found = select(store, index, &request)?;
    let number = |name, default| request.get(name).and_then(Value::as_u64).unwrap_or(default);
    let page = found
        .iter()
        .skip(number("from", 0) as usize)
        .take(number("size", DEFAULT_SIZE) as usize)
        .map(|(document, source)| {
            json!({"_index": document.index, "_id": document.id, "_score": 1.0, "_source": source})
        });
    Ok(json!({
        "took": 1,
        "timed_out": false,
        "_shards": {"total": 1, "successful": 1, "skipped": 0, "failed": 0},
        "hits": {
            "total": {"value": found.len(), "relation": "eq"},
            "max_score": 1.0,
            "hits": page.collect::<Vec<_>>(),
        },
    }))
}

/// Answers `_count`.
pub(super) fn count(store: &Store, index: Option<&str>, body: &[u8]) -> Result<Value, Refused> {
    let request = parse(body)?;
    let found = select(store, index, &request)?;
    Ok(json!({
        "count": found.len(),
        "_shards": {"total": 1, "successful": 1, "skipped": 0, "failed": 0},
    }))
}

fn parse(body: &[u8]) -> Result<Value, Refused> {
    if body.is_empty() {
        return Ok(json!({}));
    }
    serde_json::from_slice(body).map_err(|error| bad(error.to_string()))
}

fn select<'a>(
    store: &'a Store,
    index: Option<&'a str>,
    request: &Value,
) -> Result<Vec<(&'a Document, Value)>, Refused> {
    if let Some(index) = index
        && !store.has_index(index)
    {
        return Err(Refused::new(
            StatusCode::NOT_FOUND,
            "index_not_found_exception",
            format!("no such index [{index}]"),
        ));
    }
    let everything = json!({"match_all": {}});
    let query = request.get("query").unwrap_or(&everything);
    let mut found = Vec::new();
    for document in store.held(index) {
        let source = serde_json::from_slice(&document.source).unwrap_or(Value::Null);
        if matches(query, &document.id, &source)? {
            found.push((document, source));
        }
    }
    Ok(found)
}

fn matches(query: &Value, id: &str, source: &Value) -> Result<bool, Refused> {
    let clause = query.as_object().and_then(|query| query.iter().next());
    let Some((kind, clause)) = clause else {
        return Err(bad("a query needs one clause"));
    };
    match kind.as_str() {
        "match_all" => Ok(true),
        "ids" => {
            let values = clause.get("values").and_then(Value::as_array);
            Ok(values.is_some_and(|values| values.iter().any(|value| value == id)))
        }
        "term" => {
            let term = clause.as_object().and_then(|clause| clause.iter().next());
            let (path, wanted) = term.ok_or_else(|| bad("a term query needs a field"))?;
            let wanted = wanted.get("value").unwrap_or(wanted);
            let path = path.strip_suffix(".keyword").unwrap_or(path);
            let pointer = format!("/{}", path.replace('.', "/"));
            Ok(source.pointer(&pointer) == Some(wanted))
        }
        other => Err(bad(format!("the simulator knows no [{other}] query"))),
    }
}

fn bad(reason: impl Into<String>) -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, "parsing_exception", reason)
}
