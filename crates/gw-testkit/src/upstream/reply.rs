//! Replies, right and wrong ones.

use std::time::Duration;

use bytes::Bytes;

use crate::gate::Gate;

/// What the upstream does with one request.
///
/// A reply is a normal answer until it is told otherwise: it reads the request's body, answers with a
/// `content-length` and keeps the connection open if the client allows it. Nothing is checked, so names, values
/// and lengths may be as wrong as a test needs them.
///
/// # Examples
///
/// ```
/// use gw_testkit::Gate;
/// use gw_testkit::upstream::{At, Reply};
///
/// let gate = Gate::new();
/// let slow = Reply::ok().body("hello").hold(At::Start, &gate);
/// let broken = Reply::status(503).chunks(["a", "b"]).reset(At::Body(4));
/// ```
#[derive(Clone, Debug)]
#[must_use = "a reply does nothing until a script returns it"]
pub struct Reply {
    pub(super) interims: Vec<Interim>,
    pub(super) content: Content,
    pub(super) events: Vec<(At, Event)>,
    pub(super) drip: Option<Drip>,
    pub(super) read_body: ReadBody,
    pub(super) after: After,
}

/// A place in the bytes of the final answer. Interim answers come before all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Before the first byte.
    Start,
    /// After so many bytes of the head; for a [raw](Reply::raw) reply there is no head.
    Head(usize),
    /// After so many bytes behind the head, as sent, chunk sizes included. `Body(0)` is after the whole head.
    Body(usize),
    /// Before the chunk of size 0 that ends a chunked body.
    LastChunk,
    /// After the last byte.
    End,
}

/// How the length of the answer's body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// By a right `content-length`.
    ContentLength,
    /// By `transfer-encoding: chunked`, one chunk for each piece of the body.
    Chunked,
    /// By the end of the connection.
    UntilClose,
    /// By a `content-length` of this value, right or not. The body is sent as it is.
    Length(u64),
    /// By two `content-length` fields of these values.
    TwoLengths(u64, u64),
    /// By a right `content-length` and `transfer-encoding: chunked` as well; the body is sent in chunks.
    LengthAndChunked,
}

/// When the request's body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadBody {
    /// After interim answers, before the answer.
    First,
    /// After the answer.
    After,
    /// Never; the connection is closed after the answer. If the client has sent part of the body, its system
    /// may see a reset, and so lose the answer, as it happens with real servers.
    Never,
}

#[derive(Clone, Debug)]
pub(super) struct Interim {
    pub(super) count: usize,
    pub(super) status: u16,
    pub(super) fields: Vec<Field>,
}

pub(super) type Field = (Bytes, Bytes);

#[derive(Clone, Debug)]
pub(super) enum Content {
    Message(Message),
    Raw(Bytes),
}

#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) status: u16,
    pub(super) reason: Option<String>,
    pub(super) fields: Vec<Field>,
    pub(super) framing: Option<Framing>,
    pub(super) pieces: Vec<Bytes>,
    pub(super) trailers: Vec<Field>,
}

#[derive(Clone, Debug)]
pub(super) enum Event {
    Hold(Gate),
    Cut,
    Reset,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Drip {
    pub(super) bytes: usize,
    pub(super) every: Duration,
}

/// What happens to the connection after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// Kept if request and framing allow it, else closed and announced.
    Auto,
    CloseAnnounced,
    CloseUnannounced,
    KeepOpen,
    Echo,
}

impl Reply {
    /// A 200 with an empty body.
    pub fn ok() -> Self {
        Self::status(200)
    }

    /// An answer with that status, its usual reason and an empty body.
    pub fn status(status: u16) -> Self {
        Self::new(Content::Message(Message {
            status,
            reason: None,
            fields: Vec::new(),
            framing: None,
            pieces: Vec::new(),
            trailers: Vec::new(),
        }))
    }

    /// These bytes instead of an answer; then the connection is closed, unless [kept open](Self::keep_open).
    pub fn raw(bytes: impl Into<Bytes>) -> Self {
        Self::new(Content::Raw(bytes.into())).close_unannounced()
    }

    /// A 101 to `protocol`; then every byte is sent back, until the client closes.
    pub fn upgrade(protocol: &str) -> Self {
        let mut reply = Self::status(101)
            .header("connection", "upgrade")
            .header("upgrade", protocol);
        reply.after = After::Echo;
        reply
    }

    fn new(content: Content) -> Self {
        Self {
            interims: Vec::new(),
            content,
            events: Vec::new(),
            drip: None,
            read_body: ReadBody::First,
            after: After::Auto,
        }
    }

    /// Replaces the reason behind the status.
    #[track_caller]
    pub fn reason(mut self, reason: &str) -> Self {
        self.message().reason = Some(reason.to_owned());
        self
    }

