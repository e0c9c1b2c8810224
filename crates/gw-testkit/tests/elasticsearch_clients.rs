//! The simulated cluster, seen by the official Python clients as they are published.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a broken expectation must stop the test at once, with a message"
)]

mod clients;

use gw_testkit::elasticsearch::{Behaviour, Config, Elasticsearch, Field, ItemFault, Mapping};
use http::StatusCode;
use serde_json::{Value, json};

use self::clients::{Client, run};

const BOTH: [Client; 2] = [Client::Elasticsearch, Client::OpenSearch];

fn config(client: Client) -> Config {
    match client {
        Client::Elasticsearch => Config::elasticsearch(),
        Client::OpenSearch => Config::opensearch(),
    }
}

/// Starts a healthy cluster of the client's kind and runs one scenario.
async fn healthy(client: Client, scenario: &str) -> (Elasticsearch, Value) {
    let cluster = Elasticsearch::start(config(client)).await;
    let seen = run(client, scenario, &cluster).await;
    (cluster, seen)
}

#[tokio::test]
async fn they_believe_that_it_is_a_cluster() {
    for client in BOTH {
        let (_, seen) = healthy(client, "info").await;
        assert_eq!(seen["ping"], true, "{client:?}");
        assert!(seen["version"].is_string(), "{client:?}");
    }
}

#[tokio::test]
async fn compressed_bulk_then_search() {
    for client in BOTH {
        let (cluster, seen) = healthy(client, "bulk").await;
        assert_eq!(
            seen,
            json!({
                "count": 250, "errors": [], "counted": 250, "total": 250, "page": 3,
                "ids": ["7", "8"], "term": ["line 42"],
            }),
            "{client:?}"
        );
        let requests = cluster.requests();
        assert_eq!((requests.bulk, requests.items), (3, 250));
        assert_eq!((requests.succeeded, requests.documents), (250, 250));
    }
}

#[tokio::test]
async fn streaming_bulk_sees_every_item_in_order() {
    for client in BOTH {
        let (_, seen) = healthy(client, "streaming").await;
        let wanted = ["0", "1", "2", "3", "4"].map(|id| json!([true, 201, id]));
        assert_eq!(seen, json!(wanted), "{client:?}");
    }
}

#[tokio::test]
async fn a_rejected_item_is_sent_again_alone() {
    for client in BOTH {
        let cluster = Elasticsearch::start(config(client)).await;
        cluster.behave(Behaviour::failing_items(ItemFault::Rejected, 0.3, 11));
        let seen = run(client, "resend", &cluster).await;
        let outcomes = seen.as_array().unwrap();
        assert_eq!(outcomes.len(), 20, "{client:?}");
        assert!(outcomes.iter().all(|outcome| outcome[1] == 201), "{seen}");

        let requests = cluster.requests();
        assert!(requests.rejected > 0, "the seed rejects something");
        // Had they sent neighbours again, there would be conflicts.
        assert_eq!(requests.items, 20 + requests.rejected);
        assert_eq!(requests.conflicts, 0);
        for document in cluster.documents() {
            assert_eq!(document.indexed, 1, "{document:?}");
        }
    }
}

#[tokio::test]
async fn creating_twice_is_a_conflict_and_indexing_twice_is_not() {
    for client in BOTH {
        let (cluster, seen) = healthy(client, "conflict").await;
        let wanted = json!([
            [true, 201, "1"],
            [true, 201, "2"],
            [false, 409, "2"],
            [true, 201, "3"]
        ]);
        assert_eq!(seen, wanted, "{client:?}");
        assert_eq!(cluster.documents()[1].conflicts, 1);

        let (_, seen) = healthy(client, "index_again").await;
        assert_eq!(
            seen,
            json!([[true, 201, "1"], [true, 200, "1"]]),
            "{client:?}"
        );
    }
}

#[tokio::test]
async fn a_misfit_fails_and_its_neighbours_do_not() {
    for client in BOTH {
        let (_, seen) = healthy(client, "misfit").await;
        let wanted = json!([[true, 201, "1"], [false, 400, "2"], [true, 201, "3"]]);
        assert_eq!(seen, wanted, "{client:?}");

        let fields = [("message", Field::Text), ("n", Field::Long)];
        let strict = config(client).mapping(Mapping::strict(fields));
        let cluster = Elasticsearch::start(strict).await;
        let seen = run(client, "stranger", &cluster).await;
        assert_eq!(
            seen,
            json!([[true, 201, "1"], [false, 400, "2"]]),
            "{client:?}"
        );
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_413() {
    for client in BOTH {
        let cluster = Elasticsearch::start(config(client).max_content_length(2_000)).await;
        let seen = run(client, "too_large", &cluster).await;
        assert_eq!(seen, json!({"status": 413}), "{client:?}");
        assert_eq!(cluster.indexed(), 0);
    }
}

#[tokio::test]
async fn a_busy_cluster_is_asked_again() {
    for client in BOTH {
        let cluster = Elasticsearch::start(config(client)).await;
        cluster.script([
            Behaviour::refusing(StatusCode::TOO_MANY_REQUESTS),
            Behaviour::refusing(StatusCode::SERVICE_UNAVAILABLE),
        ]);
        let seen = run(client, "busy", &cluster).await;
        assert_eq!(seen, json!([[true, 201, "1"]]), "{client:?}");
        let requests = cluster.requests();
        assert_eq!((requests.bulk, requests.refused), (3, 2), "{client:?}");
    }
}

#[tokio::test]
async fn a_data_stream_takes_only_new_documents_with_a_time() {
    for client in BOTH {
        let cluster = Elasticsearch::start(config(client).data_stream("logs")).await;
        let seen = run(client, "data_stream", &cluster).await;
        let wanted = json!([[true, 201, "1"], [false, 400, "2"], [false, 400, "3"]]);
        assert_eq!(seen, wanted, "{client:?}");
    }
}
