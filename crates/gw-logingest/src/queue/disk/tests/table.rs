//! The table of the segments that can be read.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::world::{SEGMENT, config};
use crate::batch::Batch;
use crate::fs::sim::SimFs;
use crate::queue::disk::log::Record;
use crate::queue::disk::recovery;
use crate::queue::telemetry::QueueMetrics;
use crate::telemetry::meter::QueueLabel;

/// Story: two or three times a commit the whole table was gone through, while whoever appends or leases waited.
#[test]
fn the_table_is_gone_through_when_segments_come_or_go() {
    let metrics = Arc::new(QueueMetrics::new(QueueLabel::default()));
    let fs = SimFs::default();
    let mut log = recovery::open(fs, &config(), metrics, Batch::decode, |_| {}).unwrap();
    let payload = vec![b'x'; SEGMENT as usize / 3];
    let mut append = |ticket| {
        let record = Record {
            ticket,
            payload: &payload,
        };
        log.append(&[record]).unwrap();
        // Nothing is in it unless it is brought up to date.
        let mut files = BTreeMap::new();
        log.show(&mut files);
        files.len()
    };
    assert_eq!([1, 2, 3, 4, 5].map(&mut append), [1, 0, 2, 0, 3]);
    log.segments
        .values_mut()
        .for_each(|segment| segment.live = 0);
    log.collect();
    let mut files = BTreeMap::new();
    log.show(&mut files);
    assert_eq!(files.len(), 1);
}
