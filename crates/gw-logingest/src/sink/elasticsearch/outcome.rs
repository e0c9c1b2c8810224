//! What an answer means for the events.

use std::time::Duration;

use http::StatusCode;

use super::retry;
use crate::sink::{Delivery, Fault, Item, Reason};

/// Errors that come with 400 although the event is not to blame: the whole backlog would follow.
const CONFIGURATION: [&str; 3] = [
    "index_closed_exception",
    "invalid_index_name_exception",
    "media_type_header_exception",
];

/// With this kind a cluster says, among other things, that it holds as many shards as it may.
const VALIDATION: &str = "validation_exception";

/// With this kind a cluster says, among other things, that an alias has no index to write to, or that a pipeline is missing.
const ILLEGAL_ARGUMENT: &str = "illegal_argument_exception";

/// An ingest pipeline says so of what it does not take. It comes with 500, although it says nothing of the cluster.
const FAIL_PROCESSOR: &str = "fail_processor_exception";

/// What one item of an answer says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) id: Option<String>,
    pub(super) status: Option<u16>,
    pub(super) kind: String,
    pub(super) reason: String,
    pub(super) redirected: bool,
}

/// The meaning of a whole answer that is not 200.
pub(super) fn of_request(status: StatusCode, after: Option<Duration>, text: &[u8]) -> Delivery {
    match status.as_u16() {
        413 => Delivery::TooLarge,
        429 => retry(after, Fault::Throttled),
        408 => retry(after, Fault::Timeout),
        500..=599 => retry(after, Fault::Unavailable),
        code => {
            let message = String::from_utf8_lossy(text);
            let kind = status.canonical_reason().unwrap_or("unexpected status");
            let reason = Reason::new(kind, &message).with_status(code);
            match code {
                // One event is enough for it. If it is none of them, the consumer finds out.
                400 => Delivery::Refused(reason),
                _ => Delivery::Blocked(reason),
            }
        }
    }
}

/// The meaning of one item, which must speak of the event with this id. One that went to a failure store is another document
/// there, with an id of its own: its place in the answer alone tells which event it is.
///
/// Under any other id it proves nothing: a 409 may be that of another event. Nor would another try: it may be one more
/// document each time.
pub(super) fn of_item(said: &Said, id: &str) -> Item {
    let item = of_status(said);
    match &said.id {
        _ if said.redirected || item == Item::Retry => item,
        Some(other) if other == id => item,
        Some(_) => Item::Blocked(Reason::new(
            "another_id",
            "the sink answers under another id than it was given: a pipeline may set _id",
        )),
        None => Item::Retry,
    }
}

/// The same, if it speaks of the event.
fn of_status(said: &Said) -> Item {
    let Some(status) = said.status else {
        return Item::Retry;
    };
    let reason = || Reason::new(&said.kind, &said.reason).with_status(status);
    match status {
        200..=299 if said.redirected => Item::Redirected,
        200..=299 => Item::Delivered,
        // The event was created before, by the same id.
        409 => Item::Duplicate,
        500..=599 if said.kind == FAIL_PROCESSOR => Item::Rejected(reason()),
        408 | 429 | 500..=599 => Item::Retry,
        401 | 403 | 404 => Item::Blocked(reason()),
        400 if is_the_clusters(said) => Item::Blocked(reason()),
        400..=499 => Item::Rejected(reason()),
        _ => Item::Retry,
    }
}

