//! Uploads events to a log intake: `your-service | uploader http://127.0.0.1:3000/logs`, an event of JSON in each line.
//!
//! What fails is counted, and told on standard error. It is never an event itself: a report of a failed upload that goes to the
//! same place fails, too, makes another one, and so an outage feeds itself.
#![allow(clippy::print_stderr, reason = "it must not use a log for itself")]

use std::{env, error::Error, io, time::Duration, time::SystemTime};

use bytes::Bytes;
use gw_core::RetryAfter;
use gw_retry::Backoff;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Uri, header::CONTENT_TYPE, header::RETRY_AFTER};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde_json::{Map, Value, from_slice, to_string};
use tokio::io::{AsyncBufReadExt as _, BufReader, stdin};
use tokio::sync::mpsc::{Sender, channel};
use tokio::time::{sleep, timeout};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url: Uri = env::args().nth(1).ok_or("where to?")?.parse()?;
    let client = Client::builder(TokioExecutor::new()).build_http();
    // So many wait in memory while the intake has us wait. Those beyond are lost, and do not hold the service up.
    let (queue, mut queued) = channel(10_000);
    let reading = tokio::spawn(read(queue));
    let (mut batch, mut taken) = (Vec::new(), 0);
    while queued.recv_many(&mut batch, 500).await > 0 {
        let body = batch.drain(..).collect::<String>();
        taken += upload(&client, &url, body.into()).await;
    }
    eprintln!("{taken} of {} events were taken", reading.await??);
    Ok(())
}

/// Reads all events, and counts them. A line that is none is for the intake to refuse.
async fn read(queue: Sender<String>) -> io::Result<u64> {
    let mut lines = BufReader::new(stdin()).split(b'\n');
    let (mut events, run) = (0, fastrand::u64(..));
    while let Some(line) = lines.next_segment().await? {
        let mut event: Map<String, Value> = from_slice(&line).unwrap_or_default();
        // An answer may be lost, and the batch come twice: by this the cluster knows it.
        let id = || format!("{run:x}-{events}").into();
        event.entry("event_id").or_insert_with(id);
        let _ = queue.try_send(to_string(&event)? + "\n");
        events += 1;
    }
    Ok(events)
}

/// How many of the events were taken: none if the batch is refused for good, or once too often.
async fn upload(http: &Client<HttpConnector, Full<Bytes>>, url: &Uri, batch: Bytes) -> u64 {
    let backoff = Backoff::full_jitter(Duration::from_millis(100), Duration::from_secs(10));
    let accepted = |receipt: Value| receipt.get("accepted")?.as_u64();
    let mut wait = Duration::ZERO;
    for retry in 0..4 {
        sleep(wait).await;
        wait = backoff.delay(retry, wait, fastrand::u64(..));
        let request = Request::post(url).header(CONTENT_TYPE, "application/x-ndjson");
        let answer = timeout(Duration::from_secs(10), async {
            let request = request.body(Full::new(batch.clone())).ok()?;
            let (head, body) = http.request(request).await.ok()?.into_parts();
            Some((head, body.collect().await.ok()?.to_bytes()))
        });
        if let Ok(Some((head, receipt))) = answer.await {
            match head.status.as_u16() {
                202 => return from_slice(&receipt).ok().and_then(accepted).unwrap_or(0),
                408 | 429 | 502..=504 => {}
                _ => break,
            }
            // Not before the time that the intake names, and not all clients at that time.
            let after = head.headers.get(RETRY_AFTER);
            let after = after.and_then(|after| RetryAfter::parse(after, SystemTime::now()));
            wait += after.unwrap_or_default().min(Duration::from_secs(300));
        }
    }
    0
}
