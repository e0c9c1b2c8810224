//! Arbitrary requests to the whole service: it answers each, stores only what it promises, and the counts add up.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

mod intake_support;

use gw_logingest::event::EventLimits;
use gw_logingest::intake::OnInvalid;
use gw_testkit::body::ScriptedBody;
use http::HeaderValue;
use intake_support::*;
use proptest::collection::vec;
use proptest::prelude::*;

/// Pieces of bodies: valid events of each class, faults, structure and noise.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let pieces = [
        event("info", "a"),
        event("debug", "a"),
        event("error", "a /api/logs"),
        of_kind("audit", "a"),
        of_kind("upload_failure", "a"),
        r#"{"level":"loud"}"#.to_owned(),
        "{\"events\":[".to_owned(),
        "x".repeat(400),
    ];
    let pieces = pieces.into_iter().map(String::into_bytes);
    let bytes = ["[", "]", ",", ",", "\n", "\n", "}", "\"", " ", "\u{0}"];
    let bytes = bytes.into_iter().map(|byte| byte.as_bytes().to_vec());
    let all: Vec<Vec<u8>> = pieces.chain(bytes).chain([vec![0xff]]).collect();
    let array = vec(prop::sample::select(all[..6].to_vec()), 0..20)
        .prop_map(|events| [b"[".to_vec(), events.join(&b","[..]), b"]".to_vec()].concat());
    prop_oneof![
        array,
        vec(prop::sample::select(all), 0..30).prop_map(|pieces| pieces.concat())
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_request_is_answered_and_accounted_for(
        body in body(),
        size in 1..200_usize,
        lines: bool,
        wrap: bool,
        atomic: bool,
        fill in 0..100_u64,
        fields in vec((prop::sample::select(vec!["x-gw-log-hops", "x-gw-log-self", "content-encoding", "content-length"]), vec(32..255_u8, 0..5)), 0..3),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let queue = FakeQueue::new();
            queue.fill(fill);
            let mut limits = EventLimits::default();
            limits.bytes = 300;
            let mut intake = builder(&queue).max_body_bytes(2000).max_events(15).event_limits(limits);
            if wrap {
                intake = intake.on_invalid(OnInvalid::Wrap { service: "legacy".into() });
            }
            let intake = intake.build().unwrap();
            let script = body.chunks(size).fold(ScriptedBody::script(), |script, chunk| script.data(chunk.to_vec()));
            let kind = if lines { "application/x-ndjson" } else { "application/json" };
            let mut request = request(kind, script.build().0);
            if atomic {
                *request.uri_mut() = "/api/logs?atomic=true".parse().unwrap();
            }
            for (name, value) in fields {
                if let Ok(value) = HeaderValue::from_bytes(&value) {
                    request.headers_mut().insert(name, value);
                }
            }
            let answer = send(&intake, request).await;
            let counts = intake.handle().snapshot().counts;
            prop_assert_eq!((counts.imbalance(), counts.in_progress), (0, 0));
            prop_assert!(!answer.header("x-gw-log-limits").is_empty());
            let stored = queue.events().len() as u64;
            prop_assert_eq!(stored, counts.accepted);
            if answer.status == 202 {
                let told = |name: &str| answer.json[name].as_u64().unwrap();
                prop_assert_eq!(told("accepted"), stored);
                prop_assert_eq!(told("accepted") + told("rejected") + told("suppressed"), counts.received);
                prop_assert!(!(atomic && told("rejected") > 0));
            } else {
                prop_assert_eq!(stored, 0);
                prop_assert!([400, 413, 415, 422, 503].contains(&answer.status), "{}", answer.status);
                prop_assert_eq!(counts.received, counts.refused);
            }
            Ok(())
        })?;
    }
}