/// Whether the cluster's configuration is to blame, and no event. Some kinds stand for this and for much else, and only
/// the reason tells.
fn is_the_clusters(said: &Said) -> bool {
    let reason = said.reason.as_str();
    match said.kind.as_str() {
        VALIDATION => reason.contains("shards open"),
        ILLEGAL_ARGUMENT => {
            reason.starts_with("no write index is defined for alias [")
                || reason.starts_with("pipeline with id [") && reason.ends_with("does not exist")
        }
        kind => CONFIGURATION.contains(&kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: u16, kind: &str) -> Said {
        Said {
            id: Some("1".to_owned()),
            status: Some(status),
            kind: kind.to_owned(),
            ..Said::default()
        }
    }

    /// The table of the delivery rules, line by line.
    #[test]
    fn items() {
        let name = |status, kind| match of_item(&said(status, kind), "1") {
            Item::Delivered => "delivered",
            Item::Duplicate => "duplicate",
            Item::Redirected => "redirected",
            Item::Retry => "retry",
            Item::Rejected(_) => "rejected",
            Item::Blocked(_) => "blocked",
        };
        for (status, kind, meaning) in [
            (200, "", "delivered"),
            (201, "", "delivered"),
            (409, "version_conflict_engine_exception", "duplicate"),
            (429, "es_rejected_execution_exception", "retry"),
            (429, "cluster_block_exception", "retry"),
            (503, "unavailable_shards_exception", "retry"),
            (500, "", "retry"),
            (500, "fail_processor_exception", "rejected"),
            (302, "", "retry"),
            (999, "", "retry"),
            (400, "document_parsing_exception", "rejected"),
            (400, "illegal_argument_exception", "rejected"),
            (413, "", "rejected"),
            (400, "index_closed_exception", "blocked"),
            (404, "index_not_found_exception", "blocked"),
            (403, "cluster_block_exception", "blocked"),
            (401, "security_exception", "blocked"),
        ] {
            assert_eq!(name(status, kind), meaning, "{status} {kind}");
        }
        let redirected = Said {
            redirected: true,
            ..said(201, "")
        };
        assert_eq!(of_item(&redirected, "1"), Item::Redirected);
    }

    /// Story: such an answer was taken for one about another event, and the event was sent again and again, each time to become
    /// one more document in the failure store.
    #[test]
    fn a_failure_store_answers_under_an_id_of_its_own() {
        let redirected = Said {
            redirected: true,
            ..said(201, "")
        };
        assert_eq!(of_item(&redirected, "2"), Item::Redirected);
    }

    #[test]
    fn a_cluster_without_room_for_an_index_does_not_blame_the_event() {
        let mut said = said(400, "validation_exception");
        assert!(matches!(of_item(&said, "1"), Item::Rejected(_)));
        "Validation Failed: 1: this action would add [2] shards, but this cluster currently has [1000]/[1000] maximum \
         normal shards open;"
            .clone_into(&mut said.reason);
        assert!(matches!(of_item(&said, "1"), Item::Blocked(_)));
    }

    /// Story: an alias lost its write index, and the whole backlog became dead letters.
    #[test]
    fn an_alias_or_a_pipeline_that_is_missing_does_not_blame_the_event() {
        let mut said = said(400, "illegal_argument_exception");
        for reason in [
            "no write index is defined for alias [logs]. The write index may be explicitly disabled using \
             is_write_index=false or the alias points to multiple indices without one being designated as a write index",
            "pipeline with id [logs-default] does not exist",
        ] {
            reason.clone_into(&mut said.reason);
            assert!(matches!(of_item(&said, "1"), Item::Blocked(_)), "{reason}");
        }
        "field [message] does not exist".clone_into(&mut said.reason);
        assert!(matches!(of_item(&said, "1"), Item::Rejected(_)));
    }

    /// Story: a pipeline set `_id` to a random one. Each event was sent again without end, one more document each time.
    #[test]
    fn an_answer_under_another_id_blocks_delivery() {
        for status in [201, 409, 400, 404] {
            let item = of_item(&said(status, ""), "2");
            assert!(
                matches!(&item, Item::Blocked(reason) if reason.kind() == "another_id"),
                "{status} {item:?}"
            );
        }
        for status in [429, 503] {
            assert_eq!(of_item(&said(status, ""), "2"), Item::Retry);
        }
    }

    #[test]
    fn an_item_without_id_or_status_says_nothing() {
        let nameless = Said {
            id: None,
            ..said(201, "")
        };
        assert_eq!(of_item(&nameless, "1"), Item::Retry);
        assert_eq!(of_item(&Said::default(), "1"), Item::Retry);
    }

    #[test]
    fn whole_answers() {
        let meaning = |code: u16| {
            let status = StatusCode::from_u16(code).unwrap();
            match of_request(status, None, b"text") {
                Delivery::TooLarge => "too large",
                Delivery::Retry { fault, .. } => fault.as_str(),
                Delivery::Blocked(reason) => {
                    assert_eq!((reason.status(), reason.message()), (Some(code), "text"));
                    "blocked"
                }
                Delivery::Refused(reason) => {
                    assert_eq!((reason.status(), reason.message()), (Some(code), "text"));
                    "refused"
                }
                Delivery::Items(_) => "items",
            }
        };
        for (code, wanted) in [
            (413, "too large"),
            (429, "throttled"),
            (408, "timeout"),
            (502, "unavailable"),
            (503, "unavailable"),
            (504, "unavailable"),
            (401, "blocked"),
            (403, "blocked"),
            (404, "blocked"),
            (400, "refused"),
            (301, "blocked"),
        ] {
            assert_eq!(meaning(code), wanted, "{code}");
        }
    }
}
