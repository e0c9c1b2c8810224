use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use gw_core::record::Record;
use gw_core::{BoxError, Mode};
use http::{Request, Response, response};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tower_service::Service;

use super::crew::{Crew, Unanswered};
use crate::error::{Observer, SHUTTING_DOWN};
use crate::lane::Hold;
use crate::lanes::{LOOK_AGAIN, Lanes, Permit, Reason, Refusal};
use crate::layer::Shared;

/// The caller's end of a task on a lane's thread.
///
/// # Cancel safety
///
/// Dropping it drops what the task runs, as soon as the lane's thread gets round to it.
#[derive(Debug)]
pub(super) struct LaneTask {
    join: JoinHandle<()>,
    finished: bool,
    record: Option<Record>,
    slot: &'static str,
    _crew: Arc<Crew>,
}

/// The head of an answer, and where its body comes from.
pub(super) struct Head<D> {
    pub(super) parts: response::Parts,
    pub(super) size: SizeHint,
    pub(super) source: Source<D>,
}

/// Where the frames of a body come from.
pub(super) enum Source<D> {
    /// It has ended.
    Ended,
    /// It is this frame.
    Whole(Frame<D>),
    /// The task sends it.
    Stream(mpsc::Receiver<Piece<D>>),
}

/// What a task sends of a body.
pub(super) enum Piece<D> {
    /// A frame; others follow.
    Frame(Frame<D>),
    /// The frame that ends the stream.
    Last(Frame<D>),
    /// The stream has ended with the frame before.
    End,
    /// The stream has failed.
    Failed(BoxError),
}

/// Two frames on the way keep both threads busy, and are all that a slow reader makes a lane hold.
const FRAMES_ON_THE_WAY: usize = 2;

impl LaneTask {
    pub(super) const fn new(
        join: JoinHandle<()>,
        crew: Arc<Crew>,
        record: Option<Record>,
        slot: &'static str,
    ) -> Self {
        Self {
            join,
            finished: false,
            record,
            slot,
            _crew: crew,
        }
    }

    /// Ready when the task has ended, though it should not have. A panic goes on here.
    pub(super) fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.finished {
            return Poll::Ready(());
        }
        let Poll::Ready(ended) = Pin::new(&mut self.join).poll(cx) else {
            return Poll::Pending;
        };
        self.finished = true;
        match ended.map_err(tokio::task::JoinError::try_into_panic) {
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            Ok(()) | Err(Err(_)) => Poll::Ready(()),
        }
    }

    /// The observer of the request.
    pub(super) const fn observer(&self) -> Observer<'_> {
        Observer {
            record: self.record.as_ref(),
            slot: self.slot,
        }
    }

    /// Tells the observer, if there is one, that the lane's threads were stopped under the request.
    pub(super) fn note_stopped(&self) {
        self.observer().refused(&SHUTTING_DOWN);
    }

    /// The task has nothing left to do that anybody waits for, and may come to its end.
    pub(super) const fn finish(&mut self) {
        self.finished = true;
    }
}

impl Drop for LaneTask {
    fn drop(&mut self) {
        if !self.finished {
            self.join.abort();
        }
    }
}

/// What a request has on the lane's side: its place there, and the time limits of it.
#[derive(Debug)]
pub struct LaneSide {
    pub(super) place: Option<Arc<Permit>>,
    pub(super) shared: Arc<Shared>,
    pub(super) hold: Hold,
    pub(super) until: Option<Instant>,
    /// When the request must be done, if its lane looks at that.
    pub(super) deadline: Option<Instant>,
}

/// A head, or why there is none.
pub(super) type Answer<D, E> = Result<Head<D>, NoHead<E>>;

/// Where the head of an answer goes. Until then, or until it is dropped, the request is one that the thread is to answer.
pub(super) struct HeadSender<D, E> {
    pub(super) sender: oneshot::Sender<Answer<D, E>>,
    pub(super) unanswered: Unanswered,
}

impl<D, E> HeadSender<D, E> {
    /// Whether anybody waits for it. Who has seen the head can rely on the count of the thread.
    fn send(self, answer: Answer<D, E>) -> bool {
        drop(self.unanswered);
        self.sender.send(answer).is_ok()
    }
}

/// Why there is no head.
pub(super) enum NoHead<E> {
    /// The service failed.
    Inner(E),
    /// It came too late to be started.
    Late(Refusal),
}

impl LaneSide {
    /// Refuses a request whose deadline has passed while the lane's thread was at something else.
    fn refuse_late(&self) -> Option<Refusal> {
        let (deadline, place) = (self.deadline?, self.place.as_ref()?);
        let now = Instant::now();
        if now < deadline {
            return None;
        }
        place.refuse(Reason::Deadline, now)
    }
}

