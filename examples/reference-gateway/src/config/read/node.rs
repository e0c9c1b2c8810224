//! A serde deserializer that walks the parsed tree and keeps the key path.
//!
//! Two conventions of this format, both after what TOML files look like: a struct is a table, never
//! an array of its fields; and an enum whose name is a key (`#[serde(rename = "engine")]`) is a
//! table in which that key names the variant and the other keys are its fields.

use std::collections::HashSet;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor,
};
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::error::ReadError;
use crate::config::finding::{Anchor, KeyPath};
use crate::config::suggest::nearest;

/// One value of the tree on its way into a typed field.
pub(super) struct Node<'a> {
    value: &'a DeValue<'a>,
    path: KeyPath,
    left_out: &'a HashSet<KeyPath>,
    /// The key that has already named the enum variant; not a field of it.
    tag: Option<&'static str>,
}

impl<'a> Node<'a> {
    pub(super) fn root(value: &'a Spanned<DeValue<'_>>, left_out: &'a HashSet<KeyPath>) -> Self {
        Self {
            value: value.get_ref(),
            path: KeyPath::default(),
            left_out,
            tag: None,
        }
    }

    fn child(&self, value: &'a DeValue<'a>, path: KeyPath) -> Self {
        Self {
            value,
            path,
            left_out: self.left_out,
            tag: None,
        }
    }

    fn entries(self, table: &'a DeTable<'a>) -> Entries<'a> {
        let keep =
            |key: &str| Some(key) != self.tag && !self.left_out.contains(&self.path.key(key));
        let mut rest: Vec<_> = table
            .iter()
            .map(|(key, value)| (&**key.get_ref(), value.get_ref()))
            .filter(|(key, _)| keep(key))
            .collect();
        rest.reverse();
        Entries {
            node: self,
            rest,
            value: None,
        }
    }
}

fn integer<'de, V: Visitor<'de>>(
    number: &DeInteger<'_>,
    visitor: V,
) -> Result<V::Value, ReadError> {
    let (digits, radix) = (number.as_str(), number.radix());
    if let Ok(value) = i64::from_str_radix(digits, radix) {
        visitor.visit_i64(value)
    } else if let Ok(value) = u64::from_str_radix(digits, radix) {
        visitor.visit_u64(value)
    } else {
        Err(ReadError::invalid_value(
            Unexpected::Other("a number of this size"),
            &visitor,
        ))
    }
}

impl<'de> Deserializer<'de> for Node<'_> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let path = self.path.clone();
        match self.value {
            DeValue::String(text) => visitor.visit_str(text),
            DeValue::Integer(number) => integer(number, visitor),
            DeValue::Float(number) => match number.as_str().parse() {
                Ok(value) => visitor.visit_f64(value),
                Err(_) => Err(ReadError::invalid_value(
                    Unexpected::Other("a number of this size"),
                    &visitor,
                )),
            },
            DeValue::Boolean(value) => visitor.visit_bool(*value),
            DeValue::Datetime(_) => Err(ReadError::invalid_type(
                Unexpected::Other("a date"),
                &visitor,
            )),
            DeValue::Array(array) => visitor.visit_seq(Items {
                node: self,
                rest: array.iter().enumerate(),
            }),
            DeValue::Table(table) => visitor.visit_map(self.entries(table)),
        }
        .map_err(|error| error.or_at(&path, Anchor::Value))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        // TOML has no null: what is written is there.
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match self.value {
            DeValue::Array(_) => {
                Err(ReadError::custom("must be a table, not an array")
                    .or_at(&self.path, Anchor::Value))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let path = self.path.clone();
        let left_out = self.left_out;
        let tagged = name.starts_with(|first: char| first.is_ascii_lowercase());
        match self.value {
            DeValue::Table(table) if tagged => match table.get(name).map(Spanned::get_ref) {
                Some(DeValue::String(variant)) => visitor.visit_enum(Tagged {
                    node: self,
                    tag: name,
                    variant,
                }),
                Some(_) => Err(ReadError::custom("must be a string in quotes")
                    .or_at(&path.key(name), Anchor::Value)),
                None => Err(match misspelt(name, table, left_out, &path) {
                    Some(key) => ReadError::custom(format!("unknown key; did you mean `{name}`?"))
                        .or_at(&path.key(key), Anchor::Key),
                    None => ReadError::missing_field(name),
                }),
            },
            DeValue::String(variant) => {
                visitor.visit_enum(IntoDeserializer::into_deserializer(&**variant))
            }
            _ if tagged => Err(ReadError::custom(format!(
                "must be a table with the key `{name}`"
            ))),
            _ => Err(ReadError::custom("must be a string in quotes")),
        }
        .map_err(|error| error.or_at(&path, Anchor::Value))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

/// The key in the table, of those that were not reported before, that may have been meant to be `name`.
fn misspelt<'t>(
    name: &str,
    table: &'t DeTable<'_>,
    left_out: &HashSet<KeyPath>,
    path: &KeyPath,
) -> Option<&'t str> {
    let mut keys = table.keys().map(|key| &**key.get_ref());
    keys.find(|key| nearest(key, [name]).is_some() && !left_out.contains(&path.key(key)))
}

