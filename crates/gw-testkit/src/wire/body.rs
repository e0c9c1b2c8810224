//! Where a message body ends, and what was in it.

use bytes::{Buf, BytesMut};
use httparse::Status;

use super::head::{ResponseHead, parse_trailers};
use super::headers::RawHeaders;

/// Follows one message body through its bytes; knows nothing of sockets.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decoder {
    /// Nothing is left to read.
    Done,
    /// So many bytes are left.
    Length(u64),
    Chunked(Chunk),
    /// The body ends with the connection.
    UntilClose,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Chunk {
    Size,
    Data(u64),
    /// The line end after the data.
    DataEnd,
    Trailers,
}

/// What a decoder has found so far.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    /// At most `keep` bytes.
    pub(crate) bytes: BytesMut,
    /// All bytes that came, kept or not.
    pub(crate) length: u64,
    pub(crate) trailers: RawHeaders,
    keep: usize,
}

impl Decoder {
    /// The body of a request with these fields.
    pub(crate) fn for_request(headers: &RawHeaders) -> Result<Self, String> {
        Self::for_fields(headers, Self::Done)
    }

    /// The body of an answer to a request of that method.
    pub(crate) fn for_response(method: &str, head: &ResponseHead) -> Result<Self, String> {
        if method == "HEAD" || head.status < 200 || matches!(head.status, 204 | 304) {
            return Ok(Self::Done);
        }
        Self::for_fields(&head.headers, Self::UntilClose)
    }

    fn for_fields(headers: &RawHeaders, without: Self) -> Result<Self, String> {
        match (
            headers.count("transfer-encoding"),
            headers.count("content-length"),
        ) {
            (0, 0) => Ok(without),
            (0, 1) => parse_length(headers).map(Self::sized),
            (0, lengths) => Err(format!("{lengths} content-length fields")),
            (1, 0) if is_chunked(headers) => Ok(Self::Chunked(Chunk::Size)),
            (_, 0) => Err("a transfer-encoding other than one `chunked`".to_owned()),
            _ => Err("transfer-encoding together with content-length".to_owned()),
        }
    }

    fn sized(length: u64) -> Self {
        if length == 0 {
            Self::Done
        } else {
            Self::Length(length)
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        *self == Self::Done
    }

    /// Whether the end of the connection is a proper end of this body.
    pub(crate) fn may_end(&self) -> bool {
        matches!(self, Self::Done | Self::UntilClose)
    }

    /// Takes from `input` what belongs to the body and leaves the rest.
    pub(crate) fn decode(&mut self, input: &mut BytesMut, out: &mut Payload) -> Result<(), String> {
        while self.step(input, out)? {}
        Ok(())
    }

    /// One step; `false` when more bytes are needed or none are left to read.
    fn step(&mut self, input: &mut BytesMut, out: &mut Payload) -> Result<bool, String> {
        let chunk = match self {
            Self::Done => return Ok(false),
            Self::UntilClose => {
                out.take(input, u64::MAX);
                return Ok(false);
            }
            Self::Length(left) => {
                *left -= out.take(input, *left);
                if *left == 0 {
                    *self = Self::Done;
                }
                return Ok(false);
            }
            Self::Chunked(chunk) => chunk,
        };
        match chunk {
            Chunk::Size => {
                let Some(size) = take_chunk_size(input)? else {
                    return Ok(false);
                };
                *chunk = if size == 0 {
                    Chunk::Trailers
                } else {
                    Chunk::Data(size)
                };
            }
            Chunk::Data(left) => {
                *left -= out.take(input, *left);
                if *left > 0 {
                    return Ok(false);
                }
                *chunk = Chunk::DataEnd;
            }
            Chunk::DataEnd => {
                if input.len() < 2 {
                    return Ok(false);
                }
                if !input.starts_with(b"\r\n") {
                    return Err("a chunk is longer than its size says".to_owned());
                }
                input.advance(2);
                *chunk = Chunk::Size;
            }
            Chunk::Trailers => {
                let Some((length, trailers)) = parse_trailers(input)? else {
                    return Ok(false);
                };
                input.advance(length);
                out.trailers = trailers;
                *self = Self::Done;
            }
        }
        Ok(true)
    }
}

impl Payload {
    /// Keeps the first `keep` bytes of the body and counts the others.
    pub(crate) fn keeping(keep: usize) -> Self {
        Self {
            bytes: BytesMut::new(),
            length: 0,
            trailers: RawHeaders::default(),
            keep,
        }
    }

