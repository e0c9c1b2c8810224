//! From a reply to the steps that a connection takes.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;

use super::received::Received;
use super::reply::{After, At, Content, Event, Field, Framing, Message, Reply};
use crate::gate::Gate;

/// Smaller pieces are glued together, as servers do, so that a small answer is one segment.
const WRITE_SIZE: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) interims: Bytes,
    pub(super) steps: Vec<Step>,
    pub(super) then: Then,
}

#[derive(Debug)]
pub(super) enum Step {
    Write(Bytes),
    Hold(Gate),
    Pause(Duration),
    Cut,
    Reset,
}

/// What follows the last step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    NextRequest,
    Close,
    Echo,
}

/// The bytes of the answer, and where its parts are.
struct Layout {
    pieces: VecDeque<Bytes>,
    head: usize,
    total: usize,
    last_chunk: Option<usize>,
}

/// Turns a layout into writes with other steps between them.
struct Writer {
    pieces: VecDeque<Bytes>,
    written: usize,
    pending: BytesMut,
    steps: Vec<Step>,
}

impl Plan {
    /// # Panics
    ///
    /// If an event of the reply lies outside its answer.
    pub(super) fn new(reply: Reply, request: &Received) -> Self {
        let interims = interims(&reply);
        let then = then(&reply, request);
        let layout = match reply.content {
            Content::Raw(bytes) => Layout::raw(bytes),
            Content::Message(message) => {
                let announced = then == Then::Close && reply.after != After::CloseUnannounced;
                Layout::message(message, announced, request.method == "HEAD")
            }
        };
        let mut events: Vec<(usize, Step)> = Vec::new();
        if let Some(drip) = reply.drip {
            let pauses = (layout.head + drip.bytes..layout.total).step_by(drip.bytes);
            events.extend(pauses.map(|offset| (offset, Step::Pause(drip.every))));
        }
        for (at, event) in reply.events {
            events.push((layout.offset(at), event.into()));
        }
        events.sort_by_key(|(offset, _)| *offset);

        let mut writer = Writer::new(layout.pieces);
        for (offset, step) in events {
            writer.write_up_to(offset);
            writer.push(step);
        }
        writer.write_up_to(layout.total);
        Self {
            interims,
            steps: writer.finish(),
            then,
        }
    }
}

impl From<Event> for Step {
    fn from(event: Event) -> Self {
        match event {
            Event::Hold(gate) => Self::Hold(gate),
            Event::Cut => Self::Cut,
            Event::Reset => Self::Reset,
        }
    }
}

impl Layout {
    fn raw(bytes: Bytes) -> Self {
        Self::new(0, vec![bytes], None)
    }

    fn message(message: Message, announce_close: bool, only_head: bool) -> Self {
        let framing = message.effective_framing();
        let mut head = BytesMut::new();
        head.extend_from_slice(b"HTTP/1.1 ");
        put_status(&mut head, message.status, message.reason.as_deref());
        put_fields(&mut head, &message.fields);
        message.put_framing(&mut head, framing);
        if announce_close {
            head.extend_from_slice(b"connection: close\r\n");
        }
        head.extend_from_slice(b"\r\n");

        let mut pieces = vec![head.freeze()];
        let head = pieces[0].len();
        let mut last_chunk = None;
        if !only_head {
            let chunked = matches!(framing, Some(Framing::Chunked | Framing::LengthAndChunked));
            for piece in message.pieces {
                if chunked {
                    let size = format!("{:x}\r\n", piece.len());
                    pieces.extend([Bytes::from(size), piece, Bytes::from_static(b"\r\n")]);
                } else {
                    pieces.push(piece);
                }
            }
            if chunked {
                last_chunk = Some(pieces.iter().map(Bytes::len).sum());
                let mut end = BytesMut::from("0\r\n");
                put_fields(&mut end, &message.trailers);
                end.extend_from_slice(b"\r\n");
                pieces.push(end.freeze());
            }
        }
        Self::new(head, pieces, last_chunk)
    }

    fn new(head: usize, pieces: Vec<Bytes>, last_chunk: Option<usize>) -> Self {
        let total = pieces.iter().map(Bytes::len).sum();
        Self {
            pieces: pieces.into(),
            head,
            total,
            last_chunk,
        }
    }

