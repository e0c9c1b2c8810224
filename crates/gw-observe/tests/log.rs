//! The log's bounds: what it keeps, what it loses, and that the counts add up.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::convert::Infallible;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gw_core::Body;
use gw_observe::access_log::LineCounts;
use gw_observe::{AccessLog, Class, ObserveLayer, RequestBody};
use gw_testkit::within;
use http::{Request, Response, StatusCode};
use support::{Pipe, every_request, flushed};
use tower::{Layer as _, Service as _, service_fn};

/// Sends requests through a layer with this log; each gets the status that its path names.
async fn send(log: &AccessLog, paths: impl IntoIterator<Item = String>) {
    let layer = ObserveLayer::builder().access_log(log).build().unwrap();
    let mut service = layer.layer(service_fn(async |request: Request<RequestBody<Body>>| {
        let mut response = Response::new(Body::empty());
        let status = request.uri().path().trim_start_matches('/');
        *response.status_mut() = status.parse().unwrap_or(StatusCode::OK);
        Ok::<_, Infallible>(response)
    }));
    for path in paths {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        service.call(request).await.unwrap();
    }
}

fn paths(path: &str, count: usize) -> impl Iterator<Item = String> {
    std::iter::repeat_n(path.to_owned(), count)
}

/// On a clock that stands still no request is slow, which would be a class of its own.
#[tokio::test(start_paused = true)]
async fn lines_are_sampled_by_class_and_carry_their_rate() {
    let pipe = Pipe::default();
    let log = AccessLog::builder()
        .writer(pipe.clone())
        .normal(0.25)
        .health(0.05)
        .budget_per_second(u32::MAX)
        .start()
        .unwrap();
    let handle = log.handle();
    for path in ["/200", "/404", "/500", "/healthz"] {
        send(&log, paths(path, 2_000)).await;
    }
    flushed(&handle);
    let lines = pipe.lines();
    let of = |path: &str, rate: f64| {
        let lines = lines.iter().filter(|line| line["path"] == path);
        let rated = lines.filter(|line| line["sampled_rate"].as_f64() == Some(rate));
        rated.count()
    };
    assert_eq!((of("/404", 1.0), of("/500", 1.0)), (2_000, 2_000));
    let (normal, health) = (of("/200", 0.25), of("/healthz", 0.05));
    assert!((380..620).contains(&normal), "{normal}");
    assert!((40..170).contains(&health), "{health}");
    assert_eq!(lines.len(), 4_000 + normal + health);
    let counts = handle.counts();
    assert_eq!(counts.written, lines.len() as u64);
    assert_eq!(counts.requests(), 8_000);

    handle.set_share(Class::Normal, 0.0).unwrap();
    handle.set_share(Class::Normal, 2.0).unwrap_err();
    send(&log, paths("/200", 100)).await;
    flushed(&handle);
    assert_eq!(handle.counts().written, counts.written);
}

#[tokio::test(start_paused = true)]
async fn slow_requests_are_kept_unless_the_client_was_slow() {
    let pipe = Pipe::default();
    let log = every_request(&pipe).normal(0.0).start().unwrap();
    let layer = ObserveLayer::builder().access_log(&log).build().unwrap();
    let mut service = layer.layer(service_fn(async |request: Request<RequestBody<Body>>| {
        tokio::time::sleep(Duration::from_millis(900)).await;
        if request.uri().path() == "/slow" {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        http_body_util::BodyExt::collect(request.into_body())
            .await
            .unwrap();
        Ok::<_, Infallible>(Response::new(Body::empty()))
    }));
    for path in ["/slow", "/slow-upload"] {
        let (body, upload) = gw_testkit::body::ScriptedBody::script().hold().build();
        let request = Request::builder().uri(path).body(Body::new(body)).unwrap();
        let call = tokio::spawn(service.call(request));
        upload.held().await;
        if path == "/slow-upload" {
            tokio::time::advance(Duration::from_secs(5)).await;
        }
        upload.resume();
        call.await.unwrap().unwrap();
    }
    flushed(&log.handle());
    let lines = pipe.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["path"], "/slow");
}

#[tokio::test]
async fn a_flood_is_summed_up() {
    let pipe = Pipe::default();
    let log = every_request(&pipe).budget_per_second(10).start().unwrap();
    let handle = log.handle();
    send(&log, paths("/404", 5_000)).await;
    send(&log, paths("/500", 5)).await;
    // The last summary is written when the log is closed.
    drop(log);
    let counts = handle.counts();
    assert_eq!(counts.requests(), 5_005);
    assert_eq!(counts.written + counts.over_budget, 5_005);
    let lines = pipe.lines();
    assert_eq!(lines.len() as u64, counts.written);
    // The flood took nothing from the errors.
    assert_eq!(lines.iter().filter(|line| line["status"] == 500).count(), 5);
    let summaries = pipe.summaries();
    let summed: u64 = summaries
        .iter()
        .map(|line| {
            assert_eq!(line["summary"], "over_budget");
            assert_eq!(line["class"], "client_error");
            assert_eq!(line["sampled_rate"], 1);
            line["lines"].as_u64().unwrap()
        })
        .sum();
    assert_eq!(summed, counts.over_budget);
}

