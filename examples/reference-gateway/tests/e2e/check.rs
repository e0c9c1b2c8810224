//! `check`: what is wrong with a file, by line, column and key.

use crate::command::{GATEWAY, run};
use crate::gateway::{check, command, folder};

const CONTRACT: &str = include_str!("../fixtures/contract.toml");

/// A file that serves, to be spoilt. Line 1 is `[server]`.
const GOOD: &str = r#"[server]
listen = ["127.0.0.1:0"]
header_timeout = "10s"

[health]
listen = "127.0.0.1:0"

[admin]
listen = "127.0.0.1:0"

[limits.per_ip]
key = "ip"
rate = "100/s"

[upstreams.orders]
endpoints = ["http://127.0.0.1:9001"]

[[routes]]
name = "orders"
match = { prefix = "/" }
upstream = "orders"
lane = "core"
public = true
limits = ["per_ip"]
"#;

/// Replaces a part of [`GOOD`]; `»` in the new part is where the fault must be found.
fn spoil(old: &str, new: &str) -> (String, usize, usize) {
    assert!(GOOD.contains(old), "{old}");
    let marked = GOOD.replacen(old, new, 1);
    let at = marked.find('»').expect("a mark");
    let before = &marked[..at];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
    (marked.replacen('»', "", 1), line, column)
}

#[tokio::test]
async fn the_contract_is_accepted_and_what_it_asks_for_in_vain_is_listed() {
    let (_folder, file) = folder(CONTRACT);
    let said = command("check", &file).await;
    assert_eq!(
        said.succeeded(),
        format!("{}: 4 routes, ok\n", file.display())
    );
    for key in [
        "auth.api_keys.partners.file",
        "auth.jwt.main",
        "log_ingest.sink",
        "response.compress",
        "routes[1].canary",
        "routes[1].schema",
        "routes[1].shadow",
        "routes[2].cache",
        "upstreams.orders.balance",
        "upstreams.orders.health",
    ] {
        let start = format!("note: {key}: ");
        assert!(
            said.err.lines().any(|line| line.starts_with(&start)),
            "{key} in {}",
            said.err
        );
    }
    let others = said.err.lines().filter(|line| !line.starts_with("note: "));
    assert_eq!(others.count(), 0, "{}", said.err);
}

#[tokio::test]
async fn a_good_file_is_good() {
    let said = check(GOOD).await;
    assert!(
        said.succeeded().ends_with("gateway.toml: 1 route, ok\n"),
        "{said:?}"
    );
}

#[tokio::test]
async fn each_fault_is_told_with_line_column_and_key() {
    let cases = [
        // What is replaced, by what, the key, a word of the message.
        ("[health]", "[health»", "", "not valid TOML"),
        ("key = \"ip\"", "key = »ip", "", "not valid TOML"),
        (
            "header_timeout",
            "»header_timeot",
            "server.header_timeot",
            "did you mean",
        ),
        (
            "[health]",
            "[»heath]\nx = 1\n[health]",
            "heath",
            "did you mean",
        ),
        ("\"10s\"", "»\"10\"", "server.header_timeout", "such as"),
        ("\"10s\"", "»\"10KiB\"", "server.header_timeout", "such as"),
        ("\"10s\"", "»10", "server.header_timeout", "in quotes"),
        ("\"10s\"", "»\"-1s\"", "server.header_timeout", ""),
        (
            "header_timeout = \"10s\"",
            "threads = »100000",
            "server.threads",
            "from 0 to 1024",
        ),
        ("\"100/s\"", "»\"100\"", "limits.per_ip.rate", "/s"),
        ("\"100/s\"", "»\"0/s\"", "limits.per_ip.rate", ""),
        (
            "upstream = \"orders\"",
            "upstream = »\"order\"",
            "routes[0].upstream",
            "did you mean \"orders\"",
        ),
        (
            "lane = \"core\"",
            "lane = »\"cor\"",
            "routes[0].lane",
            "[lanes.lane]",
        ),
        (
            "limits = [\"per_ip\"]",
            "limits = [»\"nobody\"]",
            "routes[0].limits[0]",
            "[limits]",
        ),
        (
            "[\"127.0.0.1:0\"]",
            "[»\"localhost\"]",
            "server.listen[0]",
            "",
        ),
        (
            "[\"http://127.0.0.1:9001\"]",
            "[»\"127.0.0.1:9001\"]",
            "upstreams.orders.endpoints[0]",
            "http://",
        ),
        (
            "[\"http://127.0.0.1:9001\"]",
            "[»\"https://127.0.0.1:9001\"]",
            "upstreams.orders.endpoints[0]",
            "TLS",
        ),
        (
            "[\"http://127.0.0.1:9001\"]",
            "»[]",
            "upstreams.orders.endpoints",
            "at least one",
        ),
        (
            "[health]",
            "»[server.tls]\ncertificate = \"c\"\nkey = \"k\"\n[health]",
            "server.tls",
            "TLS",
        ),
    ];
    for (old, new, key, word) in cases {
        let (text, line, column) = spoil(old, new);
        let (_folder, file) = folder(&text);
        let said = command("check", &file).await;
        let dotted = if key.is_empty() {
            String::new()
        } else {
            format!("{key}: ")
        };
        let start = format!("{}:{line}:{column}: {dotted}", file.display());
        let told = said.refused();
        let mut faults = told.lines().filter(|fault| !fault.starts_with("note: "));
        let first = faults.next().unwrap();
        assert!(
            first.starts_with(&start),
            "{new}: not `{start}` but\n{told}"
        );
        assert!(first.contains(word), "{new}: no `{word}` in\n{told}");
        // The line itself, with a caret under the column.
        let shown = faults.next().unwrap();
        let (_, source) = shown.split_once(" | ").unwrap();
        assert_eq!(
            source,
            text.lines().nth(line - 1).unwrap().trim_end(),
            "{told}"
        );
        let (_, caret) = faults.next().unwrap().split_once(" | ").unwrap();
        assert_eq!(caret, format!("{}^", " ".repeat(column - 1)), "{told}");
        assert_eq!(
            faults.next(),
            None,
            "{new}: one fault is told once:\n{told}"
        );
        assert!(said.out.is_empty(), "{said:?}");

        let served = command("serve", &file).await;
        assert_eq!(served.refused(), told, "`serve` says the same");
    }
}