/// The task on the lane's thread: the call, and the body until its end.
pub(super) async fn serve<S, B, ResB>(
    // In front, so that it is dropped last: the place is free when nothing of the request is left.
    mut side: LaneSide,
    head: HeadSender<ResB::Data, S::Error>,
    mut service: S,
    request: Request<B>,
) where
    S: Service<Request<B>, Response = Response<ResB>>,
    ResB: Body,
    ResB::Error: Into<BoxError>,
{
    if let Some(refusal) = side.refuse_late() {
        drop((service, request));
        drop(side);
        head.send(Err(NoHead::Late(refusal)));
        return;
    }
    let LaneSide {
        place,
        shared,
        hold,
        until,
        ..
    } = &mut side;
    let limit = Limit {
        until: *until,
        lanes: &shared.lanes,
    };
    match hold {
        Hold::Head => {
            if let Some(answer) = limit.run(async { service.call(request).await }).await {
                *place = None;
                send(answer, head, place).await;
            }
        }
        Hold::Body => {
            let work = async {
                let answer = service.call(request).await;
                send(answer, head, place).await;
            };
            _ = limit.run(work).await;
        }
    }
}

/// The end of a request's time.
///
/// The caller has a clock too, but if nobody polls what the caller got, only this one ends a task that waits for its
/// frames to be read.
struct Limit<'a> {
    until: Option<Instant>,
    lanes: &'a Lanes,
}

impl Limit<'_> {
    /// What `work` comes to; `None` if its time was over before.
    async fn run<T>(self, work: impl Future<Output = T>) -> Option<T> {
        let Some(mut until) = self.until else {
            return Some(work.await);
        };
        let mut work = pin!(work);
        loop {
            // Which asks the work first: what is ready beats the timer.
            if let Ok(done) = timeout_at(until, work.as_mut()).await {
                return Some(done);
            }
            if self.lanes.mode() == Mode::Enforce {
                return None;
            }
            until = Instant::now() + LOOK_AGAIN;
        }
    }
}

/// Sends an answer: all of it if it is there, else the head, and the frames as they come.
///
/// The lane's side of the place is given back just before the end of the answer is sent: who has seen the end can rely
/// on it. Where sending fails the caller is gone, and wants nothing more.
async fn send<ResB, E>(
    answer: Result<Response<ResB>, E>,
    head: HeadSender<ResB::Data, E>,
    place: &mut Option<Arc<Permit>>,
) where
    ResB: Body,
    ResB::Error: Into<BoxError>,
{
    let (parts, body) = match answer {
        Ok(response) => response.into_parts(),
        Err(error) => {
            *place = None;
            head.send(Err(NoHead::Inner(error)));
            return;
        }
    };
    let mut body = pin!(body);
    let size = body.size_hint();
    let mut first = Poll::Ready(Piece::End);
    if !body.is_end_stream() {
        // Polled and not awaited: the head does not wait for the body.
        first = poll_fn(|cx| Poll::Ready(poll_piece(body.as_mut(), cx))).await;
    }
    let (frames, stream) = mpsc::channel(FRAMES_ON_THE_WAY);
    let (source, mut next) = match first {
        Poll::Ready(Piece::End) => (Source::Ended, None),
        Poll::Ready(Piece::Last(frame)) => (Source::Whole(frame), None),
        Poll::Ready(piece) => (Source::Stream(stream), Some(piece)),
        Poll::Pending => (Source::Stream(stream), None),
    };
    let whole = !matches!(source, Source::Stream(_));
    if whole {
        *place = None;
    }
    let is_awaited = head.send(Ok(Head {
        parts,
        size,
        source,
    }));
    if whole || !is_awaited {
        return;
    }
    loop {
        let piece = match next.take() {
            Some(piece) => piece,
            None => poll_fn(|cx| poll_piece(body.as_mut(), cx)).await,
        };
        let more = matches!(piece, Piece::Frame(_));
        if !more {
            *place = None;
        }
        if frames.send(piece).await.is_err() || !more {
            return;
        }
    }
}

fn poll_piece<B>(mut body: Pin<&mut B>, cx: &mut Context<'_>) -> Poll<Piece<B::Data>>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    body.as_mut().poll_frame(cx).map(|frame| match frame {
        None => Piece::End,
        Some(Err(error)) => Piece::Failed(error.into()),
        Some(Ok(frame)) if frame.is_trailers() || body.is_end_stream() => Piece::Last(frame),
        Some(Ok(frame)) => Piece::Frame(frame),
    })
}
