//! Which documents fit into an index.

use std::collections::BTreeMap;

use serde_json::Value;

use super::answer::ItemError;

/// The longest term that Lucene takes, in bytes.
const MAX_TERM: usize = 32_766;

/// The fields of an index, by dotted path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    fields: BTreeMap<String, Field>,
    strict: bool,
}

/// The type of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Field {
    /// A string that is one term: at most 32,766 bytes.
    Keyword,
    /// A string that is split into terms.
    Text,
    /// An integer of 64 bits, or a string that holds one.
    Long,
    /// A number, or a string that holds one.
    Double,
    /// `true` or `false`.
    Boolean,
    /// An ISO 8601 date, or milliseconds since 1970.
    Date,
    /// Any JSON object, kept as one field. Each value in it is a term, with the path to it: at most 32,766 bytes.
    Flattened,
}

impl Mapping {
    /// No fields yet; the first value of a field decides about its type.
    pub fn dynamic() -> Self {
        Self {
            fields: BTreeMap::new(),
            strict: false,
        }
    }

    /// Exactly these fields. A dotted path is a field of an object.
    pub fn strict<P: Into<String>>(fields: impl IntoIterator<Item = (P, Field)>) -> Self {
        Self {
            strict: true,
            ..Self::dynamic().with(fields)
        }
    }

    /// These fields have these types from the start.
    #[must_use]
    pub fn with<P: Into<String>>(mut self, fields: impl IntoIterator<Item = (P, Field)>) -> Self {
        let fields = fields.into_iter().map(|(path, field)| (path.into(), field));
        self.fields.extend(fields);
        self
    }

    /// Takes a document in, with the fields it introduces, or says why it does not fit.
    pub(super) fn admit(
        &mut self,
        id: &str,
        document: &Value,
        max_fields: usize,
    ) -> Result<(), ItemError> {
        let Value::Object(members) = document else {
            return Err(ItemError::parsing("the document is not an object"));
        };
        let mut new = BTreeMap::new();
        for (name, value) in members {
            self.check(id, name, value, &mut new)?;
        }
        if self.fields.len() + new.len() > max_fields {
            return Err(ItemError::parsing(format!(
                "Limit of total fields [{max_fields}] has been exceeded while adding new fields [{}]",
                new.len()
            )));
        }
        self.fields.extend(new);
        Ok(())
    }

    fn check(
        &self,
        id: &str,
        path: &str,
        value: &Value,
        new: &mut BTreeMap<String, Field>,
    ) -> Result<(), ItemError> {
        let known = self.fields.get(path).or_else(|| new.get(path)).copied();
        match (known, value) {
            (_, Value::Null) => Ok(()),
            (_, Value::Array(values)) => values
                .iter()
                .try_for_each(|value| self.check(id, path, value, new)),
            (Some(field), value) => field.check(id, path, value),
            (None, Value::Object(members)) => members.iter().try_for_each(|(name, value)| {
                self.check(id, &format!("{path}.{name}"), value, new)
            }),
            (None, _) if self.is_object(path) => Err(ItemError::parsing(format!(
                "object mapping for [{path}] tried to parse field [{path}] as object, but found a concrete value"
            ))),
            (None, _) if self.strict => Err(ItemError::new(
                400,
                "strict_dynamic_mapping_exception",
                format!(
                    "mapping set to strict, dynamic introduction of [{path}] within [_doc] is not allowed"
                ),
            )),
            (None, value) => {
                new.insert(path.to_owned(), Field::of(value));
                Ok(())
            }
        }
    }

    fn is_object(&self, path: &str) -> bool {
        let prefix = format!("{path}.");
        let mut inside = self.fields.range(prefix.clone()..);
        inside
            .next()
            .is_some_and(|(path, _)| path.starts_with(&prefix))
    }
}

impl Field {
    /// What dynamic mapping makes of a value.
    fn of(value: &Value) -> Self {
        match value {
            Value::Bool(_) => Self::Boolean,
            Value::Number(number) if number.is_f64() => Self::Double,
            Value::Number(_) => Self::Long,
            Value::String(text) if is_date(text) => Self::Date,
            _ => Self::Text,
        }
    }