/// The entries of a table that are still to be read, the next one last.
struct Entries<'a> {
    node: Node<'a>,
    rest: Vec<(&'a str, &'a DeValue<'a>)>,
    value: Option<(KeyPath, &'a DeValue<'a>)>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ReadError> {
        let Some((key, value)) = self.rest.pop() else {
            return Ok(None);
        };
        let path = self.node.path.key(key);
        let key: StrDeserializer<'_, ReadError> = key.into_deserializer();
        let read = seed
            .deserialize(key)
            .map_err(|error| error.or_at(&path, Anchor::Key))?;
        self.value = Some((path, value));
        Ok(Some(read))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        match self.value.take() {
            Some((path, value)) => {
                let node = self.node.child(value, path.clone());
                seed.deserialize(node)
                    .map_err(|error| error.or_at(&path, Anchor::Value))
            }
            None => Err(ReadError::custom("a value was asked for before its key")),
        }
    }
}

/// The items of an array; one that is left out keeps its number.
struct Items<'a, I> {
    node: Node<'a>,
    rest: I,
}

impl<'de, 'a, I: Iterator<Item = (usize, &'a Spanned<DeValue<'a>>)>> SeqAccess<'de>
    for Items<'a, I>
{
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ReadError> {
        for (index, value) in self.rest.by_ref() {
            let path = self.node.path.index(index);
            if !self.node.left_out.contains(&path) {
                let node = self.node.child(value.get_ref(), path.clone());
                return seed
                    .deserialize(node)
                    .map(Some)
                    .map_err(|error| error.or_at(&path, Anchor::Value));
            }
        }
        Ok(None)
    }
}

/// A table read as an enum.
struct Tagged<'a> {
    node: Node<'a>,
    tag: &'static str,
    variant: &'a str,
}

impl<'de, 'a> EnumAccess<'de> for Tagged<'a> {
    type Error = ReadError;
    type Variant = Node<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Node<'a>), ReadError> {
        let variant: StrDeserializer<'_, ReadError> = self.variant.into_deserializer();
        let path = self.node.path.key(self.tag);
        let read = seed
            .deserialize(variant)
            .map_err(|error| error.or_at(&path, Anchor::Value))?;
        Ok((
            read,
            Node {
                tag: Some(self.tag),
                ..self.node
            },
        ))
    }
}

impl<'de> VariantAccess<'de> for Node<'_> {
    type Error = ReadError;

    fn unit_variant(self) -> Result<(), ReadError> {
        Err(ReadError::custom("must be a string in quotes"))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, ReadError> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.deserialize_struct("", fields, visitor)
    }
}
