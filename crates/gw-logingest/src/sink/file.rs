use std::io::ErrorKind;
use std::path::PathBuf;

use super::{Delivery, Fault, Item, Reason, SharedLines, Sink};
use crate::batch::Event;
use crate::fs::RealFs;
use crate::json::write_string;

/// Appends events to a file, one JSON object a line: `{"_id":"..","_source":{..}}`. A delivery is over once the lines are
/// synced to disk.
///
/// It does not look for ids that it wrote before: an event that is delivered twice stands there twice. The file is not
/// rotated. After a loss of power in the middle of a delivery, lines of that delivery may be damaged; those of earlier ones
/// are not.
///
/// A file that cannot be written where it is to be is [`Delivery::Blocked`] for that reason; where the disk is full it is tried again soon.
///
/// Who starts a consumer anew in the same process gives it a clone of the sink: a write of the consumer before may still be under way,
/// and clones wait for one another. Two sinks that were made for one file would overwrite each other's lines.
///
/// The file is made with the permissions that the process's umask leaves: it is there for others to read.
#[derive(Debug, Clone)]
pub struct FileSink {
    file: SharedLines,
}

impl FileSink {
    /// Appends to this file; it and its directory are made at the first delivery.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            file: SharedLines::new(RealFs::SHARED, path),
        }
    }
}

impl Sink for FileSink {
    async fn deliver(&self, events: &[Event]) -> Delivery {
        let mut lines = Vec::new();
        for event in events {
            lines.extend_from_slice(b"{\"_id\":");
            write_string(&mut lines, &event.id());
            lines.extend_from_slice(b",\"_source\":");
            lines.extend_from_slice(event.json());
            lines.extend_from_slice(b"}\n");
        }
        match self.file.with(move |file| file.append(&lines)).await {
            Ok(_) => Delivery::Items(vec![Item::Delivered; events.len()]),
            Err(error) if is_lasting(error.kind()) => {
                Delivery::Blocked(Reason::new("file", &error.to_string()))
            }
            Err(_) => Delivery::Retry {
                after: None,
                fault: Fault::Unavailable,
            },
        }
    }
}

/// Whether somebody has to do something about the path: a full disk may have room again.
const fn is_lasting(kind: ErrorKind) -> bool {
    use ErrorKind::{
        InvalidFilename, InvalidInput, IsADirectory, NotADirectory, NotFound, PermissionDenied,
        ReadOnlyFilesystem,
    };
    matches!(
        kind,
        InvalidFilename
            | InvalidInput
            | IsADirectory
            | NotADirectory
            | NotFound
            | PermissionDenied
            | ReadOnlyFilesystem
    )
}