/// Story: such files passed the reader, and were refused by the bulkhead's rules, under keys that no file has.
#[tokio::test]
async fn what_the_reader_takes_for_lanes_the_bulkhead_does_too() {
    let lanes: String = (0..63)
        .map(|n| format!("[lanes.lane.l_{n}-]\nguaranteed = {}\n", 1.0 / 63.0))
        .collect();
    check(&format!("{GOOD}{lanes}")).await.succeeded();
    let (text, line, column) = spoil(
        "[health]",
        "[lanes.lane.»\"logs.v1\"]\nguaranteed = 0.1\n[health]",
    );
    let said = check(&text).await;
    let place = format!(":{line}:{column}: lanes.lane.\"logs.v1\": ");
    assert!(said.refused().contains(&place), "{said:?}");
}

/// Story: what the layers found was searched for by a path in which a name's dots were steps, and a route's name its place.
#[tokio::test]
async fn what_is_found_while_building_is_told_with_its_line() {
    let route = |name: &str| {
        format!(
            "[[routes]]\nname = \"{name}\"\nmatch = {{ prefix = \"/{name}\" }}\nupstream = \"orders\"\npublic = true\n"
        )
    };
    for (new, key) in [
        (
            "[upstreams.\"orders.v2\"]\nendpoints = [»\"https://127.0.0.1:9\"]\n[upstreams.orders]"
                .to_owned(),
            "upstreams.\"orders.v2\".endpoints[0]",
        ),
        (
            format!(
                "{}{}retry = {{ methods = »[\"CONNECT\"] }}\n[upstreams.orders]",
                route("first"),
                route("second"),
            ),
            "routes[1].retry.methods",
        ),
    ] {
        let (text, line, column) = spoil("[upstreams.orders]", &new);
        let said = check(&text).await;
        let place = format!(":{line}:{column}: {key}: ");
        assert!(said.refused().contains(&place), "{place}{said:?}");
    }
}

#[tokio::test]
async fn all_faults_of_a_kind_are_told_at_once() {
    let text = GOOD
        .replace("upstream = \"orders\"", "upstream = \"nobody\"")
        .replace("limits = [\"per_ip\"]", "limits = [\"nothing\"]");
    let said = check(&text).await;
    for key in ["routes[0].upstream", "routes[0].limits[0]"] {
        assert!(
            said.refused().contains(&format!(": {key}: ")),
            "{key} in {}",
            said.err
        );
    }
}

#[tokio::test]
async fn what_is_no_file_is_told_by_name() {
    let (folder, file) = folder(GOOD);
    let missing = folder.path().join("missing.toml");
    let binary = folder.path().join("binary.toml");
    std::fs::write(&binary, b"[server]\n\xff\xfe").unwrap();
    let nul = folder.path().join("nul.toml");
    std::fs::write(&nul, b"[server]\n\0").unwrap();
    for (path, told) in [
        (missing.as_path(), ": does not exist"),
        (folder.path(), ": is a directory"),
        (binary.as_path(), ":2:1: is not UTF-8"),
        (nul.as_path(), ":2:1: holds a NUL byte"),
        (file.join("below").as_path(), ": "),
    ] {
        for verb in ["check", "serve"] {
            let said = command(verb, path).await;
            let start = format!("{}{told}", path.display());
            assert!(said.refused().starts_with(&start), "{verb}: {said:?}");
        }
    }
}

