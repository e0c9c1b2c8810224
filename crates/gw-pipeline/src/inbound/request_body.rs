use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use gw_core::{BoxError, Rejection};
use http::Extensions;
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};

use super::client_fault::{ClientFault, Fault};

/// How slowly a request's body may come. Only the time in which the client is waited for counts: a body that nobody
/// reads is not slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BodyTimers {
    /// The longest gap between two pieces.
    pub idle: Duration,
    /// The least number of bytes a second, on average, after the first five seconds. 0 asks for none.
    pub min_rate: u64,
}

impl BodyTimers {
    /// The time before the rate counts.
    pub const GRACE: Duration = Duration::from_secs(5);

    /// No limits.
    pub(super) const NONE: Self = Self::new(Duration::MAX, 0);

    /// These limits.
    pub const fn new(idle: Duration, min_rate: u64) -> Self {
        Self { idle, min_rate }
    }
}

impl Default for BodyTimers {
    /// 15 seconds between pieces, and 1 KiB a second.
    fn default() -> Self {
        Self::new(Duration::from_secs(15), 1024)
    }
}

pin_project! {
    /// A request's body within the limits of its route.
    ///
    /// A body that is too large, too slow or cannot be read ends with an error, and the reason is noted in the
    /// request's [`ClientFault`]. What the client is to be answered with is among the error's sources
    /// ([`Rejection::find`]), so a service that reads bodies may return the error, or answer by it. Trailer fields end here: an
    /// upstream that merges them into the head would read fields that no stage has checked.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the body inside, and nothing else.
    #[derive(Debug, Default)]
    pub struct RequestBody<B> {
        // None once it has failed: the server sees at once that nobody wants the rest, whoever still holds this.
        #[pin]
        body: Option<B>,
        // None if the body had ended when the request arrived: most have, and a request is moved through many stages.
        watch: Option<Box<Watch>>,
    }
}

/// What is known of a body that is still to come.
#[derive(Debug)]
struct Watch {
    limit: u64,
    received: u64,
    fault: ClientFault,
    pace: Pace,
}

impl<B: http_body::Body> RequestBody<B> {
    pub(super) fn new(
        body: B,
        limit: u64,
        timers: BodyTimers,
        extensions: &mut Extensions,
    ) -> Self {
        let fault = ClientFault::default();
        extensions.insert(fault.clone());
        let watch = Some(Box::new(Watch {
            limit,
            received: 0,
            fault,
            pace: Pace::new(timers),
        }));
        Self {
            body: Some(body),
            watch,
        }
    }

    /// A body that had ended when the request arrived.
    pub(super) const fn ended(body: B) -> Self {
        Self {
            body: Some(body),
            watch: None,
        }
    }
}

impl<B> http_body::Body for RequestBody<B>
where
    B: http_body::Body,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        let (Some(watch), Some(body)) = (this.watch, this.body.as_mut().as_pin_mut()) else {
            return Poll::Ready(None);
        };
        let (fault, cause) = match body.poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => return Poll::Ready(None),
            Poll::Ready(Some(Ok(frame))) => {
                watch.pace.progress();
                let frame = frame.map_data(|mut data| data.copy_to_bytes(data.remaining()));
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                watch.received = watch.received.saturating_add(length);
                if watch.received <= watch.limit {
                    return Poll::Ready(Some(Ok(frame)));
                }
                let limit_bytes = watch.limit;
                (Fault::TooLarge { limit_bytes }, None)
            }
            Poll::Ready(Some(Err(error))) => (Fault::Malformed, Some(error.into())),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending if watch.pace.is_lost(watch.received, cx) => (Fault::TooSlow, None),
            Poll::Pending => return Poll::Pending,
        };
        this.body.set(None);
        watch.fault.set(fault);
        Poll::Ready(Some(Err(BodyFailed::new(fault, cause).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.watch.is_none() || self.body.as_ref().is_none_or(B::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let body = self.body.as_ref();
        body.map_or_else(|| SizeHint::with_exact(0), B::size_hint)
    }
}

/// Measures how long the client has been waited for.
#[derive(Debug)]
struct Pace {
    timers: BodyTimers,
    waiting_since: Option<Instant>,
    /// The time waited before the current wait.
    waited: Duration,
    /// Made at the first wait; most bodies arrive with their head.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    const fn new(timers: BodyTimers) -> Self {
        Self {
            timers,
            waiting_since: None,
            waited: Duration::ZERO,
            sleep: None,
        }
    }

    fn progress(&mut self) {
        let Some(since) = self.waiting_since.take() else {
            return;
        };
        let waited = since.elapsed();
        // Past the deadline the timer would have fired if the body had been polled: the reader was late, and the
        // client may have been in time.
        if self
            .sleep
            .as_ref()
            .is_some_and(|sleep| since + waited <= sleep.deadline())
        {
            self.waited += waited;
        }
    }

    /// Whether the client is too slow; arms the timer otherwise.
    fn is_lost(&mut self, received: u64, cx: &mut Context<'_>) -> bool {
        let now = Instant::now();
        let since = *self.waiting_since.get_or_insert(now);
        let patience = self
            .patience(received)
            .saturating_sub(self.waited)
            .min(self.timers.idle);
        // A limit too far away to be represented is no limit.
        let Some(deadline) = since.checked_add(patience) else {
            return false;
        };
        if now >= deadline {
            return true;
        }
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        sleep.as_mut().poll(cx).is_ready()
    }

    /// The time in which `received` bytes must have come.
    fn patience(&self, received: u64) -> Duration {
        match received.checked_div(self.timers.min_rate) {
            Some(seconds) => BodyTimers::GRACE.saturating_add(Duration::from_secs(seconds)),
            None => Duration::MAX,
        }
    }
}

/// The request's body cannot be read on, by the client's fault.
#[derive(Debug)]
struct BodyFailed {
    fault: Fault,
    refusal: Rejection,
}

impl BodyFailed {
    fn new(fault: Fault, cause: Option<BoxError>) -> Self {
        let refusal = fault.refusal();
        let refusal = match cause {
            Some(cause) => refusal.caused_by(cause),
            None => refusal,
        };
        Self { fault, refusal }
    }
}

impl fmt::Display for BodyFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.fault {
            Fault::Malformed => "the request's body could not be read",
            Fault::TooLarge { .. } => "the request's body is too large",
            Fault::TooSlow => "the request's body came too slowly",
        })
    }
}

