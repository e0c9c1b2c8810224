//! Reading the body of a bulk request.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::answer::Refused;

/// One item of a bulk request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Operation {
    pub(super) action: Action,
    pub(super) index: String,
    pub(super) id: Option<String>,
    /// Empty for a deletion.
    pub(super) source: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Create,
    Index,
    Update,
    Delete,
}

impl Action {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Index => "index",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Create, Self::Index, Self::Update, Self::Delete]
            .into_iter()
            .find(|action| action.as_str() == text)
    }
}

/// The items of a body, or why the cluster takes none of them.
pub(super) fn parse(body: &Bytes, default_index: Option<&str>) -> Result<Vec<Operation>, Refused> {
    if body.is_empty() {
        return Err(Refused::new(
            http::StatusCode::BAD_REQUEST,
            "parse_exception",
            "request body is required",
        ));
    }
    if body.last() != Some(&b'\n') {
        return Err(Refused::illegal(
            "The bulk request must be terminated by a newline [\\n]",
        ));
    }
    let mut lines = body
        .split(|byte| *byte == b'\n')
        .map(|line| body.slice_ref(line))
        .enumerate();
    let mut operations = Vec::new();
    while let Some((number, line)) = lines.next() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let (action, target) = action_line(&line, number + 1)?;
        let text = |name| target.get(name).and_then(Value::as_str);
        let index = text("_index").or(default_index).ok_or_else(|| {
            Refused::new(
                http::StatusCode::BAD_REQUEST,
                "action_request_validation_exception",
                "Validation Failed: 1: index is missing;",
            )
        })?;
        let source = if action == Action::Delete {
            Bytes::new()
        } else {
            // The last line is the empty rest behind the final newline.
            let source = lines.next().map(|(_, line)| line).unwrap_or_default();
            if source.is_empty() {
                return Err(Refused::new(
                    http::StatusCode::BAD_REQUEST,
                    "action_request_validation_exception",
                    "Validation Failed: 1: source is missing;",
                ));
            }
            source
        };
        operations.push(Operation {
            action,
            index: index.to_owned(),
            id: text("_id").filter(|id| !id.is_empty()).map(str::to_owned),
            source,
        });
    }
    Ok(operations)
}

fn action_line(line: &Bytes, number: usize) -> Result<(Action, Map<String, Value>), Refused> {
    let malformed =
        |what: &str| Refused::illegal(format!("Malformed action/metadata line [{number}], {what}"));
    let Ok(Value::Object(members)) = serde_json::from_slice::<Value>(line) else {
        return Err(malformed("expected START_OBJECT"));
    };
    let mut members = members.into_iter();
    match (members.next(), members.next()) {
        (Some((name, Value::Object(target))), None) => {
            let action = Action::parse(&name).ok_or_else(|| {
                malformed(&format!(
                    "expected one of [create, delete, index, update] but found [{name}]"
                ))
            })?;
            Ok((action, target))
        }
        _ => Err(malformed("expected one action with an object")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(body: &'static str) -> Result<Vec<Operation>, Refused> {
        parse(&Bytes::from_static(body.as_bytes()), Some("default"))
    }

    #[test]
    fn reads_actions_and_sources() {
        let operations = parsed(concat!(
            "{\"create\":{\"_index\":\"logs\",\"_id\":\"1\"}}\n{\"a\":1}\n",
            "{\"delete\":{\"_id\":\"2\"}}\n\n",
            "{\"index\":{}}\n{ }\n",
        ))
        .unwrap();
        let seen: Vec<_> = operations
            .iter()
            .map(|op| {
                (
                    op.action,
                    op.index.as_str(),
                    op.id.as_deref(),
                    &op.source[..],
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                (Action::Create, "logs", Some("1"), &b"{\"a\":1}"[..]),
                (Action::Delete, "default", Some("2"), b""),
                (Action::Index, "default", None, b"{ }"),
            ]
        );
    }

    #[test]
    fn refuses_what_is_no_bulk_request() {
        for body in [
            "",
            "{\"create\":{}}\n{}",
            "{\"create\":{}}\n",
            "\"create\"\n{}\n",
            "{\"invent\":{}}\n{}\n",
            "{}\n{}\n",
        ] {
            assert_eq!(parsed(body).unwrap_err().status, 400, "{body:?}");
        }
    }
}