#[tokio::test]
async fn a_configuration_may_come_through_a_pipe() {
    let arguments = ["check", "--config", "/dev/stdin"];
    let said = run(GATEWAY, &arguments, GOOD).await;
    said.succeeded();
}

/// Story: each of them hung in a pipe that nobody was at the other end of.
#[tokio::test]
async fn a_pipe_that_the_configuration_names_is_refused() {
    let admin = "[admin]\ntoken_file = \"pipe\"";
    let keys = "\n[auth.api_keys.k]\nfile = \"pipe\"\n";
    let log = "\n[observe]\naccess_log = { path = \"pipe\" }\n";
    for (text, told) in [
        (
            GOOD.replacen("[admin]", admin, 1),
            "admin.token_file: is a pipe",
        ),
        (
            format!(
                "{}{keys}",
                GOOD.replacen("public = true", "auth = [\"k\"]", 1)
            ),
            "is a pipe",
        ),
        (
            format!("{GOOD}{log}"),
            "access_log.path: cannot be used: nobody reads this pipe",
        ),
    ] {
        let (folder, file) = folder(&text);
        let pipe = folder.path().join("pipe");
        run("mkfifo", &[pipe.to_str().unwrap()], "")
            .await
            .succeeded();
        let said = command("serve", &file).await;
        assert!(said.refused().contains(told), "{said:?}");
    }
}

#[tokio::test]
async fn a_value_from_the_environment_is_not_shown() {
    let text = GOOD.replace("\"100/s\"", "\"${E2E_RATE:-hunter2}\"");
    let said = check(&text).await;
    assert!(said.refused().contains("limits.per_ip.rate: "), "{said:?}");
    let first = said.err.lines().next().unwrap();
    assert!(!first.contains("hunter2"), "{said:?}");

    let text = GOOD.replace("\"100/s\"", "\"${E2E_NEVER_SET}\"");
    let said = check(&text).await;
    let told = said.refused();
    assert!(
        told.contains("limits.per_ip.rate: ") && told.contains("E2E_NEVER_SET"),
        "{told}"
    );
}

