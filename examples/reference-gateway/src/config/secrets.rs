//! What errors do not show of a file.

use std::ops::Range;

use toml_parser::Source;
use toml_parser::lexer::TokenKind;

/// The keys of URLs that may hold a password anywhere: `store` of a limit, `url` of a queue.
const URLS: [&str; 2] = ["store", "url"];

/// A part of one line of the text, with stars for what may be a password, as many as it has characters: columns stay.
pub(super) fn without_secrets(text: &str, line: Range<usize>) -> String {
    let hidden = hidden(text, &line);
    let shown = text.get(line.clone()).unwrap_or_default();
    let star = |(at, c): (usize, char)| {
        let at = line.start + at;
        let hide = !c.is_whitespace() && hidden.iter().any(|range| range.contains(&at));
        if hide { '*' } else { c }
    };
    shown.char_indices().map(star).collect()
}

/// What is hidden of a line. By the lexer, which takes all text, since what is refused may be no TOML.
fn hidden(text: &str, line: &Range<usize>) -> Vec<Range<usize>> {
    let mut hidden: Vec<Range<usize>> = Vec::new();
    let mut hide = |range: Range<usize>| match hidden.last_mut() {
        _ if range.end <= line.start => {}
        // What stands side by side is one: there are few, and each character of the line is looked for among them.
        Some(last) if last.end == range.start => last.end = range.end,
        _ => hidden.push(range),
    };
    let (mut key, mut after_url) = ("", false);
    for token in Source::new(text).lex() {
        let (start, after) = (token.span().start(), token.span().end());
        if start >= line.end {
            break;
        }
        let raw = text.get(start..after).unwrap_or_default();
        match token.kind() {
            TokenKind::Newline => after_url = false,
            _ if after_url => {
                hide(start..after);
                continue;
            }
            TokenKind::Equals => after_url = URLS.contains(&key),
            // Without quotes it is in pieces, in any of which there may be a password.
            TokenKind::Atom if raw.contains("://") => {
                after_url = true;
                hide(start..after);
                continue;
            }
            _ => {}
        }
        match token.kind() {
            TokenKind::Atom | TokenKind::BasicString | TokenKind::LiteralString => {
                key = raw.trim_matches(['"', '\'']);
            }
            _ => {}
        }
        if let Some(part) = user(raw) {
            hide(start + part.start..start + part.end);
        }
    }
    hidden
}

/// Who a URL says to connect as, `user:password`. To the last `@`, and also where no scheme is found: what is refused may be
/// none.
fn user(token: &str) -> Option<Range<usize>> {
    let user = token.rfind('@')?;
    let scheme = token.find("://").map(|at| at + "://".len());
    let comment = token.starts_with('#');
    let start = scheme.or((!comment).then_some(1))?;
    (start < user).then_some(start..user)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Story: quotes, a slash too few or a socket's path brought the password back.
    #[test]
    fn a_password_is_hidden_also_where_it_is_in_no_url() {
        for (line, shown) in [
            (
                "store = \"redis://u:it'stop@h:x\"",
                "store = ***********************",
            ),
            ("store = \"redis:/u:top@h:1\"", "store = ******************"),
            (
                "store = \"unix:///r.sock?pass=top\"",
                "store = *************************",
            ),
            ("\"store\" = redis://u:p@h", "\"store\" = *************"),
            (
                "stor = \"redis://u:it'stop@h:x\"",
                "stor = \"redis://*********@h:x\"",
            ),
            (
                "stor = \"redis\\u003a//u:top@h\"",
                "stor = \"******************@h\"",
            ),
            (
                "stor = \"redis://u:t\\\"op@h\"",
                "stor = \"redis://*******@h\"",
            ),
            (
                "queue = { url = \"nats:h\", stream = \"\" }",
                "queue = { url = ********* ****** * ** *",
            ),
            ("endpoints = [\"http://h\"]", "endpoints = [\"http://h\"]"),
            (
                "nodes = [http://u:dG9wc2VjcmV0==@h:9200]",
                "nodes = [*******************************",
            ),
            (
                "otlp = http://user:top.secret@h:4318",
                "otlp = *****************************",
            ),
        ] {
            // A string of several lines, and a line behind.
            let text = format!("x = \"\"\"\n\"u@\"\"\"\n{line}\nb = 1");
            let start = text.find(line).unwrap();
            assert_eq!(without_secrets(&text, start..start + line.len()), shown);
        }
        let text = "store = \"\"\"\nredis://h?pass=top\"\"\"";
        assert_eq!(without_secrets(text, 12..19), "*******");
    }
}
