//! W3C Trace Context on its way through.

use gw_testkit::upstream::{Received, Reply, Upstream, always};
use serde_json::Value;

use crate::gateway::{Gateway, all_to, config};
use crate::http::{get, is_refusal, send};
use crate::log_lines::FILE;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

/// A gateway with these keys of `trace`, and a log of all requests.
async fn start(trace: &str) -> (Gateway, Upstream) {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let observe = format!(
        "[observe]\naccess_log = {{ path = \"{FILE}\", normal = 1.0 }}\ntrace = {{ {trace} }}\n"
    );
    let tables = observe + &all_to(&upstream.url(), "");
    (Gateway::serve(&config("", &tables)).await, upstream)
}

fn with_context(target: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nhost: a\r\ntraceparent: 00-{TRACE}-{SPAN}-01\r\n\
         tracestate: vendor=1\r\n\r\n"
    )
}

/// The four parts of the one `traceparent` that the upstream got.
fn parent(received: &Received) -> Vec<String> {
    assert_eq!(received.headers.count("traceparent"), 1);
    let value = received.header("traceparent").unwrap();
    let parts: Vec<_> = value.split('-').map(str::to_owned).collect();
    assert_eq!(parts.len(), 4, "{value}");
    assert_eq!(
        (parts[0].as_str(), parts[1].len(), parts[2].len()),
        ("00", 32, 16)
    );
    parts
}

/// The upstream's parent is the gateway's span, which is the one in the log.
fn is_logged(line: &Value, parent: &[String]) {
    assert_eq!(line["trace_id"], parent[1].as_str(), "{line}");
    assert_eq!(line["span_id"], parent[2].as_str(), "{line}");
}

#[tokio::test]
async fn a_stranger_cannot_choose_the_trace() {
    let (gateway, upstream) = start("sample = 0.0").await;
    assert_eq!(send(gateway.traffic, with_context("/")).await.status(), 200);
    let received = upstream.requests().remove(0);
    let parent = parent(&received);
    assert_ne!(parent[1], TRACE);
    assert_ne!(parent[2], SPAN);
    // Random, and not sampled: neither by the gateway's choice nor by the client's.
    assert_eq!(parent[3], "02");
    assert_eq!(received.headers.count("tracestate"), 0);
    is_logged(&gateway.logged(1).await[0], &parent);
}

#[tokio::test]
async fn a_trusted_callers_trace_goes_on() {
    let (gateway, upstream) = start("sample = 0.0, trust_incoming = true").await;
    assert_eq!(send(gateway.traffic, with_context("/")).await.status(), 200);
    let received = upstream.requests().remove(0);
    let parent = parent(&received);
    assert_eq!(parent[1], TRACE);
    assert_ne!(parent[2], SPAN);
    assert_eq!(parent[3], "01", "the caller has decided");
    assert_eq!(received.header("tracestate"), Some("vendor=1"));
    is_logged(&gateway.logged(1).await[0], &parent);
}

#[tokio::test]
async fn a_request_without_a_trace_starts_one() {
    for trust in ["", ", trust_incoming = true"] {
        let (gateway, upstream) = start(&format!("sample = 1.0{trust}")).await;
        assert_eq!(get(gateway.traffic, "/").await.status(), 200);
        let parent = parent(&upstream.requests()[0]);
        assert_eq!(parent[3], "03", "random and sampled");
        is_logged(&gateway.logged(1).await[0], &parent);
    }
}

#[tokio::test]
async fn a_refusal_names_the_trace() {
    let (gateway, _upstream) = start("trust_incoming = true").await;
    let answer = send(gateway.traffic, with_context("/a/..%2fb")).await;
    let error = is_refusal("refused", &answer, 400, "MALFORMED_REQUEST");
    assert_eq!(error["trace_id"], TRACE);
    assert_eq!(gateway.logged(1).await[0]["trace_id"], TRACE);
}
