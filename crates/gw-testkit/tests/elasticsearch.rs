//! The simulated cluster, below the official clients: what it does on request, byte by byte.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a broken expectation must stop the test at once, with a message"
)]

use std::time::Duration;

use gw_testkit::client::{Answer, Client, Ended};
use gw_testkit::elasticsearch::{
    Behaviour, Config, Elasticsearch, Field, Garble, ItemFault, Mapping,
};
use gw_testkit::within;
use http::StatusCode;
use serde_json::{Value, json};

fn create(ids: impl IntoIterator<Item = u32>) -> String {
    ids.into_iter()
        .map(|id| {
            format!("{{\"create\":{{\"_id\":\"{id}\"}}}}\n{{\"@timestamp\":\"2026-11-21\",\"n\":{id}}}\n")
        })
        .collect()
}

fn request(target: &str, headers: &str, body: &str) -> String {
    format!(
        "POST {target} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn post(client: &mut Client, target: &str, body: &str) -> Answer {
    client.send(request(target, "", body).as_bytes()).await;
    client.read_answer().await
}

async fn bulk(cluster: &Elasticsearch, ids: impl IntoIterator<Item = u32>) -> Answer {
    let mut client = Client::connect(cluster.addr()).await;
    post(&mut client, "/logs/_bulk", &create(ids)).await
}

fn json_of(answer: &Answer) -> Value {
    serde_json::from_str(answer.text()).unwrap()
}

fn statuses(answer: &Answer) -> Vec<u64> {
    let answer = json_of(answer);
    let items = answer["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| item["create"]["status"].as_u64().unwrap())
        .collect()
}

#[tokio::test]
async fn what_hangs_goes_on_when_the_behaviour_changes() {
    let cluster = Elasticsearch::start(Config::elasticsearch()).await;
    cluster.behave(Behaviour::hung());
    let mut client = Client::connect(cluster.addr()).await;
    client
        .send(request("/logs/_bulk", "", &create([1])).as_bytes())
        .await;
    cluster.until("a request", |seen| seen.in_flight == 1).await;
    assert_eq!(cluster.indexed(), 0);
    cluster.behave(Behaviour::healthy());
    assert_eq!(statuses(&client.read_answer().await), [201]);
    assert_eq!(cluster.indexed(), 1);
}

#[tokio::test]
async fn who_leaves_a_hung_cluster_leaves_nothing() {
    let cluster = Elasticsearch::start(Config::elasticsearch()).await;
    cluster.behave(Behaviour::hung());
    let mut client = Client::connect(cluster.addr()).await;
    client
        .send(request("/logs/_bulk", "", &create([1])).as_bytes())
        .await;
    cluster.until("a request", |seen| seen.in_flight == 1).await;
    drop(client);
    cluster.until("its end", |seen| seen.in_flight == 0).await;
    assert_eq!(cluster.indexed(), 0);
}

#[tokio::test]
async fn down_refuses_connections_and_up_has_the_same_port_and_documents() {
    let cluster = Elasticsearch::start(Config::elasticsearch()).await;
    let mut old = Client::connect(cluster.addr()).await;
    post(&mut old, "/logs/_bulk", &create([1])).await;
    for _ in 0..3 {
        cluster.go_down().await;
        let refused = tokio::net::TcpStream::connect(cluster.addr()).await;
        assert_eq!(
            refused.unwrap_err().kind(),
            std::io::ErrorKind::ConnectionRefused
        );
        cluster.come_up().await;
        assert_eq!(statuses(&bulk(&cluster, [1, 2]).await)[0], 409);
    }
    assert!(old.read_rest().await.bytes.is_empty());
    assert_eq!(cluster.indexed(), 2);
}

#[tokio::test]
async fn refusals_carry_status_and_wait() {
    let cluster = Elasticsearch::start(Config::elasticsearch()).await;
    let busy = Behaviour::refusing(StatusCode::TOO_MANY_REQUESTS);
    cluster.script([busy.retry_after(Duration::from_secs(7))]);
    let answer = bulk(&cluster, [1]).await;
    assert_eq!(
        (answer.status(), answer.header("retry-after")),
        (429, Some("7"))
    );
    assert_eq!(answer.header("x-elastic-product"), Some("Elasticsearch"));
    assert_eq!(json_of(&answer)["status"], 429);
    assert_eq!(bulk(&cluster, [1]).await.status(), 200);
    assert_eq!(cluster.requests().refused, 1);
}

#[tokio::test]
async fn faults_of_items_have_their_status_and_type() {
    let cluster = Elasticsearch::start(Config::elasticsearch()).await;
    for (fault, status, kind) in [
        (ItemFault::Rejected, 429, "es_rejected_execution_exception"),
        (ItemFault::Unavailable, 503, "unavailable_shards_exception"),
        (ItemFault::Blocked, 403, "cluster_block_exception"),
    ] {
        cluster.script([Behaviour::failing_items(fault, 1.0, 0)]);
        let answer = bulk(&cluster, [1]).await;
        let item = &json_of(&answer)["items"][0]["create"];
        assert_eq!(
            (&item["status"], &item["error"]["type"]),
            (&json!(status), &json!(kind))
        );
    }
    let documents = cluster.documents();
    assert_eq!((documents[0].offered, documents[0].indexed), (3, 0));
}

#[tokio::test]
async fn a_full_write_queue_takes_what_fits() {
    let cluster = Elasticsearch::start(Config::elasticsearch()).await;
    cluster.behave(Behaviour::saturated(10, 1_000));
    let answer = bulk(&cluster, 0..30).await;
    let statuses = statuses(&answer);
    assert!(statuses[..10].iter().all(|status| *status == 201));
    assert!(statuses[10..].iter().all(|status| *status == 429));
    assert_eq!(json_of(&answer)["errors"], true);
    let requests = cluster.requests();
    assert_eq!((requests.documents, requests.rejected), (10, 20));
}

#[tokio::test]
async fn spoilt_answers_follow_work_that_was_done() {
    let cluster = Elasticsearch::start(Config::elasticsearch()).await;
    cluster.script([
        Behaviour::healthy().garble(Garble::NotJson),
        Behaviour::healthy().garble(Garble::Truncated),
        Behaviour::healthy().garble(Garble::MissingItems(2)),
        Behaviour::healthy().garble(Garble::Reversed),
        Behaviour::healthy().garble(Garble::Lost),
    ]);
    for _ in 0..2 {
        let answer = bulk(&cluster, [1, 2, 3]).await;
        assert_eq!((answer.status(), &answer.ended), (200, &Ended::Complete));
        assert!(serde_json::from_str::<Value>(answer.text()).is_err());
    }
    assert_eq!(statuses(&bulk(&cluster, [1, 2, 3]).await), [409]);
    let reversed = json_of(&bulk(&cluster, [1, 2, 3]).await);
    assert_eq!(reversed["items"][0]["create"]["_id"], "3");
    assert_eq!(bulk(&cluster, [4]).await.ended, Ended::Cut);
    assert_eq!(cluster.indexed(), 4);
}

#[tokio::test]
async fn an_endless_answer_goes_on_until_the_client_leaves() {
    let cluster = Elasticsearch::start(Config::elasticsearch()).await;
    cluster.script([Behaviour::healthy().garble(Garble::Endless)]);
    let mut client = Client::connect(cluster.addr()).await;
    client
        .send(request("/logs/_bulk", "", &create([1])).as_bytes())
        .await;
    client.read_exact(1_000_000).await;
    drop(client);
    // Others are served meanwhile and afterwards.
    assert_eq!(bulk(&cluster, [2]).await.status(), 200);
}

#[tokio::test]
async fn uniqueness_ends_with_the_backing_index() {
    let cluster = Elasticsearch::start(Config::elasticsearch().data_stream("logs")).await;
    assert_eq!(statuses(&bulk(&cluster, [1]).await), [201]);
    assert_eq!(statuses(&bulk(&cluster, [1]).await), [409]);
    cluster.roll_over("logs");
    assert_eq!(statuses(&bulk(&cluster, [1]).await), [201]);
    let documents = cluster.documents();
    assert_eq!((documents.len(), documents[0].indexed), (1, 2));
}

#[tokio::test]
async fn a_failure_store_takes_misfits() {
    let mapping = Mapping::strict([("@timestamp", Field::Date)]);
    let config = Config::elasticsearch().mapping(mapping).data_stream("logs");
    let cluster = Elasticsearch::start(config.failure_store()).await;
    let item = &json_of(&bulk(&cluster, [1]).await)["items"][0]["create"];
    assert_eq!(
        (&item["status"], &item["failure_store"]),
        (&json!(201), &json!("used"))
    );
    assert_ne!(item["_id"], "1", "it is another document there");
    assert_eq!(cluster.indexed(), 0);
}

#[tokio::test]
async fn a_missing_index_may_stay_missing() {
    let cluster = Elasticsearch::start(Config::elasticsearch().without_auto_create()).await;
    assert_eq!(statuses(&bulk(&cluster, [1]).await), [404]);
}

#[tokio::test]
async fn answers_are_labelled_and_filtered_as_asked() {
    let cluster = Elasticsearch::start(Config::elasticsearch()).await;
    let mut client = Client::connect(cluster.addr()).await;
    let label = "application/vnd.elasticsearch+json; compatible-with=9";
    let target = "/logs/_bulk?filter_path=errors%2Citems.%2A.status";
    let accept = format!("accept: {label}\r\n");
    client
        .send(request(target, &accept, &create([1])).as_bytes())
        .await;
    let answer = client.read_answer().await;
    assert_eq!(answer.header("content-type"), Some(label));
    let wanted = json!({"errors": false, "items": [{"create": {"status": 201}}]});
    assert_eq!(json_of(&answer), wanted);

    let accept = "accept: application/vnd.elasticsearch+json; compatible-with=7\r\n";
    client
        .send(request(target, accept, &create([1])).as_bytes())
        .await;
    assert_eq!(client.read_answer().await.status(), 400);
}

#[tokio::test]
async fn credentials_are_checked() {
    let cluster = Elasticsearch::start(Config::elasticsearch().authorization("ApiKey k")).await;
    assert_eq!(bulk(&cluster, [1]).await.status(), 401);
    let mut client = Client::connect(cluster.addr()).await;
    let with_key = request("/logs/_bulk", "authorization: ApiKey k\r\n", &create([1]));
    client.send(with_key.as_bytes()).await;
    assert_eq!(client.read_answer().await.status(), 200);
}

#[tokio::test]
async fn limits_of_body_and_mapping() {
    let config = Config::elasticsearch()
        .max_content_length(200)
        .max_fields(2);
    let cluster = Elasticsearch::start(config).await;
    assert_eq!(bulk(&cluster, 0..100).await.status(), 413);
    assert_eq!(bulk(&cluster, [1]).await.status(), 200);
    let mut client = Client::connect(cluster.addr()).await;
    let third = "{\"create\":{}}\n{\"third\":1}\n";
    assert_eq!(
        statuses(&post(&mut client, "/logs/_bulk", third).await),
        [400]
    );
}

#[tokio::test]
async fn a_late_answer_is_late_and_the_work_is_done() {
    let cluster = Elasticsearch::start(Config::elasticsearch()).await;
    cluster.behave(Behaviour::slow(Duration::from_secs(3_600)));
    let late = tokio::spawn({
        let addr = cluster.addr();
        async move {
            let mut client = Client::connect(addr).await;
            post(&mut client, "/logs/_bulk", &create([1])).await
        }
    });
    within("the document", cluster.holds(1)).await;
    late.abort();
    cluster.behave(Behaviour::healthy());
    assert_eq!(statuses(&bulk(&cluster, [1]).await), [409]);
}
