//! What stands in a file and no route names: it is checked as the rest, and noted.

use crate::command::{GATEWAY, run};
use crate::gateway::{check, folder};

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
