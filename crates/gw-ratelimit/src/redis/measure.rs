//! How long the answers are that Redis sends: bytes in; whether to go on reading.
//!
//! The client reads on until an answer ends, however long it is, and keeps all of it: a value of three bytes as one of 56. It reads
//! while nothing is asked as well, when no timeout would end it. So what is read is followed here, as far as it takes to know
//! where an answer ends. What is understood otherwise than by the client would be measured wrongly: where that could be, this
//! is the stricter one.

/// Of the answer that is being read.
#[derive(Debug)]
pub(super) struct Measure {
    /// How many bytes of it there are.
    length: usize,
    /// How many of its values have not ended, as far as that is known.
    open: usize,
    at: At,
}

/// Where in a value.
#[derive(Debug, Clone, Copy)]
enum At {
    Kind,
    /// In a line that only its break ends.
    Text {
        returned: bool,
    },
    /// In one that says how many bytes, values or pairs of them follow.
    Count {
        of: Of,
        count: usize,
        returned: bool,
    },
    /// In so many bytes.
    Bytes(usize),
}

#[derive(Debug, Clone, Copy)]
enum Of {
    Bytes,
    Values,
    Pairs,
}

impl Measure {
    /// The longest. That of all policies that a limiter may have, each number as long as can be, is less than half of it; the
    /// greeting of a server with modules is some kilobytes.
    const LONGEST: usize = 64 * 1024;

    pub(super) const fn new() -> Self {
        Self {
            length: 0,
            open: 1,
            at: At::Kind,
        }
    }

    /// `false` if this is, or becomes, nothing that was asked for: nothing more is to be read.
    pub(super) fn read(&mut self, bytes: &[u8]) -> bool {
        bytes.iter().all(|byte| self.next(*byte).is_some())
    }

    fn next(&mut self, byte: u8) -> Option<()> {
        self.length += 1;
        if self.length > Self::LONGEST {
            return None;
        }
        self.at = match self.at {
            At::Kind => begun(byte)?,
            At::Text { returned: true } if byte == b'\n' => self.ended(),
            At::Text { .. } => At::Text {
                returned: byte == b'\r',
            },
            At::Count {
                of,
                count,
                returned,
            } => match byte {
                b'\n' if returned => self.counted(of, count),
                b'\r' if !returned => At::Count {
                    of,
                    count,
                    returned: true,
                },
                // Not less than none: that is no value to the client, and an endless one to it elsewhere.
                b'0'..=b'9' if !returned => At::Count {
                    of,
                    count: count
                        .saturating_mul(10)
                        .saturating_add(usize::from(byte - b'0')),
                    returned,
                },
                _ => return None,
            },
            At::Bytes(1) => self.ended(),
            At::Bytes(left) => At::Bytes(left - 1),
        };
        Some(())
    }

    fn counted(&mut self, of: Of, count: usize) -> At {
        let values = match of {
            // And a line break.
            Of::Bytes => return At::Bytes(count.saturating_add(2)),
            Of::Values => count,
            Of::Pairs => count.saturating_mul(2),
        };
        self.open = self.open.saturating_add(values);
        self.ended()
    }

    /// A value has ended, and the answer with the last one.
    const fn ended(&mut self) -> At {
        self.open -= 1;
        if self.open == 0 {
            *self = Self::new();
        }
        At::Kind
    }
}

/// What begins with this. Nothing that comes unasked does: the client would keep names of subscriptions.
const fn begun(kind: u8) -> Option<At> {
    let of = match kind {
        b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => {
            return Some(At::Text { returned: false });
        }
        b'$' | b'=' | b'!' => Of::Bytes,
        b'*' | b'~' => Of::Values,
        b'%' => Of::Pairs,
        _ => return None,
    };
    Some(At::Count {
        of,
        count: 0,
        returned: false,
    })
}