#[tokio::test]
async fn a_stuck_pipe_loses_lines_and_nothing_else() {
    let pipe = Pipe::stuck();
    let log = every_request(&pipe)
        .buffer_bytes(16 * 1024)
        .start()
        .unwrap();
    let handle = log.handle();
    send(&log, paths("/200", 10_000)).await;
    let counts = handle.counts();
    assert_eq!(counts.requests(), 10_000);
    assert_eq!(counts.written, 0);
    // Two buffers are full: one waits, one is in the writer's hands.
    assert!((20..200).contains(&counts.queued), "{counts:?}");
    assert_eq!(counts.lost_full, 10_000 - counts.queued);

    pipe.unstick();
    flushed(&handle);
    let after = handle.counts();
    assert_eq!((after.written, after.queued), (counts.queued, 0));
    assert_eq!(pipe.lines().len() as u64, after.written);
    // What is lost is told in the log itself.
    drop(log);
    let summaries = pipe.summaries();
    let told: u64 = summaries
        .iter()
        .map(|line| line["lines"].as_u64().unwrap())
        .sum();
    assert_eq!(summaries[0]["summary"], "lost_full");
    assert_eq!(told, counts.lost_full);
}

#[tokio::test]
async fn closing_waits_for_so_long_and_counts_the_rest() {
    let pipe = Pipe::stuck();
    let limit = Duration::from_millis(50);
    let log = every_request(&pipe).flush_timeout(limit).start().unwrap();
    let handle = log.handle();
    send(&log, paths("/200", 100)).await;
    drop(log);
    let counts = handle.counts();
    assert_eq!(counts.lost_closed, 100);
    assert_eq!((counts.requests(), counts.queued), (100, 0));
    // What the writer does with what it had in hand changes nothing any more.
    pipe.unstick();
    assert!(handle.flush(Duration::from_secs(30)));
    assert_eq!(handle.counts(), counts);
}

#[tokio::test]
async fn closing_writes_what_is_there() {
    let pipe = Pipe::default();
    let log = every_request(&pipe).start().unwrap();
    let handle = log.handle();
    let layer = ObserveLayer::builder().access_log(&log).build().unwrap();
    send(&log, paths("/200", 1_000)).await;
    drop(log);
    assert_eq!(pipe.lines().len(), 1_000);
    assert_eq!(handle.counts().written, 1_000);
    let mut late = layer.layer(service_fn(async |_: Request<RequestBody<Body>>| {
        Ok::<_, Infallible>(Response::new(Body::empty()))
    }));
    late.call(Request::new(Body::empty())).await.unwrap();
    assert_eq!(handle.counts().lost_closed, 1);
    assert_eq!(handle.counts().lost_full, 0);
}

#[tokio::test]
async fn a_disk_that_is_full_for_a_while() {
    // Writing fails in the middle of the third line.
    let pipe = Pipe::fails_after(1_000);
    let log = every_request(&pipe).start().unwrap();
    let handle = log.handle();
    send(&log, paths("/200", 10)).await;
    flushed(&handle);
    let counts = handle.counts();
    assert_eq!(counts.requests(), 10);
    assert!((1..10).contains(&counts.lost_write), "{counts:?}");
    let torn = pipe.text();
    assert_eq!(torn.lines().count() as u64, counts.written + 1);
    send(&log, paths("/404", 2)).await;
    drop(log);
    // The half line stands alone; all others are whole.
    let text = pipe.text();
    let whole = text
        .lines()
        .filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok());
    let requests = whole.filter(|line| line.contains("\"path\"")).count();
    assert_eq!(requests as u64, handle.counts().written);
    assert_eq!(handle.counts().written, counts.written + 2);
}

