//! Heads of requests and responses, parsed by `httparse` and owned.

use httparse::{EMPTY_HEADER, Status};

use super::headers::RawHeaders;

/// Enough for every test of a limit; a bound all the same, since the peer may be what is broken.
const MAX_FIELDS: usize = 65_536;

#[derive(Debug)]
pub(crate) struct RequestHead {
    pub(crate) method: String,
    pub(crate) target: String,
    /// The digit after `HTTP/1.`.
    pub(crate) minor: u8,
    pub(crate) headers: RawHeaders,
}

#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) minor: u8,
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) headers: RawHeaders,
}

/// A parsed value with the number of bytes it took, `None` while more bytes are needed, or what is wrong.
pub(crate) type Parsed<T> = Result<Option<(usize, T)>, String>;

impl RequestHead {
    pub(crate) fn parse(input: &[u8]) -> Parsed<Self> {
        with_fields(input, |fields| {
            let mut request = httparse::Request::new(fields);
            Ok(match request.parse(input)? {
                Status::Partial => None,
                Status::Complete(length) => Some((
                    length,
                    Self {
                        method: request.method.unwrap_or_default().to_owned(),
                        target: request.path.unwrap_or_default().to_owned(),
                        minor: request.version.unwrap_or_default(),
                        headers: RawHeaders::from_parsed(request.headers),
                    },
                )),
            })
        })
    }
}

impl ResponseHead {
    pub(crate) fn parse(input: &[u8]) -> Parsed<Self> {
        with_fields(input, |fields| {
            let mut response = httparse::Response::new(fields);
            Ok(match response.parse(input)? {
                Status::Partial => None,
                Status::Complete(length) => Some((
                    length,
                    Self {
                        minor: response.version.unwrap_or_default(),
                        status: response.code.unwrap_or_default(),
                        reason: response.reason.unwrap_or_default().to_owned(),
                        headers: RawHeaders::from_parsed(response.headers),
                    },
                )),
            })
        })
    }
}

/// The fields after a chunked body, up to and including the empty line.
pub(crate) fn parse_trailers(input: &[u8]) -> Parsed<RawHeaders> {
    with_fields(input, |fields| {
        Ok(match httparse::parse_headers(input, fields)? {
            Status::Partial => None,
            Status::Complete((length, fields)) => Some((length, RawHeaders::from_parsed(fields))),
        })
    })
}

/// Runs a parser with as many header slots as it turns out to need, and refuses bare line feeds, which
/// `httparse` lets pass.
fn with_fields<'b, T>(
    input: &'b [u8],
    mut parse: impl FnMut(&mut [httparse::Header<'b>]) -> Result<Option<(usize, T)>, httparse::Error>,
) -> Parsed<T> {
    let mut slots = 128;
    loop {
        match parse(&mut vec![EMPTY_HEADER; slots]) {
            Ok(Some((length, _))) if has_bare_line_feed(&input[..length]) => {
                return Err("a line ends in a bare line feed".to_owned());
            }
            Ok(parsed) => return Ok(parsed),
            Err(httparse::Error::TooManyHeaders) if slots < MAX_FIELDS => slots *= 4,
            Err(error) => return Err(format!("not an HTTP/1.1 head: {error}")),
        }
    }
}

fn has_bare_line_feed(head: &[u8]) -> bool {
    let mut before = b'\n';
    head.iter().any(|&byte| {
        let bare = byte == b'\n' && before != b'\r';
        before = byte;
        bare
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_order_case_and_repetition() {
        let input = b"GET /a?b HTTP/1.1\r\nHOST: h\r\nx-A: 1\r\nX-a: 2\r\n\r\nrest";
        let (length, head) = RequestHead::parse(input).unwrap().unwrap();
        assert_eq!(&input[length..], b"rest");
        assert_eq!(head.target, "/a?b");
        let names: Vec<_> = head.headers.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["HOST", "x-A", "X-a"]);
        assert_eq!(head.headers.count("X-A"), 2);
        assert_eq!(head.headers.get("x-a"), Some("1"));
    }

    #[test]
    fn ten_thousand_fields_fit() {
        let mut input = String::from("HTTP/1.1 200 OK\r\n");
        for n in 0..10_000 {
            input.push_str(&format!("x-{n}: v\r\n"));
        }
        input.push_str("\r\n");
        let (_, head) = ResponseHead::parse(input.as_bytes()).unwrap().unwrap();
        assert_eq!(head.headers.len(), 10_000);
    }

    #[test]
    fn bare_line_feeds_are_refused() {
        let error = RequestHead::parse(b"GET / HTTP/1.1\r\na: b\n\r\n").unwrap_err();
        assert!(error.contains("bare line feed"), "{error}");
    }
}
