use bytes::Bytes;
use gw_core::context::{SpanId, TraceContext, TraceId};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Flags, TraceParent, Tracestate, tracestate};
use crate::ratio::Ratio;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Takes up the trace that the fields name if the caller is `trusted`, else starts one, of which the share `sample` is
/// recorded. The fields then say what an upstream must be told.
pub(crate) fn receive(headers: &mut HeaderMap, trusted: bool, sample: Ratio) -> TraceContext {
    let (trace_id, flags) = match trusted.then(|| sole_parent(headers)).flatten() {
        Some(parent) => {
            combine_state(headers);
            (parent.trace_id, parent.flags)
        }
        None => {
            // A look at all names costs less than to look one up, and most requests have none.
            if headers.keys().any(|name| *name == TRACESTATE) {
                headers.remove(TRACESTATE);
            }
            start(sample)
        }
    };
    let span_id = random_span();
    let parent = TraceParent {
        trace_id,
        parent_id: span_id,
        flags,
    };
    if let Ok(value) = HeaderValue::from_bytes(&parent.to_bytes()) {
        headers.insert(TRACEPARENT, value);
    }
    TraceContext {
        trace_id,
        span_id,
        sampled: flags.is_sampled(),
    }
}

/// The caller's span; `None` if it is malformed, or if there are several of which none is more right than another.
fn sole_parent(headers: &HeaderMap) -> Option<TraceParent> {
    let mut sent = headers.get_all(TRACEPARENT).iter();
    let (only, None) = (sent.next()?, sent.next()) else {
        return None;
    };
    TraceParent::parse(only.as_bytes())
}

fn combine_state(headers: &mut HeaderMap) {
    let lines = headers.get_all(TRACESTATE).iter();
    let combined = match tracestate(lines.map(HeaderValue::as_bytes)) {
        Tracestate::AsSent => return,
        Tracestate::Absent => None,
        Tracestate::Rewritten(line) => HeaderValue::from_maybe_shared(Bytes::from(line)).ok(),
    };
    match combined {
        Some(value) => _ = headers.insert(TRACESTATE, value),
        None => _ = headers.remove(TRACESTATE),
    }
}

fn start(sample: Ratio) -> (TraceId, Flags) {
    let (trace_id, random) = loop {
        let bits = fastrand::u128(..);
        if let Some(id) = TraceId::new(bits.to_be_bytes()) {
            break (id, bits as u64);
        }
    };
    let sampled = if sample.takes(random) {
        Flags::SAMPLED
    } else {
        Flags::default()
    };
    (trace_id, Flags::RANDOM.and(sampled))
}

fn random_span() -> SpanId {
    loop {
        if let Some(id) = SpanId::new(fastrand::u64(..).to_be_bytes()) {
            return id;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "12345678901234567890123456789012";

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn received(fields: &[(&'static str, &str)], trusted: bool) -> (TraceContext, HeaderMap) {
        let mut headers = headers(fields);
        let context = receive(&mut headers, trusted, Ratio::ALL);
        let sent: Vec<_> = headers.get_all(TRACEPARENT).iter().collect();
        assert_eq!(sent.len(), 1);
        let parent = TraceParent::parse(sent[0].as_bytes()).unwrap();
        assert_eq!(parent.trace_id, context.trace_id);
        assert_eq!(parent.parent_id, context.span_id);
        assert_eq!(parent.flags.is_sampled(), context.sampled);
        (context, headers)
    }

    #[test]
    fn a_trusted_trace_goes_on() {
        for (flags, sampled, random) in [("00", false, false), ("03", true, true)] {
            let sent = format!("00-{TRACE}-1234567890123456-{flags}");
            let (context, headers) = received(
                &[
                    ("traceparent", &sent),
                    ("tracestate", "a=1"),
                    ("tracestate", "b=2"),
                ],
                true,
            );
            assert_eq!(context.trace_id.to_string(), TRACE);
            assert_ne!(context.span_id.to_string(), "1234567890123456");
            // The caller's decision, not ours, which would record all.
            assert_eq!(context.sampled, sampled);
            let parent = TraceParent::parse(headers[TRACEPARENT].as_bytes()).unwrap();
            assert_eq!(parent.flags.is_random(), random);
            let states: Vec<_> = headers.get_all(TRACESTATE).iter().collect();
            assert_eq!(states, ["a=1,b=2"]);
        }
    }

    #[test]
    fn what_is_not_trusted_or_not_clear_starts_anew() {
        let valid = format!("00-{TRACE}-1234567890123456-00");
        let other = format!("00-{}-1234567890123456-00", "3".repeat(32));
        let malformed = format!("00-{TRACE}-0000000000000000-00");
        let state = ("tracestate", "a=1");
        for (fields, trusted) in [
            (&[("traceparent", &*valid), state][..], false),
            (
                &[("traceparent", &*valid), ("traceparent", &other), state],
                true,
            ),
            (
                &[("traceparent", &*valid), ("traceparent", &valid), state],
                true,
            ),
            (&[("traceparent", &*malformed), state], true),
            (&[("traceparent", ""), state], true),
            (&[state], true),
            (&[], true),
        ] {
            let (context, headers) = received(fields, trusted);
            assert_ne!(context.trace_id.to_string(), TRACE, "{fields:?}");
            assert!(context.sampled, "{fields:?}");
            assert!(!headers.contains_key(TRACESTATE), "{fields:?}");
            let parent = TraceParent::parse(headers[TRACEPARENT].as_bytes()).unwrap();
            assert!(parent.flags.is_random());
        }
    }

    #[test]
    fn a_malformed_state_does_not_end_the_trace() {
        let sent = format!("00-{TRACE}-1234567890123456-00");
        let (context, headers) = received(&[("traceparent", &sent), ("tracestate", "A=1")], true);
        assert_eq!(context.trace_id.to_string(), TRACE);
        assert!(!headers.contains_key(TRACESTATE));
    }

    #[test]
    fn a_share_of_new_traces_is_recorded() {
        let sample = Ratio::new("sample", 0.25).unwrap();
        let recorded = (0..10_000)
            .filter(|_| receive(&mut HeaderMap::new(), false, sample).sampled)
            .count();
        assert!((2_200..2_800).contains(&recorded), "{recorded}");
    }

    #[test]
    fn no_two_requests_have_the_same_span() {
        let span = || receive(&mut HeaderMap::new(), false, Ratio::ALL).span_id;
        let mut spans: Vec<_> = (0..1_000).map(|_| span().bytes()).collect();
        spans.sort_unstable();
        spans.dedup();
        assert_eq!(spans.len(), 1_000);
    }
}
