//! The tunnel behind a 101: bytes both ways, within bounds.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use http::Extensions;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};
use tokio::time::Instant;
use tokio_util::io::{InspectReader, InspectWriter};

use super::lease::Lease;
use super::limits::later;
use super::pool::Pool;
use crate::alarm::Alarm;

/// How much a tunnel buffers in each direction, in bytes.
const BUFFER: usize = 8 * 1024;

/// One of the places that an upstream has for tunnels. Dropping it gives the place back.
#[derive(Debug)]
pub(super) struct TunnelPlace {
    pool: Arc<Pool>,
}

impl TunnelPlace {
    pub(super) fn take(pool: &Arc<Pool>) -> Option<Self> {
        let most = pool.settings.most_tunnels();
        // Relaxed: the count guards no other data.
        let join = |tunnels| (tunnels < most).then_some(tunnels + 1);
        let joined = pool
            .tunnels
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, join);
        joined.ok().map(|_| Self {
            pool: Arc::clone(pool),
        })
    }
}

impl Drop for TunnelPlace {
    fn drop(&mut self) {
        self.pool.tunnels.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Two connections that become one, and all that is held meanwhile.
#[derive(Debug)]
pub(super) struct Tunnel {
    pub(super) client: OnUpgrade,
    pub(super) upstream: OnUpgrade,
    pub(super) lease: Lease,
    pub(super) place: TunnelPlace,
    pub(super) extensions: Extensions,
}

impl Tunnel {
    /// Copies bytes both ways until both sides have closed, one has failed, nothing has moved for too long, or the
    /// tunnel's life is over.
    pub(super) async fn run(self) {
        let Self {
            client,
            upstream,
            lease,
            place,
            extensions,
        } = self;
        let moved = AtomicBool::new(false);
        // The server switches when the 101 is out, which a client can delay: the timers hold for that, too.
        let copying = async {
            let (Ok(client), Ok(upstream)) = (client.await, upstream.await) else {
                return;
            };
            let mut client = watched(TokioIo::new(client), &moved);
            let mut upstream = watched(TokioIo::new(upstream), &moved);
            // How a tunnel ends is between its ends. The upstream is read before it is written to: a write to one that has gone fails
            // only once its end was read.
            _ = copy_bidirectional_with_sizes(&mut upstream, &mut client, BUFFER, BUFFER).await;
        };
        let settings = &place.pool.settings;
        let (idle, life) = (settings.tunnel_idle_timeout, settings.tunnel_lifetime);
        bounded(copying, &moved, idle, life).await;
        drop((lease, place, extensions));
    }
}

/// Lets `copying` run until it has ended, until `moved` has not been set for `idle`, or until `life` is over.
async fn bounded(
    copying: impl Future<Output = ()>,
    moved: &AtomicBool,
    idle: Duration,
    life: Duration,
) {
    let mut copying = pin!(copying);
    let mut last = Instant::now();
    let end = later(last, life);
    let mut alarm = Alarm::at(later(last, idle).min(end));
    poll_fn(|cx| {
        if copying.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if moved.swap(false, Ordering::Relaxed) {
            last = Instant::now();
        }
        while alarm.is_due(cx) {
            let due = later(last, idle).min(end);
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            alarm.reset(due);
        }
        Poll::Pending
    })
    .await;
}

/// A side of a tunnel that notes when bytes move.
fn watched<'a, T>(io: T, moved: &'a AtomicBool) -> impl AsyncRead + AsyncWrite + Unpin + use<'a, T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let note = move |bytes: &[u8]| {
        // The end of the bytes is an empty read.
        if !bytes.is_empty() {
            // Relaxed all through: one task sets and reads it. It is atomic since that task moves between threads.
            moved.store(true, Ordering::Relaxed);
        }
    };
    InspectReader::new(InspectWriter::new(io, note), note)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::sleep;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A message every `gap`, for ever, and when the tunnel ends.
    async fn lasts(gap: Duration, idle: Duration, life: Duration) -> Duration {
        let start = Instant::now();
        let moved = AtomicBool::new(false);
        let (mut left, left_end) = duplex(64);
        let (mut right, right_end) = duplex(64);
        let copying = async {
            let mut left = watched(left_end, &moved);
            let mut right = watched(right_end, &moved);
            _ = copy_bidirectional_with_sizes(&mut left, &mut right, 16, 16).await;
        };
        let talking = async {
            loop {
                sleep(gap).await;
                left.write_all(b"x").await.unwrap();
                right.read_exact(&mut [0]).await.unwrap();
            }
        };
        tokio::select! {
            () = bounded(copying, &moved, idle, life) => {}
            () = talking => {}
        }
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_tunnel_ends_and_a_lively_one_when_its_life_is_over() {
        assert_eq!(lasts(7 * SECOND, 5 * SECOND, 60 * SECOND).await, 5 * SECOND);
        assert_eq!(
            lasts(4 * SECOND, 5 * SECOND, 60 * SECOND).await,
            60 * SECOND
        );
        let still = AtomicBool::new(false);
        bounded(std::future::ready(()), &still, SECOND, SECOND).await;
    }
}
