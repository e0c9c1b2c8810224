use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn client() -> ClientId {
    ClientId::new("device-7").unwrap()
}

fn at(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis)
}

fn class() -> impl Strategy<Value = Class> {
    (0..Class::ALL.len()).prop_map(|n| Class::ALL[n])
}

proptest! {
    #[test]
    fn what_is_built_is_what_is_read(
        name in "[!-~]{1,128}",
        millis in 0..1_u64 << 48,
        events in vec((proptest::option::of("[a-z]{1,9}"), class(), "\\{[ -~]{0,40}\\}"), 0..9),
    ) {
        let id = BatchId::new(at(millis));
        let mut builder = Batch::builder(id, ClientId::new(&name).unwrap(), at(millis));
        for (id, class, json) in &events {
            builder.push(id.as_deref(), *class, json.as_bytes());
        }
        prop_assert_eq!(builder.len(), events.len());
        let bytes = builder.bytes();
        let built = builder.finish();
        prop_assert_eq!(built.encoded().len(), bytes);
        let batch = Batch::decode(built.encoded().clone()).unwrap();
        prop_assert_eq!(&batch, &built);
        prop_assert_eq!((batch.id(), batch.client().as_str()), (id, &*name));
        prop_assert_eq!((batch.received(), id.time()), (at(millis), at(millis)));
        prop_assert_eq!(batch.events().len(), events.len());
        for (n, (event, (own, class, json))) in batch.events().zip(&events).enumerate() {
            prop_assert_eq!(event.id(), own.clone().unwrap_or_else(|| format!("{id}-{n}")));
            prop_assert_eq!((event.class(), event.index()), (*class, n));
            prop_assert_eq!(&event.json()[..], json.as_bytes());
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_read(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(batch) = Batch::decode(bytes.into()) {
            prop_assert_eq!(batch.events().count(), batch.len());
        }
    }

    #[test]
    fn damaged_bytes_are_refused_or_read(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in 0..3_usize) {
        let mut builder = Batch::builder(BatchId::from_u128(7), client(), UNIX_EPOCH);
        builder.push(Some("a"), Class::Normal, b"{\"message\":\"one\"}");
        builder.push(None, Class::Error, b"{}");
        let mut bytes = builder.finish().encoded().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.truncate(bytes.len() - cut);
        if let Ok(batch) = Batch::decode(bytes.into()) {
            prop_assert_eq!(batch.events().count(), batch.len());
        }
    }

    #[test]
    fn ids_are_read_as_they_are_printed(id in any::<u128>()) {
        let id = BatchId::from_u128(id);
        prop_assert_eq!(id.to_string().len(), 32);
        prop_assert_eq!(id.to_string().parse::<BatchId>(), Ok(id));
    }
}

#[test]
fn ids_sort_by_time_and_differ() {
    let mut ids: Vec<_> = (0..1000).map(|n| BatchId::new(at(n / 2))).collect();
    let times: Vec<_> = ids.iter().map(|id| id.time()).collect();
    assert!(times.is_sorted());
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 1000);
    for wrong in ["", "0", &"A".repeat(32), &"+".repeat(32), &"0".repeat(33)] {
        assert!(wrong.parse::<BatchId>().is_err(), "{wrong}");
    }
}

#[test]
fn client_ids_are_short_visible_ascii() {
    for wrong in ["", "a b", "\u{e4}", "a\n", &"x".repeat(129)] {
        assert!(ClientId::new(wrong).is_err(), "{wrong:?}");
    }
    assert_eq!(ClientId::new(&"x".repeat(128)).unwrap().as_str().len(), 128);
}

#[test]
fn ids_of_events_that_no_sink_takes_count_as_none() {
    let mut builder = Batch::builder(BatchId::from_u128(7), client(), UNIX_EPOCH);
    builder.push(Some(""), Class::Normal, b"{}");
    builder.push(Some(&"x".repeat(513)), Class::Normal, b"{}");
    builder.push(Some(&"x".repeat(512)), Class::Normal, b"{}");
    let batch = builder.finish();
    let ids: Vec<_> = batch
        .events()
        .map(|event| event.id().into_owned())
        .collect();
    let derived = |n: usize| format!("{:032x}-{n}", 7);
    assert_eq!(ids, [derived(0), derived(1), "x".repeat(512)]);
}

#[test]
fn classes_are_ordered_by_worth() {
    assert!(Class::ALL.is_sorted_by(|a, b| a > b));
    assert_eq!(Class::Own.to_string(), "self");
}
