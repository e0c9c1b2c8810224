//! Statuses and codes.

use std::collections::HashMap;
use std::path::Path;

use gw_testkit::client::Client;
use gw_testkit::elasticsearch::Behaviour;
use tempfile::TempDir;

use super::{AMPLE, Promises, cluster, config, event, request, send_one, to_cluster, upload};
use crate::command::until;
use crate::gateway::Gateway;
use crate::http::{get, is_refusal, page, retry_after, send};

#[tokio::test]
async fn each_refusal_has_its_status_and_code_and_what_was_taken_stays() {
    let cluster = cluster().await;
    let folder = TempDir::new().unwrap();
    let limits = "max_body_bytes = \"64KiB\"\nmax_event_bytes = \"32KiB\"\nmax_events = 10\n";
    let ingest = to_cluster(&folder.path().join("queue"), &cluster, "1MiB") + limits + AMPLE;
    let server = "body_idle_timeout = \"500ms\"";
    let gateway = Gateway::serve(&config(server, &ingest)).await;
    let mut promises = Promises::default();
    let json = "content-type: application/json\r\n";
    let good = format!("[{}]", event("good"));
    let many = format!("[{}]", vec![event("many"); 11].join(","));
    let long = format!("[{}]", event(&"x".repeat(64 << 10)));
    let cases = [
        (
            "broken JSON",
            request(json, "[{\"trace_id\":"),
            400,
            "MALFORMED_REQUEST",
        ),
        (
            "trailing text",
            request(json, &format!("{good}]")),
            400,
            "MALFORMED_REQUEST",
        ),
        ("no events", request(json, "[{}]"), 422, "VALIDATION_FAILED"),
        (
            "an event that is too large",
            request(json, &format!("[{}]", event(&"x".repeat(40 << 10)))),
            422,
            "VALIDATION_FAILED",
        ),
        (
            "too many bytes",
            request(json, &long),
            413,
            "BODY_TOO_LARGE",
        ),
        (
            "too many events",
            request(json, &many),
            413,
            "BODY_TOO_LARGE",
        ),
        (
            "no media type",
            request("", &good),
            415,
            "UNSUPPORTED_MEDIA_TYPE",
        ),
        (
            "another media type",
            request("content-type: text/plain\r\n", &good),
            415,
            "UNSUPPORTED_MEDIA_TYPE",
        ),
        (
            "compression",
            request(&format!("{json}content-encoding: gzip\r\n"), &good),
            415,
            "UNSUPPORTED_MEDIA_TYPE",
        ),
        (
            "an unknown coding",
            request(&format!("{json}content-encoding: br\r\n"), &good),
            415,
            "UNSUPPORTED_MEDIA_TYPE",
        ),
        (
            "another method",
            "GET /api/logs HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(),
            405,
            "METHOD_NOT_ALLOWED",
        ),
    ];
    for (what, bytes, status, code) in cases {
        let message = format!("before {what}");
        promises.add(&send_one(&gateway, "app", &message).await, &[message]);
        let answer = send(gateway.traffic, bytes).await;
        is_refusal(what, &answer, status, code);
    }
    let mut slow = Client::connect(gateway.traffic).await;
    let head = format!("POST /api/logs HTTP/1.1\r\nhost: a\r\n{json}content-length: 100\r\n\r\n[");
    slow.send(&head).await;
    let answer = slow.read_answer().await;
    is_refusal("a slow body", &answer, 408, "CLIENT_TIMEOUT");
    // Story: the gateway put an answer of its own in the place of the intake's, without the limits, and the metrics said 400.
    assert_eq!(answer.header("x-gw-log-limits"), Some("0::client"));
    // Longer than announced at first: the bytes are counted as they come.
    let mut chunked =
        format!("POST /api/logs HTTP/1.1\r\nhost: a\r\n{json}transfer-encoding: chunked\r\n\r\n");
    chunked += &format!("{:x}\r\n{long}\r\n0\r\n\r\n", long.len());
    let answer = send(gateway.traffic, chunked).await;
    let error = is_refusal("a long chunked body", &answer, 413, "BODY_TOO_LARGE");
    assert!(error["details"]["limit_bytes"].is_u64(), "{error}");
    assert_eq!(answer.header("x-gw-log-limits"), Some("0::client"));

    promises.are_kept(&cluster).await;
    assert_eq!(super::indexed(&cluster).len(), promises.len());
    // The cluster has them before the gateway has read its answers.
    let logs = until("all to be known as delivered", || async {
        let logs = page(gateway.admin, "/logs").await;
        (logs["consumer"]["delivered"] == promises.len()).then_some(logs)
    })
    .await;
    assert_eq!(logs["events"]["accepted"], promises.len(), "{logs}");
    assert_eq!(logs["events"]["imbalance"], 0, "{logs}");
    let metrics = get(gateway.admin, "/metrics").await;
    for line in [
        "# TYPE gateway_logingest_queue_bytes gauge",
        "# HELP gateway_logingest_requests_total",
        "gateway_logingest_ledger_imbalance 0",
        "gateway_logingest_requests_total{code=\"CLIENT_TIMEOUT\",format=\"json\"} 1\n",
        "gateway_logingest_requests_total{code=\"BODY_TOO_LARGE\",format=\"json\"} 2\n",
        "gateway_logingest_commit_duration_seconds_bucket{",
        "gateway_logingest_commit_group_size_bucket{",
        "gateway_logingest_sink_rtt_seconds_bucket{",
    ] {
        assert!(
            metrics.text().contains(line),
            "{line} in {}",
            metrics.text()
        );
    }
}

