//! The TOML tree of a file, in which every key and value knows its place.

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml_parser::lexer::TokenKind;

use super::error::ConfigError;
use super::finding::{Anchor, Finding, KeyPath, Step};
use super::source::Source;

/// Most dots in one key. The parser allows 80 brackets inside one another and 80 dots in each key
/// between them; a tree of that depth overflows the stack of a thread when it is dropped. The
/// contract's deepest key has two dots.
const MAX_DOTS: usize = 8;

/// A parsed file.
#[derive(Debug)]
pub(super) struct Document<'t> {
    source: Source<'t>,
    root: Spanned<DeValue<'t>>,
}

impl<'t> Document<'t> {
    /// Parses the text; the first syntax error ends it.
    pub(super) fn parse(source: Source<'t>) -> Result<Self, ConfigError> {
        if let Some(offset) = endless_key(source.text) {
            let message = format!("a key may have at most {MAX_DOTS} dots");
            return Err(source.error(offset, String::new(), message));
        }
        match DeTable::parse(source.text) {
            Ok(table) => Ok(Self {
                source,
                root: Spanned::new(table.span(), DeValue::Table(table.into_inner())),
            }),
            Err(error) => {
                let offset = error.span().map_or(0, |span| span.start);
                Err(source.error(
                    offset,
                    String::new(),
                    format!("not valid TOML: {}", error.message()),
                ))
            }
        }
    }

    pub(super) fn root(&self) -> &Spanned<DeValue<'t>> {
        &self.root
    }

    pub(super) fn root_mut(&mut self) -> &mut Spanned<DeValue<'t>> {
        &mut self.root
    }

    /// Gives a finding its line and column.
    pub(super) fn error(&self, finding: Finding) -> ConfigError {
        let offset = self.offset(&finding.path, finding.anchor);
        self.source
            .error(offset, finding.path.to_string(), finding.message)
    }

    /// Where the path leads, or where the last table on the way there begins.
    fn offset(&self, path: &KeyPath, anchor: Anchor) -> usize {
        let mut value = &self.root;
        let mut key = value.span().start;
        for step in path.steps() {
            let next = match (step, value.get_ref()) {
                (Step::Key(name), DeValue::Table(table)) => table
                    .get_key_value(name.as_str())
                    .map(|(key, value)| (key.span().start, value)),
                (Step::Index(index), DeValue::Array(array)) => {
                    array.get(*index).map(|value| (value.span().start, value))
                }
                _ => None,
            };
            let Some(next) = next else {
                return value.span().start;
            };
            (key, value) = next;
        }
        match anchor {
            Anchor::Key => key,
            Anchor::Value => value.span().start,
        }
    }
}

/// Where a key with too many dots begins to have too many.
fn endless_key(text: &str) -> Option<usize> {
    let mut dots = 0;
    for token in toml_parser::Source::new(text).lex() {
        match token.kind() {
            TokenKind::Dot => dots += 1,
            TokenKind::Atom
            | TokenKind::BasicString
            | TokenKind::LiteralString
            | TokenKind::Whitespace => {}
            _ => dots = 0,
        }
        if dots > MAX_DOTS {
            return Some(token.span().start());
        }
    }
    None
}