    fn check(self, id: &str, path: &str, value: &Value) -> Result<(), ItemError> {
        let fits = match (self, value) {
            (Self::Flattened, value) => value.is_object() && longest_term(value) <= MAX_TERM,
            (_, Value::Object(_)) => false,
            (Self::Keyword, Value::String(text)) if text.len() > MAX_TERM => {
                return Err(ItemError::new(
                    400,
                    "illegal_argument_exception",
                    format!(
                        "Document contains at least one immense term in field=\"{path}\" (whose UTF8 encoding is \
                         longer than the max length {MAX_TERM})"
                    ),
                ));
            }
            (Self::Keyword | Self::Text, _) => true,
            (Self::Long, Value::Number(number)) => {
                number.is_i64() || number.as_f64().is_some_and(|f| f.abs() < 9.2e18)
            }
            (Self::Double, Value::Number(_)) => true,
            (Self::Long, Value::String(text)) => text.parse::<i64>().is_ok(),
            (Self::Double, Value::String(text)) => text.parse::<f64>().is_ok(),
            (Self::Boolean, Value::String(text)) => matches!(&**text, "true" | "false" | ""),
            (Self::Boolean, value) => value.is_boolean(),
            (Self::Date, Value::String(text)) => is_date(text) || text.parse::<i64>().is_ok(),
            (Self::Date, value) => value.is_number(),
            (Self::Long | Self::Double, _) => false,
        };
        if fits {
            return Ok(());
        }
        Err(ItemError::parsing(format!(
            "failed to parse field [{path}] of type [{}] in document with id '{id}'",
            self.as_str()
        )))
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Keyword => "keyword",
            Self::Text => "text",
            Self::Long => "long",
            Self::Double => "double",
            Self::Boolean => "boolean",
            Self::Date => "date",
            Self::Flattened => "flattened",
        }
    }
}

/// The length of the longest term of a flattened value: path, separator and value.
fn longest_term(value: &Value) -> usize {
    match value {
        Value::Object(members) => {
            let term = |(name, value): (&String, &Value)| name.len() + 1 + longest_term(value);
            members.iter().map(term).max().unwrap_or_default()
        }
        Value::Array(values) => values.iter().map(longest_term).max().unwrap_or_default(),
        Value::String(text) => text.len(),
        other => other.to_string().len(),
    }
}

/// Whether a string looks like `2026-11-21`, alone or followed by a time.
fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    let shape = b"dddd-dd-dd";
    let date = bytes.len() >= shape.len()
        && shape.iter().zip(bytes).all(|(shape, byte)| match shape {
            b'd' => byte.is_ascii_digit(),
            other => byte == other,
        });
    date && (bytes.len() == shape.len() || matches!(bytes[shape.len()], b'T' | b't'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn admit(mapping: &mut Mapping, document: &Value) -> Result<(), String> {
        mapping
            .admit("1", document, 5)
            .map_err(|error| error.kind.to_owned())
    }

    #[test]
    fn the_first_value_decides_about_a_dynamic_field() {
        let mut mapping = Mapping::dynamic();
        assert_eq!(
            admit(
                &mut mapping,
                &json!({"n": 1, "o": {"d": "2026-11-21T10:00:00Z"}})
            ),
            Ok(())
        );
        for misfit in [
            json!({"n": "one"}),
            json!({"o": 1}),
            json!({"o": {"d": "soon"}}),
            json!({"n": {"x": 1}}),
        ] {
            assert_eq!(
                admit(&mut mapping, &misfit),
                Err("document_parsing_exception".to_owned()),
                "{misfit}"
            );
        }
        assert_eq!(admit(&mut mapping, &json!({"n": ["2", null, 3]})), Ok(()));
    }

    #[test]
    fn a_strict_mapping_takes_no_new_field() {
        let mut mapping =
            Mapping::strict([("level", Field::Keyword), ("fields", Field::Flattened)]);
        assert_eq!(
            admit(
                &mut mapping,
                &json!({"level": "x", "fields": {"any": {"thing": 1}}})
            ),
            Ok(())
        );
        assert_eq!(
            admit(&mut mapping, &json!({"other": 1})),
            Err("strict_dynamic_mapping_exception".to_owned())
        );
    }

    #[test]
    fn a_flattened_value_is_a_term_with_its_path() {
        let mut mapping = Mapping::strict([("fields", Field::Flattened)]);
        let path = "a.b.".len();
        let of = |length: usize| json!({"fields": {"a": {"b": [1, "x".repeat(length)]}}});
        assert_eq!(admit(&mut mapping, &of(MAX_TERM - path)), Ok(()));
        assert_eq!(
            admit(&mut mapping, &of(MAX_TERM - path + 1)),
            Err("document_parsing_exception".to_owned())
        );
    }

    #[test]
    fn long_terms_and_too_many_fields_do_not_fit() {
        let mut mapping = Mapping::dynamic().with([("level", Field::Keyword)]);
        let term = |length: usize| json!({"level": "x".repeat(length)});
        assert_eq!(admit(&mut mapping, &term(32_766)), Ok(()));
        assert_eq!(
            admit(&mut mapping, &term(32_767)),
            Err("illegal_argument_exception".to_owned())
        );
        assert_eq!(
            admit(&mut mapping, &json!({"a": 1, "b": 1, "c": 1, "d": 1})),
            Ok(())
        );
        assert_eq!(
            admit(&mut mapping, &json!({"e": 1})),
            Err("document_parsing_exception".to_owned())
        );
    }
}