#[cfg(test)]
mod tests {
    use ::redis::{ErrorKind, Parser};
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    fn is_read(text: &str) -> bool {
        Measure::new().read(text.as_bytes())
    }

    #[test]
    fn the_longest_answers_that_are_asked_for_are_read_one_behind_the_other() {
        // Of 256 policies, and a clock.
        let number = format!(":{}\r\n", i64::MIN);
        let answer = format!("*1282\r\n{}", number.repeat(1282));
        assert!(answer.len() > Measure::LONGEST / 3);
        assert!(is_read(&answer.repeat(10)));
        let greeting = "%3\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n$7\r\nmodules\r\n*1\r\n%1\r\n+name\r\n$0\r\n\r\n";
        assert!(is_read(&greeting.repeat(1000)));
        assert!(is_read(&"-MOVED 1 a:1\r\n+OK\r\n_\r\n".repeat(10_000)));
    }

    /// Story: an answer without an end was kept until the process ended, and while nobody asked nothing ended that.
    #[test]
    fn an_answer_without_an_end_is_not_read_to_it() {
        for (begun, more) in [
            ("$9999999999\r\n", "a"),
            ("$99999999999999999999999999999999\r\n", "a"),
            ("+", "a"),
            ("-ERR ", "\r"),
            (":", "1"),
            ("*", "1"),
            ("*1000000000\r\n", "_\r\n"),
            ("%99999999999999999999999999999999\r\n", "_\r\n"),
            ("~99999999999999999999999999999999\r\n", "*0\r\n"),
            ("", "*2\r\n"),
        ] {
            let text = |bytes: usize| format!("{begun}{}", more.repeat(bytes / more.len()));
            assert!(is_read(&text(Measure::LONGEST / 2)), "{begun:?} {more:?}");
            assert!(!is_read(&text(2 * Measure::LONGEST)), "{begun:?} {more:?}");
        }
    }

    #[test]
    fn what_nobody_asks_for_is_not_read() {
        // A subscription, an attribute, counts that the client reads in ways of its own, and what is no answer at all.
        for text in [
            ">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n",
            "|1\r\n+a\r\n+b\r\n",
            "!-1\r\n",
            "*-1\r\n",
            "*\r1\r\n",
            "*1\n",
            "* 1\r\n",
            "HTTP/1.1 400 Bad Request\r\n",
        ] {
            assert!(!is_read(text), "{text:?}");
        }
    }

    proptest! {
        /// Or the client could read on where an answer is thought to have ended.
        #[test]
        fn answers_end_where_the_client_says(parts in prop::collection::vec(select(&[
            "*2\r\n", "*1\r\n", "*0\r\n", "*-1\r\n", "~1\r\n", "%1\r\n", "%0\r\n", "$3\r\nabc\r\n", "$0\r\n\r\n",
            "$-1\r\n", "$2\r\n\r\n\r\n", "=5\r\ntxt:a\r\n", "!2\r\nab\r\n", "+a\r\n", "+\r\r\n", "-E a\r\n", ":1\r\n",
            "_\r\n", "#t\r\n", ",1.5\r\n", "(12\r\n", ">1\r\n+a\r\n", "\r", "\n", "\r\n", "1", " ", "+", "$", "*",
        ][..]), 0..12)) {
            let text = parts.concat();
            let (mut measure, mut ends) = (Measure::new(), 0);
            for byte in text.as_bytes() {
                if !measure.read(&[*byte]) {
                    return Ok(());
                }
                ends += usize::from(measure.length == 0);
            }
            let (mut client, mut unread, mut values) = (Parser::new(), text.as_bytes(), 0);
            let error = loop {
                match client.parse_value(&mut unread) {
                    Ok(_) => values += 1,
                    Err(error) => break error,
                }
            };
            // By an error that it finds, it ends the connection.
            if error.kind() != ErrorKind::Parse {
                prop_assert_eq!(values, ends, "{:?}: {}", text, error);
            }
        }
    }
}