impl std::error::Error for BodyFailed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.refusal)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::{BodyExt as _, Full};
    use tokio::sync::mpsc;

    use super::*;

    /// A body fed by a channel.
    struct Fed(mpsc::Receiver<Bytes>);

    impl http_body::Body for Fed {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0
                .poll_recv(cx)
                .map(|data| data.map(|data| Ok(Frame::data(data))))
        }
    }

    fn fed(timers: BodyTimers) -> (mpsc::Sender<Bytes>, RequestBody<Fed>, ClientFault) {
        let (sender, receiver) = mpsc::channel(8);
        let mut extensions = Extensions::new();
        let body = RequestBody::new(Fed(receiver), 1 << 20, timers, &mut extensions);
        (sender, body, extensions.remove().unwrap())
    }

    #[tokio::test]
    async fn the_limit_is_exact() {
        for (length, fault) in [(8, None), (9, Some(Fault::TooLarge { limit_bytes: 8 }))] {
            let mut extensions = Extensions::new();
            let inner = Full::new(Bytes::from(vec![0; length]));
            let body = RequestBody::new(inner, 8, BodyTimers::default(), &mut extensions);
            assert_eq!(body.collect().await.is_err(), fault.is_some());
            assert_eq!(extensions.get::<ClientFault>().unwrap().get(), fault);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_cut() {
        let (_sender, body, fault) = fed(BodyTimers::default());
        let start = Instant::now();
        assert_eq!(
            body.collect().await.unwrap_err().to_string(),
            "the request's body came too slowly"
        );
        assert_eq!(fault.get(), Some(Fault::TooSlow));
        assert_eq!(
            start.elapsed().as_secs(),
            5,
            "no byte in the first five seconds is below any rate"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_has_failed_is_given_up_whoever_holds_it() {
        let (sender, mut body, _) = fed(BodyTimers::default());
        assert!(body.frame().await.unwrap().is_err());
        assert!(sender.is_closed());
        assert!(http_body::Body::is_end_stream(&body) && body.frame().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_dripping_client_is_cut_and_a_steady_one_is_not() {
        let drip = |bytes: usize, pieces: usize| async move {
            let (sender, body, fault) = fed(BodyTimers::default());
            tokio::spawn(async move {
                for _ in 0..pieces {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    if sender.send(Bytes::from(vec![0; bytes])).await.is_err() {
                        return;
                    }
                }
            });
            _ = body.collect().await;
            fault.get()
        };
        assert_eq!(drip(100, 60).await, Some(Fault::TooSlow));
        assert_eq!(drip(2048, 60).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_nobody_reads_is_not_slow() {
        let (sender, mut body, fault) = fed(BodyTimers::default());
        for _ in 0..5 {
            sender.send(Bytes::from_static(b"x")).await.unwrap();
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert!(body.frame().await.unwrap().is_ok());
        }
        drop(sender);
        assert!(body.frame().await.is_none());
        assert_eq!(fault.get(), None);
    }
}
