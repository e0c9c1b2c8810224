//! What a batch looks like on the wire: a JSON array of events.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::Serialize;

use super::device::{Batch, Entry};

#[derive(Serialize)]
struct Event {
    /// The same when it is sent again.
    event_id: String,
    trace_id: String,
    timestamp: u64,
    service: &'static str,
    level: &'static str,
    kind: &'static str,
    message: String,
}

/// The body of a device's upload.
pub(super) fn body(device: u16, batch: &Batch) -> Bytes {
    encode(device, &batch.entries)
}

fn encode(device: u16, entries: &[Entry]) -> Bytes {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0));
    let event = |entry: &Entry| match *entry {
        Entry::Event(number) => Event {
            event_id: format!("device-{device}-event-{number}"),
            trace_id: trace_id(device, number),
            timestamp: now,
            service: "till",
            level: "info",
            kind: "telemetry",
            message: format!("scanned article {number}"),
        },
        Entry::Failure { upload, status } => Event {
            event_id: format!("device-{device}-upload-{upload}"),
            trace_id: trace_id(device, upload),
            timestamp: now,
            service: "till",
            level: "error",
            kind: "upload_failure",
            message: match status {
                Some(status) => format!("upload {upload} failed with status {status}"),
                None => format!("upload {upload} failed without an answer"),
            },
        },
    };
    let events: Vec<Event> = entries.iter().map(event).collect();
    // Strings and numbers can always be written.
    serde_json::to_vec(&events).unwrap_or_default().into()
}

/// Never all zero, as a trace id must not be.
fn trace_id(device: u16, number: u32) -> String {
    format!("{:016x}{:016x}", u32::from(device) + 1, number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_an_array_of_events_with_ids_that_stay() {
        let failure = Entry::Failure {
            upload: 4,
            status: Some(400),
        };
        let body = encode(3, &[Entry::Event(17), failure]);
        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(body[0]["event_id"], "device-3-event-17");
        assert_eq!(body[0]["trace_id"].as_str().map(str::len), Some(32));
        assert_eq!(body[1]["event_id"], "device-3-upload-4");
        assert_eq!(body[1]["kind"], "upload_failure");
        assert_eq!(body[1]["message"], "upload 4 failed with status 400");
        assert_eq!(body.as_array().map(Vec::len), Some(2));
    }
}
