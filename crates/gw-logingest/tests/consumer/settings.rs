//! What cannot be built.

use std::time::Duration;

use gw_logingest::MemoryQueue;
use gw_logingest::consumer::{Consumer, ConsumerBuilder};
use gw_logingest::sink::FileSink;

use super::LONG;
use super::consumer_support::{Letters, queue};

#[test]
fn settings_are_checked() {
    type Builder = ConsumerBuilder<MemoryQueue, FileSink, Letters>;
    fn field(set: impl FnOnce(Builder) -> Builder) -> String {
        let builder = Consumer::builder(queue(), FileSink::new("unused"));
        let error = set(builder.dead_letters(Letters::default())).build().err();
        error.map_or_else(String::new, |error| error.field().to_owned())
    }
    assert_eq!(field(|builder| builder), "");
    assert_eq!(field(|builder| builder.max_bytes(8_191)), "max_bytes");
    // Story: without a bound, a consumer took all that waited on disk into memory while its sink was down.
    const GIB: usize = 1 << 30;
    assert_eq!(field(|builder| builder.max_bytes(GIB + 1)), "max_bytes");
    assert_eq!(field(|builder| builder.max_bytes(usize::MAX)), "max_bytes");
    assert_eq!(field(|builder| builder.max_bytes(GIB)), "");
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
    // Story: a nanosecond was enough for a sink that refuses at once to be asked in a tight loop.
    let ms = Duration::from_millis(1);
    let short = ms - Duration::from_nanos(1);
    assert_eq!(field(|builder| builder.backoff(short, LONG)), "backoff");
    assert_eq!(field(|builder| builder.backoff(ms, short)), "backoff");
    assert_eq!(field(|builder| builder.pause(short)), "pause");
    assert_eq!(field(|builder| builder.backoff(ms, ms).pause(ms)), "");
    // Points in time are computed from these.
    let long = LONG + Duration::from_nanos(1);
    assert_eq!(field(move |builder| builder.linger(long)), "linger");
    assert_eq!(field(move |builder| builder.pause(long)), "pause");
    assert_eq!(field(move |builder| builder.backoff(LONG, long)), "backoff");
    assert_eq!(
        field(|builder| {
            let builder = builder.linger(LONG).pause(LONG);
            builder.backoff(Duration::MAX, LONG).grace(Duration::MAX)
        }),
        ""
    );
}
