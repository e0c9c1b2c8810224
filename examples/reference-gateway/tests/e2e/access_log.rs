//! The access log: what its lines say, and what they never do.

use std::time::Duration;

use gw_testkit::Gate;
use gw_testkit::client::Client;
use gw_testkit::upstream::{At, Reply, Upstream, always, by_path};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::command::until;
use crate::gateway::{
    Gateway, PATIENT, all_to, check, command, config, folder, route, upstream, without_breakers,
};
use crate::http::{get, is_refusal, page, send};
use crate::lines::Lines;
use crate::log_lines::{FILE, in_file, requests, to_file};

#[tokio::test]
async fn a_line_says_what_happened_and_no_secret() {
    let reply = Reply::ok()
        .header("set-cookie", "id=secret-of-the-upstream")
        .body("secret answer");
    let upstream = Upstream::start(always(reply)).await;
    let mut tables = to_file(", normal = 1.0");
    tables += "[limits.some]\nkey = \"ip\"\nrate = \"1/h\"\nburst = 3\n";
    tables += &all_to(&upstream.url(), "limits = [\"some\"]");
    let gateway = Gateway::serve(&config("", &tables)).await;
    let answer = send(
        gateway.traffic,
        "POST /orders/7?token=secret-in-the-query HTTP/1.1\r\nhost: secret-host.example\r\n\
         user-agent: test \"1\"\r\nauthorization: Bearer secret-token\r\nx-api-key: secret-key\r\n\
         cookie: id=secret-cookie\r\nreferer: http://a/?secret-referer\r\ncontent-length: 11\r\n\r\n\
         secret body",
    )
    .await;
    assert_eq!(answer.status(), 200);

    let line = gateway.logged(1).await.remove(0);
    for (key, value) in [
        ("request_id", json!(answer.header("x-request-id"))),
        ("method", json!("POST")),
        ("path", json!("/orders/7")),
        ("status", json!(200)),
        ("client_ip", json!("127.0.0.1")),
        ("user_agent", json!("test \"1\"")),
        ("route", json!("all")),
        ("lane", json!("core")),
        ("upstream", json!("up")),
        ("attempts", json!(1)),
        ("request_size", json!(11)),
        ("response_size", json!(13)),
        ("rate_limit_remaining", json!(2)),
        ("protocol", json!("HTTP/1.1")),
        ("response_source", json!("upstream")),
        ("ended_by", json!("completed")),
        ("phase", json!("done")),
    ] {
        assert_eq!(line[key], value, "{key} in {line}");
    }
    assert_eq!(line["sampled_rate"].as_f64(), Some(1.0));
    let micros = |key: &str| (line[key].as_f64().unwrap() * 1000.0).round() as u64;
    assert_eq!(
        micros("latency_ms"),
        micros("upstream_latency_ms") + micros("gateway_ms") + micros("client_wait_ms"),
        "{line}"
    );
    for (key, digits) in [("trace_id", 32), ("span_id", 16)] {
        let id = line[key].as_str().unwrap();
        assert!(id.len() == digits && id.bytes().all(|b| b.is_ascii_hexdigit()));
    }
    let known = 17 + 1 + 4 + 2 + 1;
    assert_eq!(line.as_object().unwrap().len(), known, "{line}");
    assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");

    let text = std::fs::read_to_string(gateway.folder().join(FILE)).unwrap();
    assert!(!text.contains("secret"), "{text}");
    assert!(!text.contains(&upstream.addr().to_string()), "{text}");
}

/// Story: what is refused before the client is looked for behind its proxies was the balancer's in the log.
#[tokio::test]
async fn a_line_names_the_client_behind_its_proxies() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let tables = to_file(", normal = 1.0") + &all_to(&upstream.url(), "");
    let server = "trusted_proxies = [\"127.0.0.0/8\"]";
    let gateway = Gateway::serve(&config(server, &tables)).await;
    for (number, (path, status)) in (1..).zip([("/", 200), ("/a%2Fb", 400)]) {
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 203.0.113.9\r\n\r\n");
        assert_eq!(send(gateway.traffic, &request).await.status(), status);
        let line = gateway.logged(number).await.remove(number - 1);
        assert_eq!(line["client_ip"], "203.0.113.9", "{line}");
    }
}

