use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// 2026-11-21T07:00:00Z.
const NOW: Duration = Duration::from_secs(1_795_244_400);

fn now() -> SystemTime {
    UNIX_EPOCH + NOW
}

fn arrival(seq: u64) -> Arrival {
    let received = now();
    Arrival { received, seq }
}

fn check(raw: &[u8]) -> Result<Value, (String, String)> {
    check_with(EventLimits::default(), raw)
}

fn check_with(limits: EventLimits, raw: &[u8]) -> Result<Value, (String, String)> {
    let validator = Validator::new(limits).unwrap();
    let mut scratch = Scratch::default();
    match validator.check(raw, arrival(0), &mut scratch) {
        Ok(checked) => {
            assert!(!checked.json.contains(&b'\n'), "one line");
            Ok(serde_json::from_slice(checked.json).expect("the normalised event is JSON"))
        }
        Err(violation) => Err((
            violation.code().as_str().to_owned(),
            violation.pointer().to_string(),
        )),
    }
}

/// A valid event with `more` members.
fn event(more: &str) -> String {
    let comma = if more.is_empty() { "" } else { "," };
    format!(
        r#"{{"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","service":"shop","level":"INFO","message":"hello"{comma}{more}}}"#
    )
}

fn fault(raw: &str) -> (String, String) {
    check(raw.as_bytes()).expect_err(raw)
}

#[test]
fn the_normalised_form() {
    let raw = event(
        r#""timestamp":"2026-11-21T08:00:00.5+01:00","span_id":"00f067aa0ba902b7","kind":"k","logger":"a.b","event_id":"e-1",
           "user":{"id":7,"tags":["a\n",null,true,1.5]},"fields":{"b":-1},"c":1e20"#,
    );
    let validator = Validator::default();
    let mut scratch = Scratch::default();
    let checked = validator
        .check(raw.as_bytes(), arrival(3), &mut scratch)
        .unwrap();
    assert_eq!(checked.event_id.as_deref(), Some("e-1"));
    assert_eq!(checked.level, Level::Info);
    assert_eq!(
        (checked.kind.as_deref(), checked.logger.as_deref()),
        (Some("k"), Some("a.b"))
    );
    let expected = concat!(
        r#"{"@timestamp":"2026-11-21T07:00:00.500Z","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"00f067aa0ba902b7","#,
        r#""service":"shop","level":"info","message":"hello","kind":"k","logger":"a.b","event_id":"e-1","#,
        r#""fields":{"user":{"id":7,"tags":["a\n",null,true,1.5]},"b":-1,"c":1e20},"#,
        r#""ingest":{"received":"2026-11-21T07:00:00.000Z","seq":3}}"#,
    );
    assert_eq!(std::str::from_utf8(checked.json).unwrap(), expected);
}

