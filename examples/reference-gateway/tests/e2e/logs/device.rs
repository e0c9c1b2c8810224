//! A device that does not take what is written.

use tempfile::TempDir;

use super::{AMPLE, Promises, cluster, config, send_one, to_cluster};
use crate::command::{GATEWAY, run, until};
use crate::gateway::{Gateway, command, folder};
use crate::http::{get, is_refusal, page, retry_after};

/// Files may have so many bytes from now on. Like a full disk it refuses to reserve and to write, and it needs no rights
/// and no file system of its own.
async fn limit_files(gateway: &Gateway, bytes: &str) {
    let pid = gateway.pid().to_string();
    let limit = format!("--fsize={bytes}:unlimited");
    run("prlimit", &["--pid", &pid, &limit], "")
        .await
        .succeeded();
}

#[tokio::test]
async fn a_full_disk_refuses_loses_nothing_and_heals() {
    let cluster = cluster().await;
    cluster.behave(gw_testkit::elasticsearch::Behaviour::hung());
    let folder = TempDir::new().unwrap();
    let ingest = to_cluster(&folder.path().join("queue"), &cluster, "1MiB") + AMPLE;
    // The signal that comes with the limit would end the process; a full disk sends none.
    let script = "trap '' XFSZ; exec \"$0\" \"$@\"";
    let text = config("", &ingest);
    let gateway = Gateway::served_by(&["bash", "-c", script, GATEWAY], &text).await;
    let mut promises = Promises::default();
    let taken = |n: usize| format!("before{n}");
    for n in 0..5 {
        let answer = send_one(&gateway, "app", &taken(n)).await;
        promises.add(&answer, &[taken(n)]);
    }
    limit_files(&gateway, "512").await;
    for _ in 0..5 {
        let answer = send_one(&gateway, "app", "refused").await;
        is_refusal("a full disk", &answer, 503, "OVERLOADED");
        retry_after("a full disk", &answer);
    }
    let logs = page(gateway.admin, "/logs").await;
    assert_eq!(logs["queue"]["state"], "failing", "{logs}");
    assert_eq!(get(gateway.health, "/readyz").await.status(), 200);

    limit_files(&gateway, "unlimited").await;
    let answer = until("the queue to store again", || async {
        let answer = send_one(&gateway, "app", "after").await;
        (answer.status() == 202).then_some(answer)
    })
    .await;
    promises.add(&answer, &["after".to_owned()]);
    cluster.behave(gw_testkit::elasticsearch::Behaviour::healthy());
    promises.are_kept(&cluster).await;
    assert!(!super::indexed(&cluster).values().any(|it| it == "refused"));
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_is_told_at_the_start_with_its_key() {
    let taken = TempDir::new().unwrap();
    let file = taken.path().join("file");
    std::fs::write(&file, "").unwrap();
    let queue = file.join("queue");
    let ingest = format!(
        "queue = {{ engine = \"disk\", dir = \"{}\" }}",
        queue.display()
    );
    let text = config("", &ingest);
    let line = 1 + text
        .lines()
        .position(|line| line.starts_with("queue = {"))
        .unwrap();
    let (_folder, file) = folder(&text);
    for verb in ["check", "serve"] {
        let said = command(verb, &file).await;
        let faults: Vec<_> = said
            .refused()
            .lines()
            .filter(|it| !it.starts_with("note: "))
            .collect();
        let start = format!("{}:{line}:", file.display());
        assert!(faults[0].starts_with(&start), "{said:?}");
        let told = ": log_ingest.queue.dir: lies below what is no folder";
        assert!(faults[0].contains(told), "{said:?}");
    }
}

#[tokio::test]
async fn a_directory_that_another_gateway_has_is_refused() {
    let cluster = cluster().await;
    let queue = TempDir::new().unwrap();
    let text = config("", &to_cluster(queue.path(), &cluster, "1MiB"));
    let first = Gateway::serve(&text).await;
    let (_folder, file) = folder(&text);
    command("check", &file).await.succeeded();
    let said = command("serve", &file).await;
    assert!(
        said.refused()
            .contains(": log_ingest.queue.dir: another process"),
        "{said:?}"
    );
    drop(first);
}
