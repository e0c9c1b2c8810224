use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use gw_core::attempt::Failure;
use gw_core::{BoxError, Code, Rejection, RetryAfter};
use socket2::{Domain, Socket, Type};

use crate::codes;
use crate::inbound::Fault;
use crate::words::words;

/// Why an exchange with an upstream failed.
///
/// It is the cause of the [`Rejection`] that [`Upstream::send`](super::Upstream::send) fails with, and the error of an
/// answer's body that breaks off. It is for logs: nothing of it reaches a client but the code that it stands for.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    source: Option<BoxError>,
}

words! {
    /// The ways in which an exchange with an upstream fails.
    ErrorKind {
        /// Nothing was sent: all slots are taken, and so is the queue for them.
        QueueFull = "queue_full",
        /// Nothing was sent: no slot or no connection came free in time.
        QueueTimeout = "queue_timeout",
        /// Nothing was sent: the deadline of the exchange passed while it waited for a slot.
        QueueDeadline = "queue_deadline",
        /// Nothing was sent: the request asks for a tunnel, and there are as many as there may be.
        TunnelsFull = "tunnels_full",
        /// Nothing was sent: no connection could be made, or it closed before it took the request.
        Connect = "connect",
        /// Nothing was sent: the connection took too long to be made.
        ConnectTimeout = "connect_timeout",
        /// Nothing was sent: the process or the system has no file descriptor left for a connection, or for
        /// finding its address.
        NoDescriptors = "no_descriptors",
        /// The attempt's time was over before the head of the answer was there.
        AttemptTimeout = "attempt_timeout",
        /// The time of the whole exchange was over.
        DeadlinePassed = "deadline_passed",
        /// The time that the client itself gave the exchange was over.
        ClientDeadline = "client_deadline",
        /// The time of the attempt or of the exchange was over before the head of the answer was there, in a gRPC call whose
        /// request had not ended: it may have been the client's turn, or the upstream's.
        CallTimeout = "call_timeout",
        /// A timer of the attempt, the exchange or the answer's body was over, or the upstream broke off without an answer, and it
        /// was the client that was waited for: the rest of its request had not come.
        UploadTimeout = "upload_timeout",
        /// The time of the whole exchange was over within the answer, and the client had taken more of it than the upstream:
        /// it sent or read slowly.
        DownloadTimeout = "download_timeout",
        /// The head of the answer did not come in time after the request was sent.
        FirstByteTimeout = "first_byte_timeout",
        /// The upstream stopped reading the request's body.
        SendTimeout = "send_timeout",
        /// A gap in the answer's body was too long.
        IdleTimeout = "idle_timeout",
        /// The request cannot be sent on as it is: its body failed on the client's side, or its host is not valid.
        Request = "request",
        /// The request's body failed within the gateway: a stage gave up on it, by no fault of the client's.
        RequestBody = "request_body",
        /// The upstream says that it has done nothing with the request (HTTP/2: `REFUSED_STREAM`, or a `GOAWAY` that leaves
        /// the request out). Sending it again is safe, whatever its method.
        Unprocessed = "unprocessed",
        /// The connection broke, or what came is not a valid answer.
        Answer = "invalid_answer",
        /// The upstream switched to a protocol that nobody asked for.
        UnrequestedUpgrade = "unrequested_upgrade",
        /// The gateway is set up wrongly.
        Setup = "setup",
    }
}

impl Error {
    pub(super) const fn new(kind: ErrorKind) -> Self {
        Self { kind, source: None }
    }

    pub(super) fn because(kind: ErrorKind, source: impl Into<BoxError>) -> Self {
        Self {
            kind,
            source: Some(source.into()),
        }
    }

    /// Why there is no connection.
    ///
    /// Running out of descriptors is the gateway's own fault, and comes over all upstreams at once: counted as theirs, it would
    /// open all breakers.
    ///
    /// Resolving a name takes descriptors as well, and the C library may answer that there is no such name when there is none for
    /// its files or its sockets. So where the error has no number of the system's, the system is asked for a descriptor: without
    /// one there would have been no connection, whatever the name. If there is one again by then, the upstream gets the blame.
    pub(super) fn of_connecting(error: impl Into<BoxError>) -> Self {
        let error = error.into();
        let number = system_error(error.as_ref())
            .or_else(|| system_error(&Socket::new(Domain::IPV4, Type::DGRAM, None).err()?));
        let kind = match number {
            Some(number) if is_for_want_of_descriptors(number) => ErrorKind::NoDescriptors,
            _ => ErrorKind::Connect,
        };
        Self::because(kind, error)
    }

    /// What hyper says of a request that has gone out, or begun to.
    pub(super) fn of_hyper(error: hyper::Error) -> Self {
        let cause = StdError::source(&error).and_then(|cause| cause.downcast_ref::<h2::Error>());
        let kind = match cause {
            Some(cause) if is_unprocessed(cause) => ErrorKind::Unprocessed,
            _ => ErrorKind::Answer,
        };
        Self::because(kind, error)
    }