    fn take(&mut self, input: &mut BytesMut, most: u64) -> u64 {
        let count = usize::try_from(most).unwrap_or(usize::MAX).min(input.len());
        let taken = input.split_to(count);
        let room = self.keep - self.bytes.len();
        self.bytes.extend_from_slice(&taken[..count.min(room)]);
        self.length += count as u64;
        count as u64
    }
}

fn parse_length(headers: &RawHeaders) -> Result<u64, String> {
    let value = headers
        .values("content-length")
        .next()
        .cloned()
        .unwrap_or_default();
    let text = std::str::from_utf8(&value).unwrap_or_default();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| text.parse().ok()).flatten();
    number.ok_or_else(|| format!("content-length {value:?}"))
}

fn is_chunked(headers: &RawHeaders) -> bool {
    let mut codings = headers.values("transfer-encoding");
    codings
        .next()
        .is_some_and(|value| value.eq_ignore_ascii_case(b"chunked"))
}

fn take_chunk_size(input: &mut BytesMut) -> Result<Option<u64>, String> {
    // httparse reads an empty size as 0, which would end the body.
    if input.first().is_some_and(|byte| !byte.is_ascii_hexdigit()) {
        return Err("a chunk without a size".to_owned());
    }
    match httparse::parse_chunk_size(input) {
        Ok(Status::Partial) => Ok(None),
        Ok(Status::Complete((length, size))) => {
            input.advance(length);
            Ok(Some(size))
        }
        Err(_) => Err("not a chunk size".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNKED: &[u8] = b"3;ext=1\r\nabc\r\nA\r\n0123456789\r\n0\r\nX-Sum: 7\r\n\r\nnext";

    fn headers(lines: &str) -> RawHeaders {
        let input = format!("{lines}\r\n");
        parse_trailers(input.as_bytes()).unwrap().unwrap().1
    }

    #[test]
    fn a_chunked_body_decodes_whole_and_byte_by_byte() {
        for piece in [1, 2, 3, CHUNKED.len()] {
            let mut decoder = Decoder::Chunked(Chunk::Size);
            let mut payload = Payload::keeping(1024);
            let mut input = BytesMut::new();
            for bytes in CHUNKED.chunks(piece) {
                input.extend_from_slice(bytes);
                decoder.decode(&mut input, &mut payload).unwrap();
            }
            assert!(decoder.is_done());
            assert_eq!(&payload.bytes[..], b"abc0123456789");
            assert_eq!(payload.trailers.get("x-sum"), Some("7"));
            assert_eq!(&input[..], b"next");
        }
    }

    #[test]
    fn a_sized_body_leaves_what_follows() {
        let mut decoder = Decoder::for_request(&headers("content-length: 3\r\n")).unwrap();
        let mut payload = Payload::keeping(2);
        let mut input = BytesMut::from("abcdef");
        decoder.decode(&mut input, &mut payload).unwrap();
        assert!(decoder.is_done());
        assert_eq!((&payload.bytes[..], payload.length), (&b"ab"[..], 3));
        assert_eq!(&input[..], b"def");
    }

    #[test]
    fn ambiguous_framing_is_an_error() {
        for lines in [
            "content-length: 1\r\ncontent-length: 1\r\n",
            "content-length: +1\r\n",
            "content-length: 18446744073709551616\r\n",
            "content-length: 1\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: gzip, chunked\r\n",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        ] {
            assert!(Decoder::for_request(&headers(lines)).is_err(), "{lines:?}");
        }
    }

    #[test]
    fn broken_chunks_are_errors() {
        for bytes in [
            &b"\r\n"[..],
            b"x\r\n",
            b"-1\r\n",
            b"2\r\nabc\r\n",
            b"0\r\nbad header\r\n\r\n",
        ] {
            let mut decoder = Decoder::Chunked(Chunk::Size);
            let mut input = BytesMut::from(bytes);
            let result = decoder.decode(&mut input, &mut Payload::keeping(16));
            assert!(result.is_err(), "{bytes:?}");
        }
    }
}
