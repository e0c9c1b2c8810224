//! Accepting connections, whatever happens.

use std::fs::File;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

/// The most connections that are taken from the kernel's queue once accepting has stopped. Usual queues are shorter.
const MAX_BACKLOG: usize = 4096;

/// Grows with each failure in a row.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(5);
    const LONGEST: Duration = Duration::from_secs(1);

    pub(super) const fn new() -> Self {
        Self { next: Self::FIRST }
    }

    pub(super) const fn reset(&mut self) {
        self.next = Self::FIRST;
    }

    /// How long to wait now.
    pub(super) fn wait(&mut self) -> Duration {
        let now = self.next;
        self.next = (now * 2).min(Self::LONGEST);
        now
    }

    /// Whether it has grown as far as it does: for more than a second nothing was accepted.
    pub(super) fn is_at_its_longest(&self) -> bool {
        self.next == Self::LONGEST
    }
}

/// A descriptor that is held for when no other one is left: without one, nobody can be told that there is none.
#[derive(Debug)]
pub(super) struct Spare(Option<File>);

impl Spare {
    pub(super) fn new() -> Self {
        Self(Self::open())
    }

    /// What it is of does not matter. Where there is no such file, none is held.
    fn open() -> Option<File> {
        File::open("/dev/null").ok()
    }

    /// Accepts a connection that waits, and closes it. `false` if none waits, or none could be accepted.
    pub(super) async fn turn_away(&mut self, listener: &TcpListener) -> bool {
        // Another thread may be faster, here and at the end. Then it is tried again the next time.
        let accepted = match self.0.take() {
            Some(spare) => {
                drop(spare);
                poll_fn(|cx| Poll::Ready(listener.poll_accept(cx))).await
            }
            None => Poll::Pending,
        };
        let is_turned_away = matches!(accepted, Poll::Ready(Ok(_)));
        drop(accepted);
        self.0 = Self::open();
        is_turned_away
    }
}

/// Whether the error belongs to one connection that came to nothing; any other is about the process or the machine,
/// such as having no descriptors left, and comes again at once if it is not waited out.
pub(super) fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

/// Waits for `work`, or for `stop`, which goes first. `None` if it stopped.
pub(super) async fn unless<T>(
    mut stop: Pin<&mut impl Future<Output = ()>>,
    work: impl Future<Output = T>,
) -> Option<T> {
    let mut work = std::pin::pin!(work);
    poll_fn(|cx| match stop.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(None),
        Poll::Pending => work.as_mut().poll(cx).map(Some),
    })
    .await
}

/// Takes what the kernel has accepted already, without waiting, and closes the listener.
///
/// It asks the kernel itself: the runtime may not have heard of the newest connections yet.
pub(super) fn backlog(listener: TcpListener) -> impl Iterator<Item = (TcpStream, SocketAddr)> {
    let listener = listener.into_std().ok();
    (0..MAX_BACKLOG)
        .map_while(move |_| match listener.as_ref()?.accept() {
            Ok((stream, peer)) => Some(adopt(stream).map(|stream| (stream, peer))),
            Err(error) if is_about_one_connection(&error) => Some(None),
            // Nothing left, or nothing to be had.
            Err(_) => None,
        })
        .flatten()
}

fn adopt(stream: std::net::TcpStream) -> Option<TcpStream> {
    stream.set_nonblocking(true).ok()?;
    TcpStream::from_std(stream).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backing_off_grows_to_a_limit_and_starts_afresh() {
        let mut backoff = Backoff::new();
        let waits: Vec<_> = (0..10).map(|_| backoff.wait().as_millis()).collect();
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        backoff.reset();
        assert_eq!(backoff.wait(), Backoff::FIRST);
    }

    #[test]
    fn running_out_of_descriptors_is_not_about_one_connection() {
        let no_descriptors = 24;
        assert!(!is_about_one_connection(&io::Error::from_raw_os_error(
            no_descriptors
        )));
        assert!(is_about_one_connection(
            &io::ErrorKind::ConnectionAborted.into()
        ));
    }

    #[tokio::test]
    async fn the_backlog_is_taken_without_waiting() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        // Blocking connects: the runtime has no chance to hear of them.
        let clients: Vec<_> = (0..3)
            .map(|_| std::net::TcpStream::connect(addr).unwrap())
            .collect();
        let peers: Vec<_> = backlog(listener).map(|(_, peer)| peer).collect();
        assert!(
            peers
                .into_iter()
                .eq(clients.iter().map(|client| client.local_addr().unwrap()))
        );
        assert!(
            std::net::TcpStream::connect(addr).is_err(),
            "the listener is closed"
        );
    }
}