/// A support case: a client quotes the body of its error, and the operator finds the line.
#[tokio::test]
async fn an_error_is_found_by_the_ids_in_its_body() {
    let upstream = Upstream::start(by_path(
        [
            ("/broken", Reply::status(500).body("panic at db.rs")),
            ("/cut", Reply::ok().body("0123456789").cut(At::Body(4))),
        ],
        Reply::ok(),
    ))
    .await;
    let mut tables = to_file("");
    tables += &self::upstream("up", &upstream.url());
    tables += &self::upstream("away", "http://127.0.0.1:1");
    tables += &route("broken", "/broken", "up", "");
    tables += &route("cut", "/cut", "up", "");
    tables += &route("away", "/away", "away", "");
    let gateway = Gateway::serve(&config("", &tables)).await;
    let cases = [
        ("/nothing", 404, "ROUTE_NOT_FOUND", "gateway", "request"),
        ("/away", 502, "BAD_GATEWAY", "gateway", "upstream"),
        ("/broken", 500, "INTERNAL", "upstream", "done"),
    ];
    for (number, (path, status, code, source, phase)) in (1..).zip(cases) {
        let answer = get(gateway.traffic, path).await;
        let error = is_refusal(path, &answer, status, code);
        let line = gateway.logged(number).await.remove(number - 1);
        assert_eq!(line["request_id"], error["request_id"], "{path}");
        assert_eq!(line["trace_id"], error["trace_id"], "{path}");
        assert!(error["trace_id"].is_string(), "{path}: {error}");
        assert_eq!(line["status"], status, "{line}");
        assert_eq!(line["response_source"], source, "{line}");
        assert_eq!(line["phase"], phase, "{line}");
        if source == "gateway" {
            assert_eq!(
                (&line["code"], &line["ended_by"]),
                (&json!(code), &json!("gateway"))
            );
        }
    }
    // Whoever broke an answer off is named.
    let answer = get(gateway.traffic, "/cut").await;
    assert!(!answer.is_complete());
    let line = gateway.logged(4).await.remove(3);
    let ended = (&line["status"], &line["ended_by"], &line["phase"]);
    assert_eq!(ended, (&json!(200), &json!("upstream"), &json!("response")));
    assert_eq!(line["response_size"], 4, "{line}");
}

#[tokio::test]
async fn a_client_that_leaves_has_its_line() {
    let upstream = Upstream::start(always(Reply::ok().stall(At::Start))).await;
    let tables = to_file("") + &all_to(&upstream.url(), "");
    let gateway = Gateway::serve(&config("", &tables)).await;
    let mut client = Client::connect(gateway.traffic).await;
    client.get("/").await;
    upstream.arrived(1).await;
    drop(client);
    let line = gateway.logged(1).await.remove(0);
    assert_eq!(line["ended_by"], "client", "{line}");
    assert_eq!(line["phase"], "upstream", "{line}");
    assert_eq!(line.get("status"), None, "{line}");
}

