//! What the file says.

use super::config;
use crate::gateway::{check, command, folder};

#[tokio::test]
async fn what_cannot_be_built_is_told_with_its_key() {
    let cases = [
        (
            "queue = { engine = \"redis\", url = \"redis://127.0.0.1\", stream = \"s\" }",
            "log_ingest.queue.engine",
            "not supported by this version",
        ),
        (
            "queue = { engine = \"disk\", max_bytes = \"64KiB\" }",
            "log_ingest.queue.max_bytes",
            "256KiB",
        ),
        (
            "sink = { kind = \"elasticsearch\", nodes = [\"https://127.0.0.1\"], index = \"logs\" }",
            "log_ingest.sink.nodes",
            "TLS is not spoken",
        ),
        (
            "sink = { kind = \"elasticsearch\", nodes = [\"http://127.0.0.1\"], index = \"Logs\" }",
            "log_ingest.sink.index",
            "must be 1 to 255 of",
        ),
        (
            "sink = { kind = \"elasticsearch\", nodes = [\"http://127.0.0.1\"], data_stream = \"Logs\" }",
            "log_ingest.sink.data_stream",
            "must be 1 to 255 of",
        ),
        (
            "max_event_bytes = \"100B\"",
            "log_ingest.max_event_bytes",
            "at least \"256B\"",
        ),
        (
            "max_events = 2000000",
            "log_ingest.max_events",
            "1 to 1000000",
        ),
    ];
    for (ingest, key, word) in cases {
        let said = check(&config("", ingest)).await;
        let told = said.refused();
        let fault = told
            .lines()
            .find(|line| !line.starts_with("note: "))
            .unwrap();
        assert!(
            fault.contains(&format!(": {key}: ")) && fault.contains(word),
            "{ingest}: {told}"
        );
    }
}

/// Story: `check` said that they were good, `serve` refused, and a sink that was a directory was never written.
#[tokio::test]
async fn what_cannot_be_written_is_found_by_check() {
    for (ingest, key) in [
        (
            "queue = { engine = \"disk\", dir = \"gateway.toml\" }",
            "log_ingest.queue.dir",
        ),
        (
            "queue = { engine = \"disk\", dir = \"gateway.toml/q\" }",
            "log_ingest.queue.dir",
        ),
        (
            "sink = { kind = \"file\", path = \".\" }",
            "log_ingest.sink.path",
        ),
        (
            "sink = { kind = \"file\", path = \"gateway.toml/x\" }",
            "log_ingest.sink.path",
        ),
        (
            "sink = { kind = \"file\", path = \"a.log\" }\n[observe]\naccess_log = { path = \"a.log\" }",
            "log_ingest.sink.path",
        ),
        (
            "[observe]\naccess_log = { path = \".\" }",
            "observe.access_log.path",
        ),
        (
            "[observe]\naccess_log = { path = \"not/there.log\" }",
            "observe.access_log.path",
        ),
    ] {
        let (_folder, file) = folder(&config("", ingest));
        for verb in ["check", "serve"] {
            let said = command(verb, &file).await;
            let told = said.refused();
            assert!(
                told.contains(&format!(": {key}: ")),
                "{verb} {ingest}: {told}"
            );
        }
    }
}

#[tokio::test]
async fn what_is_asked_for_in_vain_is_listed() {
    let cases = [
        ("", "log_ingest.sink"),
        (
            "queue = { engine = \"disk\", durability = \"process\" }",
            "log_ingest.queue.durability",
        ),
        (
            "queue = { engine = \"memory\" }\n\
             sink = { kind = \"elasticsearch\", nodes = [\"http://127.0.0.1\"], index = \"logs\" }",
            "log_ingest.queue",
        ),
    ];
    for (ingest, key) in cases {
        let said = check(&config("", ingest)).await;
        said.succeeded();
        let start = format!("note: {key}: ");
        assert!(
            said.err.lines().any(|line| line.starts_with(&start)),
            "{said:?}"
        );
    }
    // Who has no route for it is told nothing, and no directory is made.
    let said = check(&crate::gateway::config(
        "",
        &crate::gateway::all_to("http://127.0.0.1:1", ""),
    ))
    .await;
    assert!(!said.err.contains("log_ingest"), "{said:?}");
}
