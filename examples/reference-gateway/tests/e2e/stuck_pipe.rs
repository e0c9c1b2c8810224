//! Whoever should read the access log does not: the requests do not notice.

use gw_testkit::client::Client;
use gw_testkit::upstream::{Reply, Upstream, always};
use serde_json::Value;

use crate::command::{run, until};
use crate::gateway::{Gateway, all_to, config};
use crate::http::{get, page};
use crate::lines::Lines;
use crate::log_lines::requests;
use crate::request_metrics::sum;

const CLIENTS: usize = 8;
const EACH: usize = 600;
const ALL: u64 = (CLIENTS * EACH) as u64;

/// Each client sends its requests on one connection; every one of them is answered. Their lines are long, so that buffer
/// and pipe are full before half of them have been sent.
async fn load(gateway: &Gateway) {
    let path = "long/".repeat(200);
    let agent = "agent ".repeat(40);
    let request = format!("GET /{path} HTTP/1.1\r\nhost: a\r\nuser-agent: {agent}\r\n\r\n");
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (address, request) = (gateway.traffic, request.clone());
            tokio::spawn(async move {
                let mut client = Client::connect(address).await;
                for _ in 0..EACH {
                    client.send(&request).await;
                    let answer = client.read_answer().await;
                    assert_eq!((answer.status(), answer.text()), (200, "answer"));
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
}

fn number(counts: &Value, key: &str) -> u64 {
    counts[key].as_u64().unwrap()
}

#[tokio::test]
async fn a_pipe_that_nobody_reads_costs_lines_and_nothing_else() {
    let upstream = Upstream::start(always(Reply::ok().body("answer"))).await;
    let observe = "[observe]\naccess_log = { normal = 1.0, budget_per_second = 1000000 }\n";
    let tables = observe.to_owned() + &all_to(&upstream.url(), "");
    let (mut gateway, pipe) =
        Gateway::serve_into_pipe(&config("drain_delay = \"0s\"", &tables)).await;
    load(&gateway).await;

    let counts = page(gateway.admin, "/access-log").await;
    assert_eq!(number(&counts, "requests"), ALL, "{counts}");
    let kinds = [
        "written",
        "sampled_out",
        "over_budget",
        "lost_full",
        "lost_write",
        "lost_closed",
        "queued",
    ];
    let added: u64 = kinds.iter().map(|kind| number(&counts, kind)).sum();
    assert_eq!(added, ALL, "{counts}");
    let (lost, queued) = (number(&counts, "lost_full"), number(&counts, "queued"));
    assert!(lost > 0 && queued > 0, "{counts}");
    assert_eq!(
        (
            number(&counts, "sampled_out"),
            number(&counts, "over_budget")
        ),
        (0, 0)
    );

    // The metrics say the same, and those of requests do not depend on the log.
    let metrics = get(gateway.admin, "/metrics").await;
    let metrics = metrics.text();
    run("promtool", &["check", "metrics"], metrics)
        .await
        .succeeded();
    let answered = [("route", "all"), ("status", "200"), ("source", "upstream")];
    assert_eq!(sum(metrics, "gateway_requests_total", &answered), ALL);
    let lines = |labels: &[_]| sum(metrics, "gateway_access_log_lines_total", labels);
    assert_eq!(lines(&[("outcome", "lost_full")]), lost);
    assert_eq!(lines(&[]) + queued, ALL);
    gateway.is_idle().await;

    // Somebody reads at last: what was kept arrives, and so does the number of what was not.
    let mut lines = Lines::of(pipe);
    until("the queue to be written", || async {
        let counts = page(gateway.admin, "/access-log").await;
        (counts["queued"] == 0).then_some(())
    })
    .await;
    gateway.signal("TERM").await;
    assert_eq!(gateway.ended().await.0, Some(0));
    lines.read_all().await;
    let kept = requests(lines.seen.iter().map(String::as_str));
    assert_eq!(kept.len() as u64, ALL - lost);
    let summaries = lines.seen.iter().filter(|it| it.contains("\"summary\":"));
    let told: u64 = summaries
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .inspect(|line| assert_eq!(line["summary"], "lost_full"))
        .map(|line| number(&line, "lines"))
        .sum();
    assert_eq!(told, lost);
}

#[tokio::test]
async fn a_pipe_that_nobody_reads_does_not_keep_the_gateway_from_ending() {
    let upstream = Upstream::start(always(Reply::ok().body("answer"))).await;
    let observe = "[observe]\naccess_log = { normal = 1.0, budget_per_second = 1000000 }\n";
    let tables = observe.to_owned() + &all_to(&upstream.url(), "");
    let (mut gateway, _pipe) =
        Gateway::serve_into_pipe(&config("drain_delay = \"0s\"", &tables)).await;
    load(&gateway).await;
    gateway.signal("TERM").await;
    let (status, said) = gateway.ended().await;
    assert_eq!(status, Some(0), "{said}");
    assert!(
        said.ends_with("stopped: every request was finished"),
        "{said}"
    );
}

/// Whoever reads it has ended: a write fails with EPIPE, which would end a process that does not ignore SIGPIPE.
#[tokio::test]
async fn a_pipe_whose_reader_has_left_costs_lines_and_nothing_else() {
    let (gateway, pipe) =
        Gateway::serve_into_pipe(&config("", &all_to("http://127.0.0.1:1", ""))).await;
    drop(pipe);
    for _ in 0..3 {
        assert_eq!(get(gateway.traffic, "/").await.status(), 502);
    }
    until("three lines to be lost", || async {
        let counts = page(gateway.admin, "/access-log").await;
        (counts["lost_write"] == 3 && counts["requests"] == 3).then_some(())
    })
    .await;
    assert_eq!(get(gateway.traffic, "/").await.status(), 502);
}
