use proptest::collection::vec;
use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::*;

const LIMITS: SplitLimits = SplitLimits {
    body_bytes: 10_000,
    events: 50,
    event_bytes: 60,
};

/// What the splitter handed on; `None` stands for an oversize event.
#[derive(Debug, Default, PartialEq, Eq)]
struct Taken(Vec<Option<Vec<u8>>>);

impl Take for Taken {
    fn take(&mut self, piece: Piece<'_>) -> Result<(), SplitFault> {
        self.0.push(match piece {
            Piece::Event(bytes) => Some(bytes.to_vec()),
            Piece::Oversize => None,
        });
        Ok(())
    }
}

fn split<'a>(
    format: Format,
    limits: SplitLimits,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> (Result<(), SplitFault>, Taken) {
    let mut taken = Taken::default();
    let mut splitter = Splitter::new(format, limits);
    for chunk in chunks {
        if let Err(fault) = splitter.push(chunk, &mut taken) {
            return (Err(fault), taken);
        }
    }
    (splitter.finish(&mut taken), taken)
}

fn whole(format: Format, body: &str) -> (Result<(), SplitFault>, Vec<String>) {
    let (result, taken) = split(format, LIMITS, [body.as_bytes()]);
    let text = |bytes: Option<Vec<u8>>| {
        bytes.map_or("OVERSIZE".to_owned(), |b| String::from_utf8(b).unwrap())
    };
    (result, taken.0.into_iter().map(text).collect())
}

fn cut<'a>(body: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
    at.sort_unstable();
    let mut chunks = Vec::new();
    let mut start = 0;
    for end in at.into_iter().chain([body.len()]) {
        chunks.push(&body[start..end]);
        start = end;
    }
    chunks
}