    fn offset(&self, at: At) -> usize {
        let (head, behind) = (self.head, self.total - self.head);
        match at {
            At::Start => 0,
            At::Head(n) if n <= head => n,
            At::Head(n) => panic!("a reply acts at byte {n} of its head, which has only {head}"),
            At::Body(n) if n <= behind => head + n,
            At::Body(n) => {
                panic!("a reply acts at byte {n} behind its head, where only {behind} are")
            }
            At::LastChunk => self
                .last_chunk
                .expect("a reply acts at the last chunk, but has no chunks"),
            At::End => self.total,
        }
    }
}

impl Message {
    fn effective_framing(&self) -> Option<Framing> {
        let bodiless =
            self.pieces.is_empty() && (self.status < 200 || matches!(self.status, 204 | 304));
        match self.framing {
            None if bodiless => None,
            None => Some(Framing::ContentLength),
            chosen => chosen,
        }
    }

    fn put_framing(&self, head: &mut BytesMut, framing: Option<Framing>) {
        let length = self.pieces.iter().map(|piece| piece.len() as u64).sum();
        let mut put_length = |length: u64| {
            head.extend_from_slice(format!("content-length: {length}\r\n").as_bytes());
        };
        match framing {
            None | Some(Framing::UntilClose | Framing::Chunked) => {}
            Some(Framing::ContentLength | Framing::LengthAndChunked) => put_length(length),
            Some(Framing::Length(length)) => put_length(length),
            Some(Framing::TwoLengths(first, second)) => {
                put_length(first);
                put_length(second);
            }
        }
        if matches!(framing, Some(Framing::Chunked | Framing::LengthAndChunked)) {
            head.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
    }
}

impl Writer {
    fn new(pieces: VecDeque<Bytes>) -> Self {
        Self {
            pieces,
            written: 0,
            pending: BytesMut::new(),
            steps: Vec::new(),
        }
    }

    fn write_up_to(&mut self, offset: usize) {
        while self.written < offset {
            let mut piece = self
                .pieces
                .pop_front()
                .expect("offsets lie inside the answer");
            let taken = piece.split_to(piece.len().min(offset - self.written));
            if !piece.is_empty() {
                self.pieces.push_front(piece);
            }
            self.written += taken.len();
            if self.pending.len() + taken.len() > WRITE_SIZE {
                self.flush();
            }
            if taken.len() > WRITE_SIZE {
                self.steps.push(Step::Write(taken));
            } else {
                self.pending.extend_from_slice(&taken);
            }
        }
    }

    fn push(&mut self, step: Step) {
        self.flush();
        self.steps.push(step);
    }

    fn flush(&mut self) {
        if !self.pending.is_empty() {
            let bytes = self.pending.split().freeze();
            self.steps.push(Step::Write(bytes));
        }
    }

    fn finish(mut self) -> Vec<Step> {
        self.flush();
        self.steps
    }
}

fn then(reply: &Reply, request: &Received) -> Then {
    let until_close = matches!(
        &reply.content,
        Content::Message(Message {
            framing: Some(Framing::UntilClose),
            ..
        })
    );
    match reply.after {
        After::Echo => Then::Echo,
        After::KeepOpen => Then::NextRequest,
        After::CloseAnnounced | After::CloseUnannounced => Then::Close,
        After::Auto if until_close || !request.keeps_alive() => Then::Close,
        After::Auto => Then::NextRequest,
    }
}

fn interims(reply: &Reply) -> Bytes {
    let mut all = BytesMut::new();
    for interim in &reply.interims {
        let mut one = BytesMut::from("HTTP/1.1 ");
        put_status(&mut one, interim.status, None);
        put_fields(&mut one, &interim.fields);
        one.extend_from_slice(b"\r\n");
        for _ in 0..interim.count {
            all.extend_from_slice(&one);
        }
    }
    all.freeze()
}

fn put_status(out: &mut BytesMut, status: u16, reason: Option<&str>) {
    let usual = || {
        StatusCode::from_u16(status)
            .ok()
            .and_then(|status| status.canonical_reason())
    };
    let reason = reason.or_else(usual).unwrap_or("Unnamed");
    out.extend_from_slice(format!("{status} {reason}\r\n").as_bytes());
}

fn put_fields(out: &mut BytesMut, fields: &[Field]) {
    for (name, value) in fields {
        for part in [&name[..], b": ", &value[..], b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
}
