//! What the sink will know an event by: ids that clients choose never meet.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests: a broken expectation must stop the test at once"
)]

mod intake_support;

use std::collections::HashSet;

use gw_core::key::Header;
use gw_logingest::intake::ClientKey;
use http::{HeaderName, HeaderValue};
use intake_support::{FakeQueue, TRACE, builder, post, send};

const CLIENT: HeaderName = HeaderName::from_static("x-client-id");

fn event(id: &str, kind: &str) -> String {
    format!(
        r#"{{"trace_id":"{TRACE}","service":"shop","level":"info","message":"m","event_id":"{id}","kind":"{kind}"}}"#
    )
}

/// The ids of the events that these clients send with this text as `event_id`.
async fn ids(sent: &[(&str, String)]) -> Vec<String> {
    let queue = FakeQueue::new();
    let ingest = builder(&queue)
        .clients([ClientKey::Header(Header::new(CLIENT))])
        .build()
        .unwrap();
    for (client, event) in sent {
        let mut request = post(event.clone());
        let value = HeaderValue::from_str(client).unwrap();
        request.headers_mut().insert(CLIENT, value);
        assert_eq!(send(&ingest, request).await.status, 202);
    }
    let batches = queue.batches();
    let events = batches.iter().flat_map(|batch| batch.events());
    events.map(|event| event.id().into_owned()).collect()
}

#[tokio::test]
async fn the_same_event_id_of_two_clients_is_two_documents() {
    let sent = ["a", "b", "a"].map(|client| (client, event("e-1", "k")));
    assert_eq!(
        ids(&sent).await,
        ["header:a e-1", "header:b e-1", "header:a e-1"]
    );
}

#[tokio::test]
async fn no_choice_of_names_makes_two_pairs_one() {
    let pairs = [("a", "b/c"), ("a/b", "c"), ("a:b", "c"), ("a", "b:c")];
    let sent = pairs.map(|(client, id)| (client, event(id, "k")));
    let different: HashSet<String> = ids(&sent).await.into_iter().collect();
    assert_eq!(different.len(), pairs.len());
}

/// Reports about failed uploads are held back and join the batch later.
#[tokio::test]
async fn a_report_about_a_failed_upload_has_its_client_in_front_too() {
    let sent = [("a", event("e-1", "upload_failure"))];
    assert_eq!(ids(&sent).await, ["header:a e-1"]);
}

#[tokio::test]
async fn the_longest_names_fit() {
    // 121 bytes and `header:` are the longest name of a client.
    let (client, id) = ("c".repeat(121), "e".repeat(128));
    let sent = [(&*client, event(&id, "k"))];
    assert_eq!(ids(&sent).await, [format!("header:{client} {id}")]);
}
