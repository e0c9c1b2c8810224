//! The `filter_path` parameter: which parts of an answer the client wants.

use serde_json::{Map, Value};

/// The patterns of a `filter_path`. Without any, everything passes.
#[derive(Debug, Default)]
pub(super) struct Filter {
    patterns: Vec<Vec<String>>,
}

impl Filter {
    /// Reads a comma-separated list of dotted paths; `*` is any one name, `**` any number of names.
    pub(super) fn new(text: &str) -> Self {
        let patterns = text.split(',').filter(|pattern| !pattern.is_empty());
        Self {
            patterns: patterns
                .map(|pattern| pattern.split('.').map(str::to_owned).collect())
                .collect(),
        }
    }

    pub(super) fn apply(&self, value: Value) -> Value {
        if self.patterns.is_empty() {
            return value;
        }
        let patterns: Vec<&[String]> = self.patterns.iter().map(Vec::as_slice).collect();
        keep(value, &patterns).unwrap_or_else(|| Value::Object(Map::new()))
    }
}

/// What the patterns leave of a value, if anything.
fn keep(value: Value, patterns: &[&[String]]) -> Option<Value> {
    if patterns.iter().any(|pattern| pattern.is_empty()) {
        return Some(value);
    }
    match value {
        Value::Object(members) => {
            let kept: Map<String, Value> = members
                .into_iter()
                .filter_map(|(name, value)| {
                    let below = step(&name, patterns);
                    Some((name, keep(value, &below)?))
                })
                .collect();
            (!kept.is_empty()).then_some(Value::Object(kept))
        }
        // Patterns do not see lists, only what is in them.
        Value::Array(values) => {
            let kept: Vec<Value> = values
                .into_iter()
                .filter_map(|value| keep(value, patterns))
                .collect();
            (!kept.is_empty()).then_some(Value::Array(kept))
        }
        _ => None,
    }
}

/// The rests of the patterns that let `name` pass.
fn step<'a>(name: &str, patterns: &[&'a [String]]) -> Vec<&'a [String]> {
    let mut below = Vec::new();
    for pattern in patterns {
        let Some((first, rest)) = pattern.split_first() else {
            continue;
        };
        match first.as_str() {
            "**" => {
                below.push(*pattern);
                below.extend(step(name, &[rest]));
            }
            "*" => below.push(rest),
            first if first == name => below.push(rest),
            _ => {}
        }
    }
    below
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keeps_what_the_patterns_name() {
        let answer = json!({"took": 3, "errors": true, "items": [
            {"create": {"_id": "1", "status": 201}},
            {"create": {"_id": "2", "status": 400, "error": {"type": "t", "reason": "r"}}},
        ]});
        let filtered = |pattern| Filter::new(pattern).apply(answer.clone());
        assert_eq!(filtered(""), answer);
        assert_eq!(filtered("errors"), json!({"errors": true}));
        assert_eq!(
            filtered("items.*.status,items.*.error.type"),
            json!({"items": [
                {"create": {"status": 201}},
                {"create": {"status": 400, "error": {"type": "t"}}},
            ]})
        );
        assert_eq!(
            filtered("**.reason"),
            json!({"items": [{"create": {"error": {"reason": "r"}}}]})
        );
        assert_eq!(filtered("nothing"), json!({}));
    }
}
