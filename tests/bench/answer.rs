//! The least of HTTP/1.1 that a load generator must read: a status and a length.

use httparse::{EMPTY_HEADER, Response, Status};

use super::Result;

/// More fields than any answer in a measurement has.
const MAX_FIELDS: usize = 64;

/// What the head of an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The status.
    pub status: u16,
    /// Bytes of the head, its empty line included.
    pub length: usize,
    /// Bytes of the body that follows.
    pub body: usize,
    /// Whether the server closes the connection after this answer.
    pub close: bool,
}

impl Head {
    /// Reads a head from the beginning of `bytes`; `None` while it is not complete.
    ///
    /// # Errors
    ///
    /// If it is no head, or none with a `content-length`. Chunked answers are an error on purpose: all answers in a
    /// measurement have a known length, and a proxy that loses it does something else than it is measured for.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>> {
        let mut fields = [EMPTY_HEADER; MAX_FIELDS];
        let mut response = Response::new(&mut fields);
        let Status::Complete(length) = response.parse(bytes)? else {
            return Ok(None);
        };
        let status = response.code.unwrap_or_default();
        let field = |name: &str| {
            let found = response
                .headers
                .iter()
                .find(|f| f.name.eq_ignore_ascii_case(name));
            found.and_then(|field| std::str::from_utf8(field.value).ok())
        };
        let body = field("content-length")
            .and_then(|value| value.parse().ok())
            .ok_or_else(|| format!("an answer {status} without a content-length"))?;
        let close = field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        Ok(Some(Self {
            status,
            length,
            body,
            close,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_complete_with_its_empty_line() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        for cut in 0..38 {
            assert_eq!(Head::parse(&answer[..cut]).unwrap(), None, "{cut}");
        }
        let head = Head::parse(answer).unwrap().unwrap();
        assert_eq!(
            head,
            Head {
                status: 200,
                length: 38,
                body: 5,
                close: false
            }
        );
        assert_eq!(&answer[head.length..], b"hello");
    }

    #[test]
    fn closing_is_seen() {
        let answer = b"HTTP/1.1 503 x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        assert!(Head::parse(answer).unwrap().unwrap().close);
    }

    #[test]
    fn an_unknown_length_is_an_error() {
        let error =
            Head::parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap_err();
        assert_eq!(error.to_string(), "an answer 200 without a content-length");
    }
}