#[tokio::test]
async fn a_receipt_says_how_safe_the_batch_is() {
    let cluster = cluster().await;
    let folder = TempDir::new().unwrap();
    let ingest = to_cluster(&folder.path().join("queue"), &cluster, "1MiB");
    let gateway = Gateway::serve(&config("", &ingest)).await;
    let answer = send_one(&gateway, "app", "one").await;
    assert_eq!(answer.status(), 202, "{answer:?}");
    assert_eq!(answer.header("x-gw-log-durability"), Some("host"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    crate::http::is_dressed(&answer);

    let memory = "queue = { engine = \"memory\", max_bytes = \"1MiB\" }\n".to_owned()
        + ingest.lines().nth(1).unwrap();
    let gateway = Gateway::serve(&config("", &memory)).await;
    let answer = send_one(&gateway, "app", "two").await;
    assert_eq!(answer.header("x-gw-log-durability"), Some("memory"));
    cluster.holds(2).await;
}

/// Such a queue is measured when somebody looks. An upload looks before it is taken, so the page did not know of the last one.
#[tokio::test]
async fn the_metrics_of_a_queue_in_memory_are_measured_for_the_page() {
    let cluster = cluster().await;
    cluster.behave(Behaviour::hung());
    let ingest = to_cluster(Path::new("unused"), &cluster, "1MiB");
    let memory = "queue = { engine = \"memory\", max_bytes = \"1MiB\" }\n".to_owned()
        + ingest.lines().nth(1).unwrap();
    let gateway = Gateway::serve(&config("", &memory)).await;
    let answer = send_one(&gateway, "app", "one").await;
    assert_eq!(answer.status(), 202, "{answer:?}");
    let metrics = get(gateway.admin, "/metrics").await;
    let metrics = metrics.text();
    assert!(
        metrics.contains("gateway_logingest_queue_events 1\n"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_client_over_its_rate_gets_429_and_another_is_served() {
    let cluster = cluster().await;
    let folder = TempDir::new().unwrap();
    let ingest = to_cluster(&folder.path().join("queue"), &cluster, "1MiB")
        + "per_client = { rate = \"1/h\", burst = 5 }";
    let gateway = Gateway::serve(&config("", &ingest)).await;
    let mut noisy = Client::connect(gateway.traffic).await;
    let mut promises = Promises::default();
    for n in 0..20 {
        let message = format!("noisy{n}");
        noisy.send(&upload("noisy", &[event(&message)])).await;
        let answer = noisy.read_answer().await;
        if n < 5 {
            promises.add(&answer, &[message]);
        } else {
            is_refusal("too many batches", &answer, 429, "RATE_LIMIT_EXCEEDED");
            let wait = retry_after("too many batches", &answer);
            let limits = answer.header("x-gw-log-limits");
            assert_eq!(limits, Some(format!("{wait}::client").as_str()));
        }
        if n % 5 == 0 {
            let message = format!("quiet{n}");
            let answer = send_one(&gateway, "quiet", &message).await;
            promises.add(&answer, &[message]);
        }
    }
    let logs = page(gateway.admin, "/logs").await;
    assert_eq!(logs["per_client"]["limited"], 15, "{logs}");
    // Story: the label named the slot of a limit before authentication, where no such limit was.
    until("the refusals to be counted for their stage", || async {
        let metrics = get(gateway.admin, "/metrics").await;
        let stage = "{stage=\"forward\",code=\"RATE_LIMIT_EXCEEDED\"} 15";
        let refused = format!("gateway_rejections_total{stage}");
        metrics.text().contains(&refused).then_some(())
    })
    .await;
    promises.are_kept(&cluster).await;

    // Names are cheap, so those that one address makes up are bounded, and the rest goes by the address.
    let mut statuses: HashMap<u16, usize> = HashMap::new();
    for n in 0..300 {
        noisy
            .send(&upload(&format!("made-up{n}"), &[event("m")]))
            .await;
        *statuses
            .entry(noisy.read_answer().await.status())
            .or_default() += 1;
    }
    // Two names are known from above.
    assert_eq!(statuses, HashMap::from([(202, 30 + 5), (429, 300 - 35)]));
}

/// The intake has timers of its own; the route's deadline holds all the same.
#[tokio::test]
async fn an_upload_ends_at_the_deadline_of_its_route() {
    let cluster = cluster().await;
    let folder = TempDir::new().unwrap();
    let ingest = to_cluster(&folder.path().join("queue"), &cluster, "1MiB");
    let deadline = "public = true\ntimeouts = { request = \"300ms\" }";
    let text = config("", &ingest).replace("public = true", deadline);
    let gateway = Gateway::serve(&text).await;
    let mut client = Client::connect(gateway.traffic).await;
    let whole = upload("app", &[event("late")]);
    let (first, rest) = whole.split_at(whole.len() - 5);
    client.send(first).await;
    let answer = client.read_answer().await;
    is_refusal("a late body", &answer, 504, "GATEWAY_TIMEOUT");
    // Whether this still arrives or not, it is not taken.
    _ = client.try_send(rest).await;
    gateway.is_idle().await;
    let logs = page(gateway.admin, "/logs").await;
    assert_eq!(logs["events"]["accepted"], 0, "{logs}");
    assert_eq!(logs["events"]["in_progress"], 0, "{logs}");
}