    /// Adds a field, unchecked.
    #[track_caller]
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.message().fields.push(field(name, value));
        self
    }

    /// Adds one field with a value of `kib` KiB.
    #[track_caller]
    pub fn large_head(self, kib: usize) -> Self {
        self.header("x-large", vec![b'a'; kib * 1024])
    }

    /// Adds `count` small fields, `x-many-0` and so on.
    #[track_caller]
    pub fn many_headers(mut self, count: usize) -> Self {
        let many = (0..count).map(|n| field(format!("x-many-{n}"), "v"));
        self.message().fields.extend(many);
        self
    }

    /// Sets the body.
    #[track_caller]
    pub fn body(self, body: impl Into<Bytes>) -> Self {
        self.pieces([body])
    }

    /// Sets the body as pieces, which are sent one after the other. Cheap clones make a large body:
    /// `std::iter::repeat_n(piece, 3200)`.
    #[track_caller]
    pub fn pieces<B: Into<Bytes>>(mut self, pieces: impl IntoIterator<Item = B>) -> Self {
        let pieces = pieces.into_iter().map(Into::into);
        // An empty chunk would end the body.
        self.message().pieces = pieces.filter(|piece| !piece.is_empty()).collect();
        self
    }

    /// Sets the body as chunks, and chunked framing.
    #[track_caller]
    pub fn chunks<B: Into<Bytes>>(self, chunks: impl IntoIterator<Item = B>) -> Self {
        self.pieces(chunks).framing(Framing::Chunked)
    }

    /// Adds a field after the body, and sets chunked framing.
    #[track_caller]
    pub fn trailer(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.message().trailers.push(field(name, value));
        self.framing(Framing::Chunked)
    }

    /// Sets how the body's length is told. Without it: [`Framing::ContentLength`], and nothing for an empty
    /// body with status 204, 304 or 1xx. An answer to HEAD has the fields and no body.
    #[track_caller]
    pub fn framing(mut self, framing: Framing) -> Self {
        self.message().framing = Some(framing);
        self
    }

    /// Sends `count` interim answers before the answer, and before the request's body is read:
    /// `.interims(1, 100, [])`, `.interims(3, 103, [("link", "</style.css>")])`.
    pub fn interims<const N: usize>(
        mut self,
        count: usize,
        status: u16,
        fields: [(&str, &str); N],
    ) -> Self {
        let fields = fields
            .into_iter()
            .map(|(name, value)| field(name, value))
            .collect();
        self.interims.push(Interim {
            count,
            status,
            fields,
        });
        self
    }

    /// Holds the answer there until the gate lets it pass. If the client leaves first, the exchange ends.
    ///
    /// A client that closes only its sending side counts as gone.
    pub fn hold(mut self, at: At, gate: &Gate) -> Self {
        self.events.push((at, Event::Hold(gate.clone())));
        self
    }

    /// Holds the answer there for ever, that is until the client leaves or the upstream stops.
    pub fn stall(self, at: At) -> Self {
        self.hold(at, &Gate::new())
    }

    /// Closes the connection there, in order.
    pub fn cut(mut self, at: At) -> Self {
        self.events.push((at, Event::Cut));
        self
    }

    /// Resets the connection there.
    ///
    /// The system drops what it has not delivered yet. On loopback that is nothing as long as the client's
    /// receive buffer had room; hold before the reset if a test needs the client to have read everything.
    pub fn reset(mut self, at: At) -> Self {
        self.events.push((at, Event::Reset));
        self
    }

    /// Sends what is behind the head in steps of so many bytes with a pause between them.
    ///
    /// # Panics
    ///
    /// If `bytes` is 0.
    #[track_caller]
    pub fn drip(mut self, bytes: usize, every: Duration) -> Self {
        assert!(bytes > 0, "a drip has at least one byte");
        self.drip = Some(Drip { bytes, every });
        self
    }

    /// Sets when the request's body is read. Without it: [`ReadBody::First`].
    pub fn read_body(mut self, when: ReadBody) -> Self {
        self.read_body = when;
        self
    }

    /// Announces the end of the connection by `connection: close`, and closes it.
    pub fn close(mut self) -> Self {
        self.after = After::CloseAnnounced;
        self
    }

    /// Closes the connection after the answer without a word.
    pub fn close_unannounced(mut self) -> Self {
        self.after = After::CloseUnannounced;
        self
    }

    /// Keeps the connection open whatever client and framing say.
    pub fn keep_open(mut self) -> Self {
        self.after = After::KeepOpen;
        self
    }

    #[track_caller]
    fn message(&mut self) -> &mut Message {
        match &mut self.content {
            Content::Message(message) => message,
            Content::Raw(_) => panic!("a raw reply has no fields, body or framing of its own"),
        }
    }
}

fn field(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Field {
    let own = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    (own(name.as_ref()), own(value.as_ref()))
}