#[test]
fn the_three_forms_of_a_document() {
    for (body, events) in [
        ("[]", vec![]),
        (" [ ] ", vec![]),
        (r#"[{"a":1},{"b":"]"}]"#, vec![r#"{"a":1}"#, r#"{"b":"]"}"#]),
        (
            "[ 1 ,\"x\\\"]\" , [ {} ] ]",
            vec!["1", "\"x\\\"]\"", "[ {} ]"],
        ),
        (r#"{"events":[]}"#, vec![]),
        (
            r#" { "events" : [ {"a":[]} , 2 ] } "#,
            vec![r#"{"a":[]}"#, "2"],
        ),
        (r#"{"a":{"events":[1]}}"#, vec![r#"{"a":{"events":[1]}}"#]),
        (r#"{"events":{"a":1}}"#, vec![r#"{"events":{"a":1}}"#]),
        ("{}", vec!["{}"]),
        (r#"{"a":1 , "b" : "}" }"#, vec![r#"{"a":1 , "b" : "}" }"#]),
    ] {
        let (result, taken) = whole(Format::Json, body);
        assert_eq!(result, Ok(()), "{body}");
        assert_eq!(taken, events, "{body}");
    }
}

#[test]
fn broken_documents() {
    use Malformed::{Incomplete, Syntax, TooDeep, UnknownMember};

    let deep = "[".repeat(200);
    for (body, what) in [
        ("", Incomplete),
        ("  ", Incomplete),
        ("[", Incomplete),
        ("[1", Incomplete),
        ("[1,", Incomplete),
        (r#"{"events":[1]"#, Incomplete),
        (r#"{"a":"x"#, Incomplete),
        ("]", Syntax),
        ("1", Syntax),
        ("\"x\"", Syntax),
        ("\u{feff}[]", Syntax),
        ("[,]", Syntax),
        ("[1,]", Syntax),
        ("[1 2]", Syntax),
        ("[]]", Syntax),
        ("[] []", Syntax),
        ("[}", Syntax),
        ("[{]}]", Syntax),
        ("{1:2}", Syntax),
        (r#"{"a"}"#, Syntax),
        (r#"{"a":}"#, Syntax),
        (r#"{"a":1,}"#, Syntax),
        (r#"{"events":[1]]"#, Syntax),
        (r#"{"events":[1],"a":1}"#, UnknownMember),
        (r#"{"a":1,"events":[1]}"#, UnknownMember),
        (&deep, TooDeep),
    ] {
        assert_eq!(
            whole(Format::Json, body).0,
            Err(SplitFault::Malformed(what)),
            "{body:?}"
        );
    }
}

#[test]
fn lines() {
    let body = "{\"a\":1}\r\n\n  \t\n {\"b\":2}  \nnot json\n{\"c\":3}";
    let (result, taken) = whole(Format::Ndjson, body);
    assert_eq!(result, Ok(()));
    assert_eq!(taken, ["{\"a\":1}", "{\"b\":2}", "not json", "{\"c\":3}"]);
    assert_eq!(whole(Format::Ndjson, "").1, Vec::<String>::new());
}

#[test]
fn limits_hold_and_are_exact() {
    let fits = format!("{{\"a\":\"{}\"}}", "x".repeat(52));
    assert_eq!(fits.len(), LIMITS.event_bytes);
    let over = fits.replace("\"a\"", "\"aa\"");
    for (format, body) in [
        (Format::Json, format!("[{fits},{over},{fits}]")),
        (Format::Ndjson, format!("{fits}\r\n{over}\n{fits}")),
    ] {
        let (result, taken) = whole(format, &body);
        assert_eq!(result, Ok(()));
        assert_eq!(taken, [&fits, "OVERSIZE", &fits]);
    }
    assert_eq!(
        whole(Format::Json, &over),
        (Ok(()), vec!["OVERSIZE".to_owned()])
    );
    assert_eq!(whole(Format::Json, &fits), (Ok(()), vec![fits]));

    let many = |count: usize| format!("[{}]", vec!["1"; count].join(","));
    assert_eq!(whole(Format::Json, &many(50)).0, Ok(()));
    assert_eq!(
        whole(Format::Json, &many(51)).0,
        Err(SplitFault::TooManyEvents)
    );
    let spaces = |count: usize| format!("[]{}", " ".repeat(count - 2));
    assert_eq!(whole(Format::Json, &spaces(10_000)).0, Ok(()));
    assert_eq!(
        whole(Format::Json, &spaces(10_001)).0,
        Err(SplitFault::BodyTooLarge)
    );
}

/// Memory is bounded by the size of one event whatever arrives.
#[test]
fn what_is_held_is_bounded() {
    let limits = SplitLimits {
        body_bytes: u64::MAX,
        ..LIMITS
    };
    for (format, prefix) in [
        (Format::Json, "[\""),
        (Format::Json, "{\"a\":\""),
        (Format::Ndjson, "\""),
    ] {
        let mut taken = Taken::default();
        let mut splitter = Splitter::new(format, limits);
        splitter.push(prefix.as_bytes(), &mut taken).unwrap();
        for _ in 0..1000 {
            splitter.push(&[b'x'; 1000], &mut taken).unwrap();
            let carry = match &splitter.form {
                Form::Document(document) => &document.carry,
                Form::Lines(lines) => &lines.carry,
            };
            assert!(carry.bytes.capacity() <= 2 * LIMITS.event_bytes);
        }
    }
}

/// Text made of the bytes that matter, so that deep paths are met often.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let tokens: [&[u8]; 19] = [
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\"",
        b"\\",
        b"\n",
        b" ",
        b"\r",
        b"1",
        b"null",
        b"\"events\":[",
        b"\"a\":",
        b"\xff",
        b"{\"events\":[",
        b"{\"a\":1}",
        b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    ];
    let token = prop::sample::select(tokens.to_vec());
    vec(token, 0..40).prop_map(|tokens| tokens.concat())
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".{0,12}".prop_map(Into::into),
        "[\\[\\]{}\",:\\\\]{0,9}".prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Into::into),
            vec((".{0,6}", inner), 0..6)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_chunking_gives_the_same(
        body in prop_oneof![hostile(), vec(any::<u8>(), 0..100), vec(json(), 0..6).prop_map(|v| serde_json::to_vec(&v).unwrap())],
        cuts in vec(any::<prop::sample::Index>(), 0..12),
        lines: bool,
    ) {
        let format = if lines { Format::Ndjson } else { Format::Json };
        let expected = split(format, LIMITS, [&body[..]]);
        prop_assert_eq!(&split(format, LIMITS, cut(&body, &cuts)), &expected);
        prop_assert_eq!(&split(format, LIMITS, body.chunks(1)), &expected);
    }

    /// The oracle is serde_json on the whole document.
    #[test]
    fn agrees_with_a_parser_of_whole_documents(body in prop_oneof![
        hostile(),
        vec(json(), 0..6).prop_map(|v| serde_json::to_vec(&v).unwrap()),
        vec(json(), 0..6).prop_map(|v| serde_json::to_vec_pretty(&serde_json::json!({"events": v})).unwrap()),
        json().prop_map(|v| serde_json::to_vec_pretty(&v).unwrap()),
    ]) {
        let limits = SplitLimits { body_bytes: 1 << 30, events: 1 << 30, event_bytes: 1 << 30 };
        let (result, taken) = split(Format::Json, limits, [&body[..]]);
        let events: Vec<_> = taken.0.into_iter().map(Option::unwrap).collect();
        let is_json = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
        let ours = result.is_ok() && events.iter().all(|event| is_json(event));
        let text = std::str::from_utf8(&body).ok();
        let valid = is_json(&body);
        if !valid {
            prop_assert!(!ours, "a broken document passed");
            return Ok(());
        }
        let text = text.unwrap();
        if let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(text) {
            prop_assert!(ours, "{:?}", result);
            let elements: Vec<_> = elements.iter().map(|raw| raw.get().as_bytes().to_vec()).collect();
            prop_assert_eq!(events, elements);
        } else if let Ok(members) = serde_json::from_str::<Pairs<'_>>(text) {
            let envelope = members.0.iter().find(|(name, value)| name == "events" && value.get().starts_with('['));
            match envelope {
                Some((_, array)) if members.0.len() == 1 => {
                    prop_assert!(ours, "{:?}", result);
                    let elements = serde_json::from_str::<Vec<&RawValue>>(array.get()).unwrap();
                    let elements: Vec<_> = elements.iter().map(|raw| raw.get().as_bytes().to_vec()).collect();
                    prop_assert_eq!(events, elements);
                }
                Some(_) => prop_assert_eq!(result, Err(SplitFault::Malformed(Malformed::UnknownMember))),
                None => {
                    prop_assert!(ours, "{:?}", result);
                    prop_assert_eq!(events, vec![text.trim().as_bytes().to_vec()]);
                }
            }
        } else {
            prop_assert_eq!(result, Err(SplitFault::Malformed(Malformed::Syntax)), "neither an array nor an object");
        }
    }
}

/// The members of an object in their order, repeated names included.
struct Pairs<'a>(Vec<(String, &'a RawValue)>);

impl<'de> serde::Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ReadPairs;

        impl<'de> serde::de::Visitor<'de> for ReadPairs {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Pairs<'de>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(ReadPairs)
    }
}
