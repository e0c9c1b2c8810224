//! What stands in a file and no route names: it is checked as the rest, and noted.

use crate::command::{GATEWAY, run};
use crate::gateway::{check, command, folder};

const NAMED: &str = r#"
[upstreams.a]
endpoints = ["http://127.0.0.1:9001"]

[[routes]]
name = "all"
match = { prefix = "/" }
upstream = "a"
public = true
limits = ["named"]

[limits.named]
key = "ip"
rate = "100/s"
"#;

#[tokio::test]
async fn what_no_route_names_is_noted() {
    let other = "[limits.other]\nkey = \"ip\"\nrate = \"1/s\"\n[log_ingest]\nmax_events = 7\n";
    let said = check(&format!("{NAMED}{other}")).await;
    said.succeeded();
    for key in ["limits.other", "log_ingest"] {
        let start = format!("note: {key}: ");
        assert!(
            said.err.lines().any(|line| line.starts_with(&start)),
            "{said:?}"
        );
    }
    assert!(!said.err.contains("limits.named"), "{said:?}");
    let said = check(NAMED).await;
    assert!(!said.err.contains("log_ingest"), "{said:?}");
}

/// Story: of these nothing was said.
#[tokio::test]
async fn what_nobody_uses_is_noted() {
    let other = "[upstreams.other]\nendpoints = [\"http://127.0.0.1:9002\"]\n\
                 [lanes.lane.core]\nguaranteed = 0.5\n[lanes.lane.idle]\nguaranteed = 0.1\nthreads = 1\n\
                 [lanes.lane.spare]\nguaranteed = 0.0\n\
                 [auth.api_keys.unnamed]\nfile = \"empty.toml\"\n\
                 [[routes]]\nname = \"orders\"\nmatch = { prefix = \"/o\", methods = [\"POST\"] }\n\
                 upstream = \"a\"\npublic = true\nhedge = {}\n\
                 [[routes]]\nname = \"reads\"\nmatch = { prefix = \"/r\", methods = [\"POST\", \"GET\"] }\n\
                 upstream = \"a\"\npublic = true\nhedge = {}\n";
    let (folder, file) = folder(&format!("{NAMED}{other}"));
    std::fs::write(folder.path().join("empty.toml"), "# none\n").unwrap();
    let said = command("check", &file).await;
    said.succeeded();
    let notes = said.err.lines().filter_map(|line| {
        let (key, _) = line.strip_prefix("note: ")?.split_once(": ")?;
        (key != "response.compress").then_some(key)
    });
    let expected = [
        "auth.api_keys.unnamed",
        "auth.api_keys.unnamed.file",
        "lanes.lane.idle",
        "routes[1].hedge",
        "upstreams.other",
    ];
    assert_eq!(notes.collect::<Vec<_>>(), expected, "{said:?}");
}

/// Story: a limit at fault was good until a route named it, perhaps in the night in which it was needed.
#[tokio::test]
async fn what_no_route_names_is_checked_all_the_same() {
    for (other, key) in [
        (
            "[limits.other]\nkey = \"ip\"\nrate = \"1/s\"\nburst = 4_294_967_295",
            "limits.other.burst",
        ),
        (
            "[limits.other]\nkey = \"user\"\nrate = \"1/s\"\nstore = \"redis://127.0.0.1/none\"",
            "limits.other.store",
        ),
        (
            "[log_ingest]\nper_client = { rate = \"1/s\", burst = 4_294_967_295 }",
            "log_ingest.per_client.burst",
        ),
    ] {
        let said = check(&format!("{NAMED}{other}\n")).await;
        assert!(said.refused().contains(&format!(": {key}: ")), "{said:?}");
    }
}

/// Story: "must be given, since the system trusts none" did not say what.
#[tokio::test]
async fn a_system_that_trusts_nobody_is_told_of_certificates() {
    let store = "store = \"rediss://127.0.0.1:1\"\n";
    let (_folder, file) = folder(&format!("{NAMED}{store}"));
    let file = file.to_str().unwrap();
    let arguments = [
        "-u",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE=/dev/null",
        GATEWAY,
        "check",
        "--config",
        file,
    ];
    let said = run("env", &arguments, "").await;
    let told = ": limits.named.store: needs certificates that the system trusts";
    assert!(said.refused().contains(told), "{said:?}");
}