    /// What hyper says of an answer's body.
    ///
    /// In words alone: the body's error goes to the client's side, and hyper resets the client's stream for the reason of an
    /// HTTP/2 error that it finds among the causes. The upstream's is not meant for the client.
    pub(super) fn of_body(error: &hyper::Error) -> Self {
        let causes = std::iter::successors(Some(error as &dyn StdError), |&error| error.source());
        let words: Vec<_> = causes.map(ToString::to_string).collect();
        Self::because(ErrorKind::Answer, words.join(": "))
    }

    /// Whether the upstream has closed the connection, or has cancelled the stream over HTTP/2.
    ///
    /// Not where it has sent what is no HTTP/2, has failed, or was found dead by a ping.
    pub(super) fn is_of_a_closed_stream(&self) -> bool {
        let causes = std::iter::successors(StdError::source(self), |&error| error.source());
        let mut closed = self.kind == ErrorKind::Answer;
        for cause in causes {
            if let Some(cause) = cause.downcast_ref::<h2::Error>() {
                let reason = cause.reason();
                closed &= matches!(
                    reason,
                    None | Some(h2::Reason::NO_ERROR | h2::Reason::CANCEL)
                );
            } else if let Some(cause) = cause.downcast_ref::<hyper::Error>() {
                closed &= !cause.is_timeout();
            }
        }
        closed
    }

    /// For an answer's body that ends by no doing of the upstream's: whoever judges the body finds the refusal among its
    /// sources, and learns so. Returns what the client would have been told, too.
    pub(super) fn within_the_answer(self, fault: Option<Fault>) -> (Self, &'static Code) {
        let kind = self.kind;
        let refused = self.refuse(fault);
        let code = refused.code();
        (Self::because(kind, refused), code)
    }

    /// What happened.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What the client is told. A fault of the client's own, if one was noted, is why everything else failed.
    pub(super) fn refuse(self, fault: Option<Fault>) -> Rejection {
        let rejection = match fault {
            // A fault of the client's is not the upstream's, whatever it did to the exchange.
            Some(fault) => fault.refusal().failed(Failure::Local),
            None => self.kind.refusal(),
        };
        rejection.caused_by(self)
    }
}

/// The number that the system gave, if it had a part in the error.
fn system_error(error: &(dyn StdError + 'static)) -> Option<i32> {
    let mut causes = std::iter::successors(Some(error), |&error| error.source());
    causes.find_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error())
}

/// Whether the process (`EMFILE`) or the system (`ENFILE`) has as many descriptors as it may. Neither has a kind of its own in
/// the standard library; the numbers are the same on all Unixes.
fn is_for_want_of_descriptors(number: i32) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    cfg!(unix) && matches!(number, ENFILE | EMFILE)
}

/// The peer refused the stream, or left it out when it went away (RFC 9113 section 8.7).
///
/// Streams that it did not leave out fail otherwise, with the connection.
fn is_unprocessed(error: &h2::Error) -> bool {
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    error.is_remote() && (refused || error.is_go_away())
}

impl ErrorKind {
    /// Whether a timer has ended the wait for the head of an answer that the upstream owed.
    ///
    /// Those that end by the client's doing say nothing: one client could cost a new connection with each request.
    pub(super) const fn is_of_a_silent_upstream(self) -> bool {
        matches!(
            self,
            Self::AttemptTimeout
                | Self::DeadlinePassed
                | Self::FirstByteTimeout
                | Self::SendTimeout
        )
    }

    /// Whether the upstream is to blame, and whether the request may have reached it.
    pub const fn failure(self) -> Failure {
        match self {
            Self::QueueFull
            | Self::QueueTimeout
            | Self::QueueDeadline
            | Self::TunnelsFull
            | Self::NoDescriptors => Failure::Refused,
            Self::UploadTimeout
            | Self::DownloadTimeout
            | Self::ClientDeadline
            | Self::CallTimeout
            | Self::Request
            | Self::RequestBody
            | Self::Setup => Failure::Local,
            Self::Connect | Self::ConnectTimeout => Failure::NotSent,
            Self::Unprocessed => Failure::Unprocessed,
            Self::AttemptTimeout
            | Self::DeadlinePassed
            | Self::FirstByteTimeout
            | Self::SendTimeout
            | Self::IdleTimeout
            | Self::Answer
            | Self::UnrequestedUpgrade => Failure::Unknown,
        }
    }

    fn refusal(self) -> Rejection {
        let rejection = Rejection::new(self.code()).failed(self.failure());
        match self.code().status().as_u16() {
            // All that is refused for want of time or room may be tried again soon.
            503 | 504 => rejection.retry_after(soon()),
            _ => rejection,
        }
    }