/// Nothing is written about `normal`: a tenth of what went well, all of the rest.
#[tokio::test]
async fn by_default_errors_and_slow_requests_are_kept_and_a_tenth_of_the_rest() {
    const NORMAL: u64 = 600;
    let gate = Gate::new();
    let upstream = Upstream::start(by_path(
        [
            ("/slow", Reply::ok().hold(At::Start, &gate)),
            ("/broken", Reply::status(500)),
        ],
        Reply::ok(),
    ))
    .await;
    let mut tables = to_file("") + &without_breakers(&self::upstream("up", &upstream.url()));
    for (name, keys) in [("normal", ""), ("slow", PATIENT), ("broken", "")] {
        tables += &route(name, &format!("/{name}"), "up", keys);
    }
    let gateway = Gateway::serve(&config("", &tables)).await;
    let mut slow = Client::connect(gateway.traffic).await;
    slow.get("/slow").await;
    upstream.arrived(1).await;
    let since = Instant::now();
    let mut client = Client::connect(gateway.traffic).await;
    for _ in 0..NORMAL {
        client.get("/normal").await;
        assert_eq!(client.read_answer().await.status(), 200);
    }
    for _ in 0..20 {
        for (path, status) in [("/broken", 500), ("/nothing", 404)] {
            assert_eq!(get(gateway.traffic, path).await.status(), status);
        }
    }
    // `slow_over` is a second unless it is said otherwise.
    until("a second to pass", || async {
        (since.elapsed() > Duration::from_millis(1_050)).then_some(())
    })
    .await;
    gate.open();
    assert_eq!(slow.read_answer().await.status(), 200);

    let counts = until("all lines to be written", || async {
        let counts = page(gateway.admin, "/access-log").await;
        let all = counts["requests"] == NORMAL + 41 && counts["queued"] == 0;
        all.then_some(counts)
    })
    .await;
    let number = |key: &str| counts[key].as_u64().unwrap();
    assert_eq!(
        number("written") + number("sampled_out"),
        number("requests")
    );
    let lines = gateway.logged(number("written") as usize).await;
    let of = |path: &str, rate: f64| {
        let lines = lines.iter().filter(|line| line["path"] == path);
        let rated = lines.filter(|line| line["sampled_rate"].as_f64() == Some(rate));
        rated.count()
    };
    assert_eq!((of("/broken", 1.0), of("/nothing", 1.0)), (20, 20));
    assert_eq!(of("/slow", 1.0), 1);
    // Ten standard deviations around 60. A request that this machine made slow is kept at another rate.
    let kept = of("/normal", 0.1);
    assert!((1..=133).contains(&kept), "{kept}");
}

#[tokio::test]
async fn lines_go_to_standard_output_unless_a_file_is_named() {
    let (gateway, pipe) =
        Gateway::serve_into_pipe(&config("", &all_to("http://127.0.0.1:1", ""))).await;
    let mut lines = Lines::of(pipe);
    assert_eq!(get(gateway.traffic, "/a?b=c").await.status(), 502);
    let line = lines.next().await.unwrap();
    let line = requests([line.as_str()]).remove(0);
    assert_eq!(
        (&line["path"], &line["status"]),
        (&json!("/a"), &json!(502))
    );
}

/// What logrotate does: another name, a signal, and the old file is compressed when nobody writes to it any more.
#[tokio::test]
async fn sighup_opens_the_file_anew() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let tables = to_file(", normal = 1.0") + &all_to(&upstream.url(), "");
    let mut gateway = Gateway::serve(&config("drain_delay = \"0s\"", &tables)).await;
    let paths = |lines: &[Value]| -> Vec<String> {
        let paths = lines.iter().map(|line| line["path"].as_str().unwrap());
        paths.map(str::to_owned).collect()
    };
    let (now, before) = (
        gateway.folder().join(FILE),
        gateway.folder().join("access.log.1"),
    );
    let mut client = Client::connect(gateway.traffic).await;
    for round in 0..3 {
        for path in [format!("/{round}/a"), format!("/{round}/b")] {
            client.get(&path).await;
            assert_eq!(client.read_answer().await.status(), 200);
        }
        let lines = in_file(&now, 2).await;
        assert_eq!(
            paths(&lines),
            [format!("/{round}/a"), format!("/{round}/b")]
        );
        std::fs::rename(&now, &before).unwrap();
        // Until it is told, it goes on with the file that it has.
        client.get("/between").await;
        assert_eq!(client.read_answer().await.status(), 200);
        assert_eq!(in_file(&before, 3).await.len(), 3);
        assert!(!now.exists());
        for signal in ["USR1", "USR2", "HUP"] {
            gateway.signal(signal).await;
        }
        until("a new file", || async { now.exists().then_some(()) }).await;
    }
    client.get("/last").await;
    assert_eq!(client.read_answer().await.status(), 200);
    assert_eq!(page(gateway.admin, "/").await["phase"], "ready");
    gateway.signal("TERM").await;
    assert_eq!(gateway.ended().await.0, Some(0));
    assert_eq!(paths(&in_file(&now, 1).await), ["/last"]);
}

