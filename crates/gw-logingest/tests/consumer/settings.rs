//! What cannot be built.

use std::time::Duration;

use gw_logingest::MemoryQueue;
use gw_logingest::consumer::{Consumer, ConsumerBuilder};
use gw_logingest::sink::FileSink;

use super::LONG;
use super::consumer_support::{Letters, queue};

#[test]
fn settings_are_checked() {
    let field = |set: fn(ConsumerBuilder<MemoryQueue, FileSink, Letters>) -> _| {
        let builder = Consumer::builder(queue(), FileSink::new("unused"));
        let builder: ConsumerBuilder<_, _, _> = set(builder.dead_letters(Letters::default()));
        let error = builder.build().err();
        error.map_or_else(String::new, |error| error.field().to_owned())
    };
    assert_eq!(field(|builder| builder), "");
    assert_eq!(field(|builder| builder.max_bytes(8_191)), "max_bytes");
    assert_eq!(field(|builder| builder.max_events(0)), "max_events");
    assert_eq!(
        field(|builder| builder.max_concurrency(0)),
        "max_concurrency"
    );
    assert_eq!(
        field(|builder| builder.backoff(Duration::ZERO, LONG)),
        "backoff"
    );
    assert_eq!(field(|builder| builder.pause(Duration::ZERO)), "pause");
}
