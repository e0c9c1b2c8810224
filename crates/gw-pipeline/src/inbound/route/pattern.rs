use super::super::path::{EncodedSlash, normalize};

/// What a route's path must look like.
#[derive(Debug, Clone)]
pub(super) enum Pattern {
    Template(String),
    Prefix(String),
}

/// One step of a pattern, from slash to slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Literal(String),
    /// One segment, whatever it is.
    Any,
}

/// How a pattern ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The path ends here.
    Exact,
    /// The path ends here or goes on.
    Prefix,
    /// The path goes on.
    Rest,
}

impl Pattern {
    /// The pattern as written.
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Template(text) | Self::Prefix(text) => text,
        }
    }

    /// The steps from the root and how they end, or the rule that the pattern breaks.
    pub(super) fn parse(&self) -> Result<(Vec<Step>, End), &'static str> {
        match self {
            Self::Prefix(text) if text == "/" => Ok((Vec::new(), End::Prefix)),
            Self::Prefix(text) => {
                let trimmed = text.strip_suffix('/').unwrap_or(text);
                Ok((literals(trimmed)?, End::Prefix))
            }
            Self::Template(text) => template(text),
        }
    }
}

fn literals(path: &str) -> Result<Vec<Step>, &'static str> {
    check_literal(path)?;
    if path.ends_with('/') {
        return Err(NOT_NORMAL);
    }
    Ok(path
        .split('/')
        .skip(1)
        .map(|segment| Step::Literal(segment.to_owned()))
        .collect())
}

fn template(text: &str) -> Result<(Vec<Step>, End), &'static str> {
    let rest = text.strip_prefix('/').ok_or("must begin with a slash")?;
    let mut steps = Vec::new();
    let mut segments = rest.split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) {
            Some(name) => match name.strip_prefix('*') {
                Some(name) if is_name(name) && last => return Ok((steps, End::Rest)),
                Some(_) => return Err("{*name} must have a name and stand at the end"),
                None if is_name(name) => steps.push(Step::Any),
                None => return Err("a parameter's name has letters, digits and underscores only"),
            },
            None if segment.contains(['{', '}']) => {
                return Err("a parameter takes a whole segment: /{name}");
            }
            None if segment.is_empty() && !last => return Err(NOT_NORMAL),
            None => {
                check_literal(&format!("/{segment}"))?;
                steps.push(Step::Literal(segment.to_owned()));
            }
        }
    }
    Ok((steps, End::Exact))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

const NOT_NORMAL: &str =
    "must be in normal form: no dot or empty segments, no needless escapes, no `;`";

/// Requests are matched by their normal form, so a pattern in another form would never match. One that can be read in two
/// ways would be passed by in the other one.
fn check_literal(path: &str) -> Result<(), &'static str> {
    match normalize(path, EncodedSlash::Keep) {
        Ok(normal) if normal.text == path && normal.others.is_empty() => Ok(()),
        Ok(_) => Err(NOT_NORMAL),
        Err(_) => Err("must begin with a slash and hold no ambiguous characters"),
    }
}
