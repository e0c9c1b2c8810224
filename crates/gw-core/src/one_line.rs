//! What others say, on one line of a log.

use std::fmt::{self, Display, Formatter, Write};

/// What another side said, for logs: displayed, it is one line and at most so many bytes. What would begin another line, and all
/// other control characters, are spaces: subscribers write such texts as they are, and could not tell them from events of their own.
///
/// # Examples
///
/// ```
/// use gw_core::one_line::OneLine;
///
/// let said = "no\n2026-01-01 ERROR gw: all is lost";
/// assert_eq!(OneLine::new(said, 20).to_string(), "no 2026-01-01 ERROR ");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct OneLine<T> {
    said: T,
    most: usize,
}

/// Where it is written to, and for how many bytes there is room.
struct Line<'a, 'b> {
    to: &'a mut Formatter<'b>,
    room: usize,
}

impl<T: Display> OneLine<T> {
    /// This text, cut to so many bytes.
    pub const fn new(said: T, most: usize) -> Self {
        Self { said, most }
    }
}

impl<T: Display> Display for OneLine<T> {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        let room = self.most;
        write!(Line { to, room }, "{}", self.said)
    }
}

impl Write for Line<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for said in text.chars() {
            let Some(room) = self.room.checked_sub(said.len_utf8()) else {
                // Nothing that is shorter comes behind it.
                self.room = 0;
                return Ok(());
            };
            self.room = room;
            let breaks = said.is_control() || matches!(said, '\u{2028}' | '\u{2029}');
            self.to.write_char(if breaks { ' ' } else { said })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_line() {
        let said = "no\r\n2026 ERROR gw: all is lost\t\u{1b}[31m\0\u{7f}\u{85}\u{2028}\u{2029}ä";
        let line = "no  2026 ERROR gw: all is lost  [31m     ä";
        assert_eq!(OneLine::new(said, 512).to_string(), line);
    }

    #[test]
    fn it_is_cut_between_characters_wherever_it_comes_from() {
        let display = |most| OneLine::new(format_args!("{}{}{}", "aä", 'b', 12), most).to_string();
        let cut = [0, 1, 2, 3, 4, 5, 6, 7].map(display);
        assert_eq!(cut, ["", "a", "a", "aä", "aäb", "aäb1", "aäb12", "aäb12"]);
    }
}