#[tokio::test]
async fn what_is_under_way_at_the_end_is_in_the_log() {
    let gate = Gate::new();
    let upstream = Upstream::start(always(Reply::ok().hold(At::Start, &gate))).await;
    let tables = to_file(", normal = 1.0") + &all_to(&upstream.url(), "");
    let mut gateway = Gateway::serve(&config("drain_delay = \"0s\"", &tables)).await;
    let mut client = Client::connect(gateway.traffic).await;
    client.get("/").await;
    upstream.arrived(1).await;
    gateway.signal("TERM").await;
    gateway.listener_closed().await;
    gate.open();
    assert_eq!(client.read_answer().await.status(), 200);
    assert_eq!(gateway.ended().await.0, Some(0));
    assert_eq!(gateway.logged(1).await[0]["ended_by"], "completed");
}

#[tokio::test]
async fn what_is_cut_at_the_end_is_in_the_log() {
    let upstream = Upstream::start(always(Reply::ok().stall(At::Start))).await;
    let mut tables = to_file("");
    tables += "[lanes]\ntotal = 4\n[lanes.lane.core]\nguaranteed = 0.5\n\
               [lanes.lane.thread]\nguaranteed = 0.5\nthreads = 1\n";
    tables += &self::upstream("up", &upstream.url());
    tables += &route("here", "/here", "up", "");
    tables += &route("there", "/there", "up", "lane = \"thread\"");
    let server = "drain_delay = \"0s\"\nshutdown_grace = \"100ms\"";
    let mut gateway = Gateway::serve(&config(server, &tables)).await;
    let mut clients = Vec::new();
    for path in ["/here", "/there"] {
        let mut client = Client::connect(gateway.traffic).await;
        client.get(path).await;
        clients.push(client);
    }
    upstream.arrived(2).await;
    gateway.signal("TERM").await;
    let (status, said) = gateway.ended().await;
    assert_eq!(status, Some(0), "{said}");
    assert!(
        said.contains("2 requests on 2 connections were cut"),
        "{said}"
    );
    for line in gateway.logged(2).await {
        assert_eq!(line.get("status"), None, "{line}");
        assert_eq!(line["phase"], "upstream", "{line}");
    }
}

/// A check may run beside the gateway that writes the log.
#[tokio::test]
async fn a_check_does_not_touch_the_log() {
    let text = config("", &(to_file("") + &all_to("http://127.0.0.1:1", "")));
    let (folder, file) = folder(&text);
    command("check", &file).await.succeeded();
    assert!(!folder.path().join(FILE).exists());
    let no_budget = text.replacen("access.log\"", "access.log\", budget_per_second = 0", 1);
    let said = check(&no_budget).await;
    assert!(
        said.refused()
            .contains("observe.access_log.budget_per_second"),
        "{said:?}"
    );
}

#[tokio::test]
async fn a_log_that_cannot_be_written_is_told_at_the_start() {
    let text = config("", &(to_file("") + &all_to("http://127.0.0.1:1", "")));
    let (_folder, file) = folder(&text.replacen(FILE, "no/such/folder/access.log", 1));
    let said = command("serve", &file).await;
    assert!(
        said.refused().contains("observe.access_log.path"),
        "{said:?}"
    );
}
