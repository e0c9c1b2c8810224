//! Reading the answer to a bulk request, item by item, without making a tree of it.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::outcome::{self, Said};
use crate::batch::Event;
use crate::sink::Item;

/// What the answer says about each event, or nothing if it is no answer to a bulk request. Items that are missing count as
/// [`Item::Retry`].
pub(super) fn parse(text: &[u8], events: &[Event]) -> Option<Vec<Item>> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let items = Reply { events }.deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    items
}

/// `{"items": [..], ..}`
struct Reply<'a> {
    events: &'a [Event],
}

/// `[{"create": {..}}, ..]`
struct Items<'a> {
    events: &'a [Event],
}

/// `{"create": {..}}`
struct Action;

/// `{"_id": "..", "status": 400, "error": {..}, ..}`
struct Outcome;

/// `{"type": "..", "reason": ".."}`, or a text
struct Failure<'a> {
    said: &'a mut Said,
}

/// Makes a seed of a visitor, which may be handed a value of any type.
macro_rules! any_value {
    ($visitor:ident $(<$life:lifetime>)?, $value:ty) => {
        impl<'de> DeserializeSeed<'de> for $visitor $(<$life>)? {
            type Value = $value;

            fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<$value, D::Error> {
                reader.deserialize_any(self)
            }
        }
    };
}

any_value!(Reply<'_>, Option<Vec<Item>>);
any_value!(Items<'_>, Vec<Item>);
any_value!(Action, Said);
any_value!(Outcome, Said);
any_value!(Failure<'_>, ());

impl<'de> Visitor<'de> for Reply<'_> {
    type Value = Option<Vec<Item>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer to a bulk request")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut items = None;
        while let Some(key) = map.next_key::<String>()? {
            if key == "items" {
                let events = self.events;
                items = Some(map.next_value_seed(Items { events })?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(items)
    }
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = Vec<Item>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<Item>, A::Error> {
        let mut items = Vec::with_capacity(self.events.len());
        let mut events = self.events.iter();
        while let Some(said) = seq.next_element_seed(Action)? {
            let Some(event) = events.next() else {
                return Err(A::Error::custom("more items than were sent"));
            };
            items.push(outcome::of_item(&said, &event.id()));
        }
        items.resize(self.events.len(), Item::Retry);
        Ok(items)
    }
}

impl<'de> Visitor<'de> for Action {
    type Value = Said;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an item")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Said, A::Error> {
        let mut said = Said::default();
        while map.next_key::<IgnoredAny>()?.is_some() {
            said = map.next_value_seed(Outcome)?;
        }
        Ok(said)
    }
}

impl<'de> Visitor<'de> for Outcome {
    type Value = Said;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the outcome of an item")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Said, A::Error> {
        let mut said = Said::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "_id" => said.id = map.next_value()?,
                "status" => said.status = map.next_value()?,
                "error" => map.next_value_seed(Failure { said: &mut said })?,
                "failure_store" => said.redirected = map.next_value::<String>()? == "used",
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(said)
    }
}

impl<'de> Visitor<'de> for Failure<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an error")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        text.clone_into(&mut self.said.reason);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "type" => self.said.kind = text(&mut map)?,
                "reason" => self.said.reason = text(&mut map)?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// A text or null.
fn text<'de, A: MapAccess<'de>>(map: &mut A) -> Result<String, A::Error> {
    Ok(map.next_value::<Option<String>>()?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use proptest::prelude::*;

    use super::*;
    use crate::batch::{Batch, BatchId, Class, ClientId};
    use crate::sink::Reason;

    fn events(ids: &[&str]) -> Vec<Event> {
        let now = SystemTime::UNIX_EPOCH;
        let mut builder = Batch::builder(BatchId::new(now), ClientId::new("c").unwrap(), now);
        for id in ids {
            builder.push(Some(id), Class::Normal, b"{}");
        }
        builder.finish().events().collect()
    }

    const GOOD: &str = r#"{"took":3,"errors":true,"items":[
        {"create":{"_index":"x","_id":"a","status":201,"_shards":{"total":1}}},
        {"create":{"_id":"b","status":429,"error":{"type":"t","reason":"r"}}},
        {"create":{"status":400,"error":{"reason":"no","caused_by":{"type":"x"},"type":"k"},"_id":"c"}},
        {"create":{"_id":"own","status":201,"failure_store":"used"}}],"more":[1]}"#;

    #[test]
    fn each_item_is_read() {
        let items = parse(GOOD.as_bytes(), &events(&["a", "b", "c", "d"])).unwrap();
        let rejected = Item::Rejected(Reason::new("k", "no").with_status(400));
        assert_eq!(
            items,
            [Item::Delivered, Item::Retry, rejected, Item::Redirected]
        );
    }

    #[test]
    fn missing_and_misplaced_items_confirm_nothing() {
        let short = r#"{"items":[{"create":{"_id":"a","status":201}}]}"#;
        let items = parse(short.as_bytes(), &events(&["a", "b"])).unwrap();
        assert_eq!(items, [Item::Delivered, Item::Retry]);
        let swapped = r#"{"items":[{"create":{"_id":"b","status":201}},{"create":{"_id":"a","status":201}}]}"#;
        let items = parse(swapped.as_bytes(), &events(&["a", "b"])).unwrap();
        assert!(
            items.iter().all(|item| matches!(item, Item::Blocked(_))),
            "{items:?}"
        );
    }

    #[test]
    fn an_answer_that_makes_no_sense_says_nothing() {
        let events = events(&["a"]);
        for text in [
            "",
            "{}",
            "[]",
            "<html>",
            r#"{"items":7}"#,
            r#"{"items":[1]}"#,
            r#"{"items":[{"create":{"_id":"a","status":"201"}}]}"#,
            r#"{"items":[{"create":{"_id":"a","status":201}}]}x"#,
            r#"{"items":[{"create":{"_id":"a","status":201}}"#,
            r#"{"items":[{"create":{"_id":"a","status":201}},{"create":{"_id":"b","status":201}}]}"#,
        ] {
            assert_eq!(parse(text.as_bytes(), &events), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn damaged_answers_neither_panic_nor_invent(at in 0..GOOD.len(), byte: u8) {
            let mut text = GOOD.as_bytes().to_vec();
            text[at] = byte;
            if let Some(items) = parse(&text, &events(&["a", "b", "c", "d"])) {
                prop_assert_eq!(items.len(), 4);
            }
            prop_assert!(parse(&GOOD.as_bytes()[..at], &events(&["a", "b", "c", "d"])).is_none());
        }
    }
}
