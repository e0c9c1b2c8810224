use std::fmt;

use gw_core::one_line::OneLine;

/// Why a sink does not take an event. The texts are the sink's own, cut to a bounded length.
///
/// As it is displayed, for logs, it is one line: what would begin another, and all other control characters, are spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    status: Option<u16>,
    kind: Box<str>,
    message: Box<str>,
}

impl Reason {
    /// The longest kind, in bytes.
    pub const MAX_KIND: usize = 64;
    /// The longest message, in bytes.
    pub const MAX_MESSAGE: usize = 512;

    /// A reason of a sink without statuses.
    pub fn new(kind: &str, message: &str) -> Self {
        Self {
            status: None,
            kind: cut(kind, Self::MAX_KIND).into(),
            message: cut(message, Self::MAX_MESSAGE).into(),
        }
    }

    /// With the status of the answer.
    #[must_use]
    pub const fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// The status of the answer, if there was one.
    pub const fn status(&self) -> Option<u16> {
        self.status
    }

    /// The sink's word for it, such as `document_parsing_exception`.
    pub const fn kind(&self) -> &str {
        &self.kind
    }

    /// The sink's explanation. It may quote the event.
    pub const fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(status) = self.status {
            write!(f, "{status} ")?;
        }
        let kind = OneLine::new(&self.kind, Self::MAX_KIND);
        let message = OneLine::new(&self.message, Self::MAX_MESSAGE);
        write!(f, "{kind}: {message}")
    }
}

fn cut(text: &str, length: usize) -> &str {
    let end = (0..=length.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logs write it as it is: what a sink says must be no event of its own there.
    #[test]
    fn a_reason_is_one_line() {
        let text = "no\r\n2026 ERROR gw: all is lost\t\u{1b}[31m\0\u{7f}\u{85}\u{2028}\u{2029}ä";
        let reason = Reason::new(text, text).with_status(400);
        let said = "no  2026 ERROR gw: all is lost  [31m     ä";
        assert_eq!(reason.to_string(), format!("400 {said}: {said}"));
        // Dead letters keep what it was.
        assert_eq!((reason.kind(), reason.message()), (text, text));
    }

    #[test]
    fn texts_are_cut_between_characters() {
        let reason = Reason::new("k", &"ä".repeat(400)).with_status(400);
        assert_eq!(reason.message().len(), 512);
        let reason = Reason::new(&format!("x{}", "ä".repeat(40)), "");
        assert_eq!(reason.kind().len(), 63);
        assert_eq!(reason.kind().chars().count(), 32);
    }
}