#[test]
fn timestamps_out_of_the_window_are_kept_and_flagged() {
    let millis = i64::try_from(NOW.as_millis()).unwrap();
    let (week, ten_minutes) = (7 * 24 * 3_600_000, 600_000);
    for (stamp, flag) in [
        (String::new(), Some("missing")),
        (r#""timestamp":null"#.to_owned(), Some("missing")),
        (format!(r#""timestamp":{millis}"#), None),
        (format!(r#""@timestamp":{}"#, millis - week), None),
        (
            format!(r#""timestamp":{}"#, millis - week - 1),
            Some("out_of_window"),
        ),
        (format!(r#""timestamp":{}"#, millis + ten_minutes), None),
        (
            format!(r#""timestamp":{}"#, millis + ten_minutes + 1),
            Some("out_of_window"),
        ),
        (
            r#""timestamp":"1999-01-01T00:00:00Z""#.to_owned(),
            Some("out_of_window"),
        ),
    ] {
        let kept = check(event(&stamp).as_bytes()).expect(&stamp);
        assert_eq!(
            kept["ingest"].get("timestamp").and_then(Value::as_str),
            flag,
            "{stamp}"
        );
        if flag.is_some() {
            assert_eq!(kept["@timestamp"], "2026-11-21T07:00:00.000Z", "{stamp}");
        }
    }
    let kept = check(event(r#""timestamp":"1999-01-01T00:00:00Z""#).as_bytes()).unwrap();
    assert_eq!(kept["ingest"]["claimed"], "1999-01-01T00:00:00.000Z");
}

#[test]
fn each_rule_has_its_code_and_place() {
    let long = "x".repeat(32_767);
    let wide: Vec<String> = (0..253).map(|n| format!(r#""f{n}":1"#)).collect();
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let without = |name: &str| {
        let mut event: Value = serde_json::from_str(&event("")).unwrap();
        event.as_object_mut().unwrap().remove(name);
        event.to_string()
    };
    let with = |name: &str, value: Value| {
        let mut event: Value = serde_json::from_str(&event("")).unwrap();
        event[name] = value;
        event.to_string()
    };
    let table = [
        ("nonsense".to_owned(), "invalid_json", ""),
        (event("") + "x", "invalid_json", ""),
        (event(r#""a":"#), "invalid_json", ""),
        ("[]".to_owned(), "not_an_object", ""),
        ("7".to_owned(), "not_an_object", ""),
        ("{}".to_owned(), "missing_field", "/trace_id"),
        (without("trace_id"), "missing_field", "/trace_id"),
        (without("service"), "missing_field", "/service"),
        (without("level"), "missing_field", "/level"),
        (without("message"), "missing_field", "/message"),
        (with("message", Value::Null), "missing_field", "/message"),
        (
            with("trace_id", json!("0".repeat(32))),
            "invalid_trace_id",
            "/trace_id",
        ),
        (
            with("trace_id", json!("4BF92F3577B34DA6A3CE929D0E0E4736")),
            "invalid_trace_id",
            "/trace_id",
        ),
        (
            with("trace_id", json!("4bf9")),
            "invalid_trace_id",
            "/trace_id",
        ),
        (with("trace_id", json!(7)), "wrong_type", "/trace_id"),
        (with("trace_id", json!([[1]])), "wrong_type", "/trace_id"),
        (
            with("span_id", json!("0000000000000000")),
            "invalid_span_id",
            "/span_id",
        ),
        (with("level", json!("loud")), "invalid_level", "/level"),
        (with("level", json!(1.5)), "wrong_type", "/level"),
        (with("service", json!("")), "empty_value", "/service"),
        (with("service", json!(long)), "string_too_long", "/service"),
        (with("message", json!({"a": 1})), "wrong_type", "/message"),
        (
            with("event_id", json!("a b")),
            "invalid_event_id",
            "/event_id",
        ),
        (with("event_id", json!("")), "invalid_event_id", "/event_id"),
        (
            with("timestamp", json!("yesterday")),
            "invalid_timestamp",
            "/timestamp",
        ),
        (
            with("timestamp", json!(i64::MAX)),
            "invalid_timestamp",
            "/timestamp",
        ),
        (
            with("timestamp", json!(u64::MAX)),
            "wrong_type",
            "/timestamp",
        ),
        (with("timestamp", json!(true)), "wrong_type", "/timestamp"),
        (with("fields", json!([])), "wrong_type", "/fields"),
        (with("fields", json!("x")), "wrong_type", "/fields"),
        (event(r#""level":"info""#), "duplicate_field", "/level"),
        (
            event(r#""@timestamp":1,"@timestamp":1"#),
            "duplicate_field",
            "/_timestamp",
        ),
        (
            event(r#""timestamp":null,"timestamp":1"#),
            "duplicate_field",
            "/timestamp",
        ),
        (
            event(r#""timestamp":{"a":1},"@timestamp":1"#),
            "wrong_type",
            "/timestamp",
        ),
        (
            event(r#""timestamp":1,"@timestamp":1,"fields":{"timestamp":1}"#),
            "duplicate_field",
            "/timestamp",
        ),
        (event(r#""a":1,"a":2"#), "duplicate_field", "/a"),
        (
            event(r#""a":1,"fields":{"a":2}"#),
            "duplicate_field",
            "/fields/a",
        ),
        (
            event(r#""a":{"b":{"c":1,"c":1}}"#),
            "duplicate_field",
            "/a/b/c",
        ),
        (event(r#""":1"#), "invalid_key", "/"),
        (event(r#""a\u0000b":1"#), "invalid_key", "/a_b"),
        (
            event(&format!(r#""{}":1"#, "k".repeat(257))),
            "invalid_key",
            &format!("/{}", "k".repeat(64)),
        ),
        (
            event(&format!(r#""a":["x",{{"b":"{long}"}}]"#)),
            "string_too_long",
            "/a/1/b",
        ),
        (
            // One byte more than fits behind the path, see below.
            event(&format!(r#""a":{{"b":"{}"}}"#, "x".repeat(32_766 - 3))),
            "string_too_long",
            "/a/b",
        ),
        (
            event(&format!(
                r#""a":{{"b":[0.{}]}}"#,
                "3".repeat(32_766 - 3 - 2)
            )),
            "number_out_of_range",
            "/a/b/0",
        ),
        (
            event(r#""a":9223372036854775808"#),
            "number_out_of_range",
            "/a",
        ),
        (
            event(r#""a":[1.5,-9223372036854775809]"#),
            "number_out_of_range",
            "/a/1",
        ),
        (
            event(r#""a":[1e30,100000000000000000000]"#),
            "number_out_of_range",
            "/a/1",
        ),
        (event(r#""a":1e999"#), "unrepresentable", ""),
        (event(r#""a":"\ud800""#), "unrepresentable", ""),
        (event(&wide.join(",")), "too_many_fields", "/f252"),
        (
            event(&format!(r#""a":{}"#, deep(16))),
            "too_deep",
            &format!("/a{}", "/0".repeat(15)),
        ),
        (
            event(&format!(r#""a":{}"#, deep(100))),
            "too_deep",
            &format!("/a{}", "/0".repeat(15)),
        ),
        (
            event(&format!(r#""a":"{}""#, "x".repeat(256 * 1024))),
            "event_too_large",
            "",
        ),
    ];
    for (raw, code, pointer) in table {
        let shown: String = raw.chars().take(200).collect();
        assert_eq!(
            fault(&raw),
            (code.to_owned(), pointer.to_owned()),
            "{shown}"
        );
    }
    let utf8 = check(b"{\"message\":\"\xff\"}").unwrap_err();
    assert_eq!(utf8, ("invalid_utf8".to_owned(), String::new()));
}

#[test]
fn what_is_just_within_the_limits_passes() {
    let wide: Vec<String> = (0..252).map(|n| format!(r#""f{n}":1"#)).collect();
    let deep = format!("{}{}", "[".repeat(15), "]".repeat(15));
    for more in [
        wide.join(","),
        format!(r#""a":{deep}"#),
        format!(r#""{}":1"#, "k".repeat(256)),
        // The path `a.b`, a separator and the value make the term.
        format!(r#""a":{{"b":"{}"}}"#, "x".repeat(32_766 - 4)),
        r#""a":[9223372036854775807,-9223372036854775808,1e300,-0,0.0]"#.to_owned(),
        r#""fields":null"#.to_owned(),
        r#""kind":null,"span_id":null"#.to_owned(),
    ] {
        let shown: String = more.chars().take(80).collect();
        check(event(&more).as_bytes()).expect(&shown);
    }
    let message = format!(
        r#"{{"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","service":"s","level":"warning","message":"{}"}}"#,
        "x".repeat(200_000)
    );
    assert_eq!(check(message.as_bytes()).unwrap()["level"], "warn");
}

/// The value of a refused event must never come back, whatever is wrong with it.
#[test]
fn a_violation_never_repeats_a_value() {
    for raw in [
        event(r#""timestamp":"hunter2""#),
        event(r#""span_id":"hunter2""#),
        event(r#""event_id":"hunter2 ""#),
        r#"{"level":"hunter2"}"#.to_owned(),
        "hunter2".to_owned(),
    ] {
        let violation = Validator::default()
            .check(raw.as_bytes(), arrival(0), &mut Scratch::default())
            .unwrap_err();
        assert!(
            !format!("{violation} {violation:?}").contains("hunter2"),
            "{raw}"
        );
    }
}

/// Story: Logstash puts an `@timestamp` on events that have a `timestamp` of their own, and all of them were refused as if a
/// name occurred twice.
#[test]
fn beside_an_at_timestamp_a_timestamp_is_a_field() {
    for (more, time, field) in [
        (
            r#""timestamp":"10/Nov/2026:07:00:00 +0000","@timestamp":1795244400001"#,
            "001",
            json!({"timestamp": "10/Nov/2026:07:00:00 +0000"}),
        ),
        (
            r#""@timestamp":1795244400001,"a":1,"timestamp":1795244400002,"b":2.5"#,
            "001",
            json!({"a": 1, "b": 2.5, "timestamp": 1_795_244_400_002_i64}),
        ),
        (
            r#""timestamp":null,"@timestamp":1795244400001"#,
            "001",
            Value::Null,
        ),
        (
            r#""timestamp":1795244400001,"@timestamp":null"#,
            "001",
            Value::Null,
        ),
        (r#""@timestamp":null,"timestamp":null"#, "000", Value::Null),
    ] {
        let kept = check(event(more).as_bytes()).expect(more);
        let expected = format!("2026-11-21T07:00:00.{time}Z");
        assert_eq!(kept["@timestamp"], expected.as_str(), "{more}");
        assert_eq!(kept["fields"], field, "{more}");
    }
}

#[test]
fn text_can_be_wrapped() {
    let validator = Validator::new(EventLimits {
        bytes: 300,
        ..EventLimits::default()
    })
    .unwrap();
    let mut scratch = Scratch::default();
    let wrapped = validator.wrap(
        b"a \"quoted\"\x1b\xff line",
        ViolationCode::InvalidJson,
        "legacy",
        arrival(0),
        &mut scratch,
    );
    let json: Value = serde_json::from_slice(wrapped.json).unwrap();
    assert_eq!(json["message"], "a \"quoted\"\u{fffd}\u{fffd} line");
    assert_eq!(
        (&json["service"], &json["kind"]),
        (&json!("legacy"), &json!("unparsed"))
    );
    assert_eq!(json["ingest"]["wrapped"], "invalid_json");
    assert_eq!(json["ingest"]["seq"], 0);
    let long = "\u{1}".repeat(10_000);
    let wrapped = validator.wrap(
        long.as_bytes(),
        ViolationCode::InvalidJson,
        "legacy",
        arrival(0),
        &mut scratch,
    );
    let json: Value = serde_json::from_slice(wrapped.json).unwrap();
    assert_eq!(json["message"].as_str().unwrap().len(), 300);
}

#[test]
fn the_report_of_collapsed_events_is_json() {
    let json: Value = serde_json::from_slice(&collapsed_report(17, arrival(5))).unwrap();
    assert_eq!(json["fields"]["count"], 17);
    assert_eq!(json["kind"], "upload_failure");
    assert_eq!(json["ingest"]["seq"], 5);
}

#[test]
fn limits_out_of_bounds_are_refused_by_name() {
    let wrong = |limits| Validator::new(limits).unwrap_err().field().to_owned();
    let limits = EventLimits::default();
    assert_eq!(
        wrong(EventLimits {
            bytes: 10,
            ..limits
        }),
        "event.bytes"
    );
    assert_eq!(wrong(EventLimits { depth: 0, ..limits }), "event.depth");
    assert_eq!(
        wrong(EventLimits {
            depth: 101,
            ..limits
        }),
        "event.depth"
    );
    assert_eq!(
        wrong(EventLimits {
            fields: 3,
            ..limits
        }),
        "event.fields"
    );
    assert_eq!(
        wrong(EventLimits {
            key_bytes: 1,
            ..limits
        }),
        "event.key_bytes"
    );
    assert_eq!(
        wrong(EventLimits {
            exact_bytes: 40_000,
            ..limits
        }),
        "event.exact_bytes"
    );
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e300..1e300f64).prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec(("[a-zä.\" ]{1,6}", inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// What is not named comes out below `fields` as it went in.
    #[test]
    fn fields_are_kept(members in vec(("[a-zä.\" ]{9,12}", value()), 0..8)) {
        let mut sent = json!({"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "service": "s", "level": "info", "message": "m"});
        for (name, value) in &members {
            sent[name] = value.clone();
        }
        let sent = serde_json::to_vec_pretty(&sent).unwrap();
        let kept = check(&sent).unwrap();
        // Read back: the parser may be off by the last digit of a float, on both sides alike.
        let sent: Value = serde_json::from_slice(&sent).unwrap();
        let expected: serde_json::Map<_, _> = members.into_iter().map(|(name, _)| (name.clone(), sent[&name].clone())).collect();
        let fields = kept.get("fields").cloned().unwrap_or(json!({}));
        prop_assert_eq!(fields, Value::Object(expected));
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(raw in vec(any::<u8>(), 0..200), cut in any::<prop::sample::Index>(), byte: u8) {
        let _ = check(&raw);
        let mut damaged = event(r#""timestamp":1,"fields":{"a":[1,{"b":2.5e30}],"c":"\u00e4"}"#).into_bytes();
        let at = cut.index(damaged.len());
        damaged[at] = byte;
        let _ = check(&damaged);
        let _ = check(&damaged[..at]);
        let validator = Validator::default();
        let mut scratch = Scratch::default();
        let wrapped = validator.wrap(&raw, ViolationCode::InvalidJson, "s", arrival(0), &mut scratch);
        prop_assert!(serde_json::from_slice::<Value>(wrapped.json).is_ok());
    }
}