/// "`check` reads the file as `serve` does and ends with status 0 if it can be served."
#[tokio::test]
async fn check_refuses_a_token_file_that_serve_cannot_use() {
    let admin = "[admin]\ntoken_file = \"admin.token\"";
    let (folder, file) = folder(&GOOD.replacen("[admin]", admin, 1));
    for token in [None, Some("short")] {
        if let Some(token) = token {
            std::fs::write(folder.path().join("admin.token"), token).unwrap();
        }
        for verb in ["serve", "check"] {
            let said = command(verb, &file).await;
            let start = format!("{}:9:14: admin.token_file: ", file.display());
            assert!(
                said.refused().lines().any(|line| line.starts_with(&start)),
                "{verb} with {token:?}: {said:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_wrong_command_line_is_refused_with_usage() {
    for arguments in [&["serve"][..], &["check"], &["unknown"], &["--unknown"]] {
        let said = run(GATEWAY, arguments, "").await;
        assert_eq!(said.status.code(), Some(2), "{said:?}");
        assert!(said.err.contains("Usage:"), "{said:?}");
    }
    let said = run(GATEWAY, &["--version"], "").await;
    assert!(
        said.succeeded().contains(env!("CARGO_PKG_VERSION")),
        "{said:?}"
    );
}

/// What only the layers know is found by `check` as well, and `serve` says nothing of listening before it refuses.
#[tokio::test]
async fn what_cannot_be_built_is_refused_by_both_and_before_anything_is_announced() {
    let limit = "rate = \"100/s\"";
    for (old, new, key) in [
        (
            "[health]",
            "max_headers = »100_000\n[health]",
            "server.max_headers",
        ),
        (
            "[health]",
            "max_header_bytes = »\"2GiB\"\n[health]",
            "server.max_header_bytes",
        ),
        (
            limit,
            "rate = \"1/s\"\nburst = »4_294_967_295",
            "limits.per_ip",
        ),
        (
            "[health]",
            "[lanes.lane.core]\nguaranteed = 1.0\nthreads = »50_000\n[health]",
            "lanes.lane.core.threads",
        ),
    ] {
        let (text, ..) = spoil(old, new);
        let (_folder, file) = folder(&text);
        for verb in ["serve", "check"] {
            let said = command(verb, &file).await;
            let told = said.refused();
            assert!(told.contains(&format!(": {key}")), "{verb}: {told}");
            assert!(!told.contains("listening"), "{verb}: {told}");
        }
    }
}

/// Such a name would frame the messages: with `content-length`, answers carried an id as their length.
#[tokio::test]
async fn a_field_that_frames_messages_cannot_be_given_another_meaning() {
    for name in ["content-length", "transfer-encoding", "connection", "host"] {
        let id = format!("request_id = {{ header = \"{name}\" }}\n\n[health]");
        let identity = format!(
            "[auth]\nidentity_headers = {{ consumer = \"{name}\", user = \"x-u\", scopes = \"x-s\" }}\n\n[health]"
        );
        for (new, key) in [
            (id, "server.request_id.header"),
            (identity, "auth.identity_headers.consumer"),
        ] {
            let said = check(&GOOD.replacen("[health]", &new, 1)).await;
            assert!(
                said.refused().contains(&format!(": {key}: ")),
                "{name}: {said:?}"
            );
        }
    }
}

#[tokio::test]
async fn what_is_asked_of_log_and_traces_in_vain_is_listed() {
    let observe = "\n[observe]\naccess_log = { schema = \"ecs\" }\n\
                   trace = { otlp = \"http://127.0.0.1:4318\" }\n";
    let said = check(&format!("{GOOD}{observe}")).await;
    said.succeeded();
    for key in ["observe.access_log.schema", "observe.trace.otlp"] {
        let start = format!("note: {key}: ");
        assert!(
            said.err.lines().any(|line| line.starts_with(&start)),
            "{said:?}"
        );
    }
    let said = check(GOOD).await;
    assert!(!said.err.contains("observe"), "{said:?}");
    // Nor is anything said of what nobody has written.
    assert!(!said.err.contains("balance"), "{said:?}");
}

/// Story: it was taken, and nothing said that connections over HTTP/2 do not go by it.
#[tokio::test]
async fn a_bound_on_idle_connections_over_http2_is_noted() {
    let endpoints = "endpoints = [\"http://127.0.0.1:9001\"]\n";
    for (keys, noted) in [
        ("protocol = \"http2\"\npool = { max_idle = 0 }", true),
        ("protocol = \"http2\"\npool = { queue = 1 }", false),
        ("protocol = \"http1\"\npool = { max_idle = 0 }", false),
    ] {
        let said = check(&GOOD.replacen(endpoints, &format!("{endpoints}{keys}\n"), 1)).await;
        said.succeeded();
        let note = "note: upstreams.orders.pool.max_idle: ";
        assert_eq!(said.err.contains(note), noted, "{keys}: {said:?}");
    }
}

/// Whether `check` accepts the file and has such a note.
async fn notes(text: &str, note: &str) -> bool {
    let said = check(text).await;
    said.succeeded();
    let start = format!("note: {note}: ");
    said.err.lines().any(|line| line.starts_with(&start))
}

/// Story: with lanes that are off, a process without memory took everything in, and nothing said that it would.
#[tokio::test]
async fn lanes_that_do_not_refuse_for_memory_are_noted() {
    for (tables, noted) in [
        ("[lanes]\nmode = \"off\"", true),
        ("[lanes]\nmode = \"shadow\"", true),
        ("[lanes.lane.x]\nguaranteed = 0.1\nmode = \"shadow\"", true),
        ("[lanes.lane.x]\nguaranteed = 0.1", false),
        (
            "[server.memory]\nmode = \"off\"\n[lanes]\nmode = \"off\"",
            false,
        ),
    ] {
        let text = format!("{GOOD}{tables}\n");
        assert_eq!(notes(&text, "server.memory").await, noted, "{tables}");
    }
}

/// Story: what HTTP/1 took was 431 over HTTP/2, without the envelope and a line in the log.
#[tokio::test]
async fn bounds_of_heads_that_http2_has_not_are_noted() {
    for (keys, noted) in [
        ("max_header_bytes = \"64KiB\"", "server.max_header_bytes"),
        ("max_uri_bytes = \"48KiB\"", "server.max_uri_bytes"),
    ] {
        let wider = "http2 = { max_header_list_bytes = \"128KiB\" }";
        for (keys, expected) in [(keys.to_owned(), true), (format!("{keys}\n{wider}"), false)] {
            let text = GOOD.replacen("[server]", &format!("[server]\n{keys}"), 1);
            assert_eq!(notes(&text, noted).await, expected, "{keys}");
        }
    }
    for key in ["server.max_header_bytes", "server.max_uri_bytes"] {
        assert!(!notes(GOOD, key).await);
    }
}

/// Story: no file was without this note: it came also where nobody asked for it.
#[tokio::test]
async fn who_does_not_ask_for_compression_is_not_told_that_there_is_none() {
    let without = format!("{GOOD}[response]\ncompress = false\n");
    assert!(!notes(&without, "response.compress").await);
    assert!(notes(GOOD, "response.compress").await);
}