    pub(super) const fn code(self) -> &'static Code {
        match self {
            Self::QueueFull | Self::QueueTimeout | Self::TunnelsFull | Self::NoDescriptors => {
                &codes::OVERLOADED
            }
            Self::Connect | Self::Unprocessed | Self::Answer | Self::UnrequestedUpgrade => {
                &codes::BAD_GATEWAY
            }
            Self::QueueDeadline
            | Self::ConnectTimeout
            | Self::AttemptTimeout
            | Self::DeadlinePassed
            | Self::ClientDeadline
            | Self::CallTimeout
            | Self::FirstByteTimeout
            | Self::SendTimeout
            | Self::IdleTimeout => &codes::GATEWAY_TIMEOUT,
            Self::UploadTimeout | Self::DownloadTimeout => &codes::CLIENT_TIMEOUT,
            Self::Request => &codes::MALFORMED_REQUEST,
            Self::RequestBody | Self::Setup => &codes::INTERNAL,
        }
    }
}

/// One second, jittered.
fn soon() -> RetryAfter {
    RetryAfter::jittered(Duration::from_secs(1))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            ErrorKind::QueueFull => "the queue for the upstream is full",
            ErrorKind::QueueTimeout => "no connection came free in time",
            ErrorKind::QueueDeadline => "the deadline of the exchange passed in the queue",
            ErrorKind::TunnelsFull => "the upstream has as many tunnels as it may",
            ErrorKind::Connect => "no connection to the upstream",
            ErrorKind::ConnectTimeout => "connecting to the upstream took too long",
            ErrorKind::NoDescriptors => "no file descriptor is left for a connection",
            ErrorKind::AttemptTimeout => "the attempt took too long",
            ErrorKind::DeadlinePassed => "the deadline of the exchange passed",
            ErrorKind::ClientDeadline => "the time that the client gave was over",
            ErrorKind::CallTimeout => "the time of the call was over while it was open",
            ErrorKind::UploadTimeout => "the rest of the request did not come in time",
            ErrorKind::DownloadTimeout => "the client did not read the answer in time",
            ErrorKind::FirstByteTimeout => "the upstream did not begin to answer in time",
            ErrorKind::SendTimeout => "the upstream stopped reading the request",
            ErrorKind::IdleTimeout => "the upstream paused too long within its answer",
            ErrorKind::Request => "the request cannot be sent on",
            ErrorKind::RequestBody => "the request's body failed within the gateway",
            ErrorKind::Unprocessed => "the upstream did not take the request",
            ErrorKind::Answer => "the upstream gave no valid answer",
            ErrorKind::UnrequestedUpgrade => "the upstream switched protocols unasked",
            ErrorKind::Setup => "the gateway is set up wrongly",
        })
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_learns_the_code_and_when_to_come_back() {
        for (kind, code, wait) in [
            (ErrorKind::QueueFull, "OVERLOADED", true),
            (ErrorKind::NoDescriptors, "OVERLOADED", true),
            (ErrorKind::Connect, "BAD_GATEWAY", false),
            (ErrorKind::ConnectTimeout, "GATEWAY_TIMEOUT", true),
            (ErrorKind::QueueDeadline, "GATEWAY_TIMEOUT", true),
            (ErrorKind::Setup, "INTERNAL", false),
            (ErrorKind::RequestBody, "INTERNAL", false),
            (ErrorKind::Request, "MALFORMED_REQUEST", false),
        ] {
            let refused = Error::because(kind, "10.0.0.7 is down").refuse(None);
            assert_eq!(refused.code().name(), code);
            assert_eq!(refused.retry_after_hint().is_some(), wait, "{kind:?}");
            let cause = StdError::source(&refused).unwrap().downcast_ref::<Error>();
            assert_eq!(cause.unwrap().kind(), kind);
        }
    }

    #[test]
    fn a_fault_of_the_client_comes_first() {
        let refused =
            Error::new(ErrorKind::Answer).refuse(Some(Fault::TooLarge { limit_bytes: 8 }));
        let expected = Rejection::new(&codes::BODY_TOO_LARGE).detail("limit_bytes", 8_u64);
        assert_eq!(refused, expected);
        assert_eq!(refused.failure(), Failure::Local);
    }

    #[test]
    fn a_connection_that_fails_for_want_of_descriptors_is_not_the_upstreams_fault() {
        for (number, kind, failure) in [
            (23, ErrorKind::NoDescriptors, Failure::Refused),
            (24, ErrorKind::NoDescriptors, Failure::Refused),
            (111, ErrorKind::Connect, Failure::NotSent),
        ] {
            // As a connector would say it: with an error of its own around the system's.
            let cause = Error::because(ErrorKind::Setup, io::Error::from_raw_os_error(number));
            let error = Error::of_connecting(cause);
            assert_eq!(error.kind(), kind, "{number}");
            assert_eq!(error.refuse(None).failure(), failure, "{number}");
        }
        let unknown = Error::of_connecting("no system had a part in it");
        assert_eq!(unknown.kind(), ErrorKind::Connect);
    }

    #[test]
    fn what_was_not_sent_may_be_sent_again() {
        for (kind, failure) in [
            (ErrorKind::QueueFull, Failure::Refused),
            (ErrorKind::Connect, Failure::NotSent),
            (ErrorKind::Unprocessed, Failure::Unprocessed),
            (ErrorKind::AttemptTimeout, Failure::Unknown),
        ] {
            assert_eq!(Error::new(kind).refuse(None).failure(), failure, "{kind:?}");
        }
    }
}
