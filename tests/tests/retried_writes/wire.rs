//! What arrives on a connection, read byte by byte: which requests were begun, which are whole, and with what body.

/// How requests are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// Reads what a client sends on one connection. A clone reads ahead without a trace.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    protocol: Protocol,
    unread: Vec<u8>,
    /// HTTP/2: the preface has been read.
    greeted: bool,
    /// HTTP/1: a request has begun. HTTP/2: the frame at the front is counted.
    counted: bool,
    body: Vec<u8>,
    /// HTTP/2: the stream of the last whole request.
    pub(crate) stream: u32,
    /// Requests of which something has come: a byte over HTTP/1, the nine bytes in front of the head over HTTP/2.
    pub(crate) begun: usize,
    /// The bodies of the requests that are whole.
    pub(crate) whole: Vec<Vec<u8>>,
}

const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
const FRAME: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;

impl Reader {
    pub(crate) const fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            unread: Vec::new(),
            greeted: false,
            counted: false,
            body: Vec::new(),
            stream: 0,
            begun: 0,
            whole: Vec::new(),
        }
    }

    /// Whether the peer has greeted, and is to be greeted: HTTP/2 only.
    pub(crate) fn greeted(&self) -> bool {
        self.greeted
    }

    pub(crate) fn read(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        match self.protocol {
            Protocol::Http1 => while self.http1() {},
            Protocol::Http2 => while self.http2() {},
        }
    }

    /// Takes one request, if there is a whole one.
    fn http1(&mut self) -> bool {
        if self.unread.is_empty() {
            return false;
        }
        if !std::mem::replace(&mut self.counted, true) {
            self.begun += 1;
        }
        let end = self.unread.windows(4).position(|four| four == b"\r\n\r\n");
        let Some(head) = end.map(|end| end + 4) else {
            return false;
        };
        let text = String::from_utf8_lossy(&self.unread[..head]).to_lowercase();
        assert!(!text.contains("transfer-encoding"), "lengths are known");
        let mut lines = text.lines();
        let length = lines.find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        if self.unread.len() < head + length {
            return false;
        }
        self.whole.push(self.unread[head..head + length].to_vec());
        self.unread.drain(..head + length);
        self.counted = false;
        true
    }

    /// Takes one frame, or the preface.
    fn http2(&mut self) -> bool {
        if !self.greeted {
            self.greeted = self.unread.len() >= PREFACE;
            if self.greeted {
                self.unread.drain(..PREFACE);
            }
            return self.greeted;
        }
        let Some(&[a, b, c, kind, flags, s1, s2, s3, s4]) = self.unread.first_chunk::<FRAME>()
        else {
            return false;
        };
        if kind == HEADERS && !std::mem::replace(&mut self.counted, true) {
            self.begun += 1;
        }
        let end = FRAME + u32::from_be_bytes([0, a, b, c]) as usize;
        if self.unread.len() < end {
            return false;
        }
        if kind == DATA {
            self.body.extend_from_slice(&self.unread[FRAME..end]);
        }
        if (kind == DATA || kind == HEADERS) && flags & END_STREAM != 0 {
            self.whole.push(std::mem::take(&mut self.body));
            self.stream = u32::from_be_bytes([s1, s2, s3, s4]);
        }
        self.unread.drain(..end);
        self.counted = false;
        true
    }
}

/// What an upstream says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Ok,
    /// 200 in chunks, with a trailer; over HTTP/2 in two frames and without one.
    Chunked,
    Unavailable,
    /// HTTP/2: REFUSED_STREAM.
    Refused,
    /// HTTP/2: GOAWAY that leaves the request out.
    LeftOut,
}

/// What a whole answer carries.
pub(crate) const BODY: &str = "hello";

impl Answer {
    /// Whether it proves that nothing was done with the request once all of it is there.
    pub(crate) fn is_proof(self) -> bool {
        matches!(self, Self::Refused | Self::LeftOut)
    }

    /// Its bytes, and where its head ends.
    pub(crate) fn bytes(self, protocol: Protocol, stream: u32) -> (Vec<u8>, usize) {
        let (head, rest) = match protocol {
            Protocol::Http1 => self.http1(),
            Protocol::Http2 => self.http2(stream),
        };
        let end = head.len();
        ([head, rest].concat(), end)
    }

    fn http1(self) -> (Vec<u8>, Vec<u8>) {
        let (head, rest) = match self {
            Self::Ok => ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", BODY),
            Self::Chunked => (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
                "2\r\nhe\r\n3\r\nllo\r\n0\r\nx-end: 1\r\n\r\n",
            ),
            Self::Unavailable => (
                "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 5\r\n\r\n",
                BODY,
            ),
            Self::Refused | Self::LeftOut => panic!("HTTP/1 has no word for it"),
        };
        (head.into(), rest.into())
    }

    fn http2(self, stream: u32) -> (Vec<u8>, Vec<u8>) {
        const END_HEADERS: u8 = 4;
        let head = |fields: &[u8]| frame(HEADERS, END_HEADERS, stream, fields);
        let data = |flags, data: &str| frame(DATA, flags, stream, data.as_bytes());
        match self {
            Self::Ok => (head(&[0x88]), data(END_STREAM, BODY)),
            Self::Chunked => (
                head(&[0x88]),
                [data(0, "he"), data(END_STREAM, "llo")].concat(),
            ),
            // The name of entry 8, with a value of its own.
            Self::Unavailable => (head(&[0x08, 3, b'5', b'0', b'3']), data(END_STREAM, BODY)),
            Self::Refused => (frame(3, 0, stream, &7_u32.to_be_bytes()), Vec::new()),
            Self::LeftOut => {
                // The last stream that was processed is the one before; no error.
                let last = stream.saturating_sub(2);
                let payload = [last.to_be_bytes(), [0; 4]].concat();
                (frame(7, 0, 0, &payload), Vec::new())
            }
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// SETTINGS without any, and the confirmation of the peer's.
pub(crate) const GREETING: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0];
