//! The log lines of the intake, with the feature `tracing`: on change of state only.

mod intake_support;

use gw_logingest::Mode;
use gw_testkit::log_capture::LogCapture;
use intake_support::*;

#[tokio::test(start_paused = true)]
async fn only_changes_are_logged() {
    let queue = FakeQueue::new();
    let capture = LogCapture::new();
    capture
        .scope({
            let queue = queue.clone();
            async move {
                let ingest = builder(&queue).build().expect("valid");
                for percent in [0, 10, 60, 65, 60, 10, 0] {
                    queue.fill(percent);
                    send(&ingest, post(event("info", "hunter2"))).await;
                    send(&ingest, post("hunter2")).await;
                }
                ingest.handle().set_mode(Mode::Off);
                ingest.handle().set_mode(Mode::Off);
            }
        })
        .await;
    let messages: Vec<String> = capture
        .events()
        .iter()
        .map(|event| event.message.clone())
        .collect();
    let changed = "log intake: what is held back has changed";
    assert_eq!(messages, [changed, changed, "log intake: mode changed"]);
    capture.assert_never_says("hunter2");
}

/// Story: in shadow mode, in which nothing is held back, the log warned that something was.
#[tokio::test(start_paused = true)]
async fn shadow_mode_says_what_it_would_do() {
    let queue = FakeQueue::new();
    let capture = LogCapture::new();
    capture
        .scope(async move {
            let ingest = builder(&queue).mode(Mode::Shadow).build().expect("valid");
            queue.fill(60);
            send(&ingest, post(array(1))).await;
            ingest.handle().set_mode(Mode::Enforce);
            send(&ingest, post(array(1))).await;
            ingest.handle().set_mode(Mode::Off);
            send(&ingest, post(array(1))).await;
        })
        .await;
    let lines: Vec<(String, String)> = capture
        .events()
        .iter()
        .map(|event| (event.level.to_string(), event.message.clone()))
        .collect();
    let mode = || ("INFO".to_owned(), "log intake: mode changed".to_owned());
    let would = "log intake: what would be held back has changed, in shadow mode";
    let is = "log intake: what is held back has changed";
    assert_eq!(
        lines,
        [
            ("INFO".to_owned(), would.to_owned()),
            mode(),
            ("WARN".to_owned(), is.to_owned()),
            mode(),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_missing_address_is_told_once_with_its_remedy() {
    let queue = FakeQueue::new();
    let capture = LogCapture::new();
    capture
        .scope(async move {
            let ingest = builder(&queue).build().expect("valid");
            for _ in 0..3 {
                let mut request = post(array(1));
                request.extensions_mut().clear();
                send(&ingest, request).await;
            }
            assert_eq!(queue.batches()[2].client().as_str(), "unknown");
        })
        .await;
    let line = capture.only("log intake: clients without an address count as one; logged once");
    let missing = line.field("missing").unwrap_or_default();
    assert!(
        missing.contains("into_make_service_with_connect_info"),
        "{missing}"
    );
}
