//! Time left, as fields of a request tell it.

use std::time::Duration;

use gw_core::classify::is_grpc;
use http::{HeaderMap, HeaderName, HeaderValue};

/// gRPC's own field: up to eight digits and a unit.
const GRPC_TIMEOUT: &str = "grpc-timeout";

/// Which fields of a request tell how much time is left: none, unless set.
///
/// The layers of this module use it; it is public for stacks that have timers of their own.
#[derive(Debug, Clone, Default)]
pub struct TimeFields {
    pub(super) grpc: bool,
    pub(super) millis: Option<HeaderName>,
}

impl TimeFields {
    /// No field.
    pub const fn new() -> Self {
        Self {
            grpc: false,
            millis: None,
        }
    }

    /// `grpc-timeout`. It is written on gRPC calls alone.
    #[must_use]
    pub const fn grpc_timeout(mut self) -> Self {
        self.grpc = true;
        self
    }

    /// This field, with a number of whole milliseconds.
    #[must_use]
    pub fn field(mut self, name: HeaderName) -> Self {
        self.millis = Some(name);
        self
    }

    /// The least that any of the fields allows. What cannot be read does not count.
    pub fn read(&self, headers: &HeaderMap) -> Option<Duration> {
        let grpc = (headers.get(GRPC_TIMEOUT).filter(|_| self.grpc)).and_then(grpc_timeout);
        let millis = self.millis.as_ref().and_then(|name| headers.get(name));
        let millis = millis.and_then(digits).map(Duration::from_millis);
        match (grpc, millis) {
            (Some(grpc), Some(millis)) => Some(grpc.min(millis)),
            (one, other) => one.or(other),
        }
    }

    /// Says that so much is left, in place of what the request said: in whole milliseconds, at least one.
    pub fn write(&self, headers: &mut HeaderMap, left: Duration) {
        if let Some(name) = &self.millis {
            headers.insert(name, HeaderValue::from(millis(left)));
        }
        if self.grpc && is_grpc(headers) {
            headers.insert(GRPC_TIMEOUT, grpc_value(left));
        }
    }
}

/// Rounded down, so that the other end gives up first; but a limit of nothing would be none.
fn millis(left: Duration) -> u64 {
    u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// In milliseconds, or in seconds if they do not fit into eight digits.
fn grpc_value(left: Duration) -> HeaderValue {
    const MOST: u64 = 99_999_999;
    let text = match millis(left) {
        millis @ ..=MOST => format!("{millis}m"),
        _ => format!("{}S", left.as_secs().min(MOST)),
    };
    // Digits and a letter are a field value; were they not, the upstream would be told of no limit.
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("99999999S"))
}

fn grpc_timeout(value: &HeaderValue) -> Option<Duration> {
    let (unit, number) = value.as_bytes().split_last()?;
    if number.len() > 8 {
        return None;
    }
    let number = digits(&HeaderValue::from_bytes(number).ok()?)?;
    Some(match unit {
        b'H' => Duration::from_secs(number.saturating_mul(3600)),
        b'M' => Duration::from_secs(number.saturating_mul(60)),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

fn digits(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?;
    let all = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| all)
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields() -> TimeFields {
        TimeFields::new()
            .grpc_timeout()
            .field(HeaderName::from_static("x-timeout-ms"))
    }

    fn read(grpc: Option<&str>, millis: Option<&str>) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        for (name, value) in [("grpc-timeout", grpc), ("x-timeout-ms", millis)] {
            if let Some(value) = value {
                headers.insert(name, value.parse().unwrap());
            }
        }
        fields().read(&headers)
    }

    #[test]
    fn units() {
        for (text, millis) in [
            ("1H", 3_600_000),
            ("2M", 120_000),
            ("3S", 3_000),
            ("4m", 4),
            ("5000u", 5),
            ("6000000n", 6),
        ] {
            assert_eq!(read(Some(text), None), Some(Duration::from_millis(millis)));
        }
        for text in ["", "S", "5", "-1S", "1.5S", "+1S", "123456789S", "1s", "S1"] {
            assert_eq!(read(Some(text), None), None, "{text:?}");
        }
    }

    #[test]
    fn the_least_counts() {
        assert_eq!(read(None, None), None);
        assert_eq!(
            read(Some("1S"), Some("700")),
            Some(Duration::from_millis(700))
        );
        assert_eq!(read(Some("1S"), Some("soon")), Some(Duration::from_secs(1)));
        assert_eq!(read(None, Some("0")), Some(Duration::ZERO));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_never_more(nanos: u64) {
            let left = Duration::from_nanos(nanos);
            let mut headers = HeaderMap::new();
            headers.insert("content-type", "application/grpc".parse().unwrap());
            fields().write(&mut headers, left);
            let read = fields().read(&headers).unwrap();
            let millisecond = Duration::from_millis(1);
            prop_assert!(read <= left.max(millisecond));
            let grain = if left < Duration::from_millis(100_000_000) { millisecond } else { Duration::from_secs(1) };
            prop_assert!(left < grain + grain || read + grain > left || left.as_secs() > 99_999_999);
        }
    }
}