#[tokio::test]
async fn a_pipe_that_does_not_block_is_waited_for() {
    struct Reluctant(Pipe, Arc<AtomicUsize>);
    impl Write for Reluctant {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.1.fetch_add(1, Ordering::Relaxed) % 3 {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                1 => Err(io::ErrorKind::Interrupted.into()),
                _ => self.0.write(&bytes[..bytes.len().min(700)]),
            }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let pipe = Pipe::default();
    let log = every_request(&Pipe::default())
        .writer(Reluctant(pipe.clone(), Arc::default()))
        .start()
        .unwrap();
    send(&log, paths("/200", 10)).await;
    flushed(&log.handle());
    assert_eq!(pipe.lines().len(), 10);
    assert_eq!(log.handle().counts().lost(), 0);
}

/// Story: a pipe that was full for a moment when the process ended lost all that was left, with a reader that would have taken it.
#[tokio::test]
async fn closing_waits_for_a_pipe_that_does_not_block() {
    struct Full(Pipe, usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.1.checked_sub(1) {
                Some(left) => {
                    self.1 = left;
                    Err(io::ErrorKind::WouldBlock.into())
                }
                None => self.0.write(bytes),
            }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let pipe = Pipe::default();
    for (times, limit, written) in [
        (5, Duration::from_secs(30), 10),
        (usize::MAX, Duration::ZERO, 0),
    ] {
        let log = every_request(&Pipe::default())
            .writer(Full(pipe.clone(), times))
            .flush_timeout(limit)
            .start()
            .unwrap();
        let handle = log.handle();
        send(&log, paths("/200", 10)).await;
        drop(log);
        assert!(handle.flush(Duration::from_secs(30)));
        let counts = handle.counts();
        assert_eq!(
            (counts.written, counts.lost_closed),
            (written, 10 - written)
        );
        assert_eq!(counts.lost_write, 0);
    }
    assert_eq!(pipe.lines().len(), 10);
}

#[tokio::test]
async fn a_rotated_file_is_opened_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (logs, moved) = (dir.path().join("logs"), dir.path().join("moved"));
    fs::create_dir(&logs).unwrap();
    let (path, old) = (logs.join("access.log"), logs.join("access.log.1"));
    let log = every_request(&Pipe::default()).file(&path).start().unwrap();
    let handle = log.handle();
    let count = |path: &Path| fs::read_to_string(path).unwrap().lines().count();
    send(&log, paths("/200", 3)).await;
    flushed(&handle);
    fs::rename(&path, &old).unwrap();
    send(&log, paths("/200", 2)).await;
    flushed(&handle);
    assert_eq!(count(&old), 5);
    handle.reopen();
    send(&log, paths("/200", 4)).await;
    flushed(&handle);
    assert_eq!((count(&old), count(&path)), (5, 4));

    // The directory is gone: the file that is open is written to.
    fs::rename(&logs, &moved).unwrap();
    handle.reopen();
    send(&log, paths("/200", 1)).await;
    flushed(&handle);
    assert_eq!(count(&moved.join("access.log")), 5);
    assert!(handle.is_reopening_failing());

    // Story: it was not tried again, and nothing said so.
    fs::create_dir(&logs).unwrap();
    let reopened = async {
        while handle.is_reopening_failing() {
            tokio::task::yield_now().await;
        }
    };
    within("the file to be opened anew", reopened).await;
    send(&log, paths("/200", 1)).await;
    drop(log);
    assert_eq!(count(&path), 1);
    assert_eq!(handle.counts().written, 11);
}

#[test]
fn a_log_that_cannot_be_started() {
    let message = |builder: gw_observe::access_log::AccessLogBuilder| {
        let checked = builder.check().err();
        let started = builder.start().unwrap_err().to_string();
        // Checking finds the same, but for what only opening tells.
        match checked {
            Some(checked) => assert_eq!(checked.to_string(), started),
            None => assert!(started.starts_with("file: "), "{started}"),
        }
        started
    };
    let log = || AccessLog::builder().writer(io::sink());
    assert_eq!(
        message(log().normal(1.5)),
        "normal: must be a number from 0 to 1"
    );
    assert_eq!(
        message(log().health(f64::NAN)),
        "health: must be a number from 0 to 1"
    );
    assert_eq!(
        message(log().budget_per_second(0)),
        "budget_per_second: must be at least 1 line"
    );
    assert_eq!(
        message(log().buffer_bytes(100)),
        "buffer_bytes: must be 4 KiB to 1 GiB: a line may have 4 KiB"
    );
    let missing = message(log().file("/nonexistent/directory/access.log"));
    assert!(missing.starts_with("file: cannot be used: "), "{missing}");
    let error = ObserveLayer::builder().sample(-1.0).build().unwrap_err();
    assert_eq!(error.to_string(), "sample: must be a number from 0 to 1");
    let error = ObserveLayer::builder()
        .max_routes(70_000)
        .build()
        .unwrap_err();
    assert_eq!(error.to_string(), "max_routes: must be at most 65536");
}

#[test]
fn counts_add_up_by_themselves() {
    let counts = LineCounts::default();
    assert_eq!((counts.requests(), counts.lost()), (0, 0));
}
