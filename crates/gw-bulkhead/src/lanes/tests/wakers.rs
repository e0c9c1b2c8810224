//! Who is woken, and that no lock is held then.

use gw_testkit::nosy_waker;
use tokio::time::Duration;

use super::*;

#[test]
fn the_last_one_to_leave_wakes_who_waits_for_the_drain() {
    let (lanes, [core]) = lanes(1, [LaneConfig::new("core").queue(1)]);
    let held = lanes.take(core);
    let waiting = lanes.wait(core);
    let mut drained = task(lanes.drain());
    assert!(drained.poll().is_pending());
    drop(waiting);
    assert!(!drained.is_woken());
    drop(held);
    assert!(drained.is_woken() && drained.poll().is_ready());
}

/// What is counted instead of a look that met a lock: more than there ever are looks.
const LOCKED: u32 = 1_000_000;

/// Looks, when it is woken and when it is dropped, whether the locks are free.
fn nosy(lanes: &Lanes, asked: &Arc<Count>) -> Waker {
    let (lanes, asked) = (lanes.clone(), Arc::clone(asked));
    nosy_waker(move || {
        let inner = &lanes.inner;
        let free = inner.line.try_lock().is_ok() && !inner.holds.is_locked();
        let count = if free { 1 } else { LOCKED };
        asked.fetch_add(count, Ordering::SeqCst);
    })
}

#[test]
fn no_waker_is_woken_or_dropped_under_a_lock() {
    // Story: a future that was polled by another task left its old waker to be dropped under the line's lock. Where this
    // was the last one of a task that held a permit, the permit's drop waited for that lock, for ever.
    let (lanes, [core]) = lanes(1, [LaneConfig::new("core").queue(3)]);
    let asked = Arc::new(Count::new(0));
    let polled = |future: Pin<&mut dyn Future<Output = ()>>| {
        let waker = nosy(&lanes, &asked);
        assert!(future.poll(&mut Context::from_waker(&waker)).is_pending());
    };
    let place = |wait: Wait| Box::pin(async { drop(wait.await) });
    let first = lanes.take(core);
    let (mut served, mut leaves) = (place(lanes.wait(core)), place(lanes.wait(core)));
    // Each is polled twice: the first waker is replaced, and nothing else keeps it.
    for _ in 0..2 {
        polled(served.as_mut());
        polled(leaves.as_mut());
    }
    let mut drained = Box::pin(lanes.drained());
    for _ in 0..2 {
        polled(drained.as_mut());
    }
    assert_eq!(asked.swap(0, Ordering::SeqCst), 3, "dropped when replaced");
    drop(leaves);
    assert_eq!(asked.swap(0, Ordering::SeqCst), 1, "dropped on leaving");
    drop(first);
    assert_eq!(
        asked.swap(0, Ordering::SeqCst),
        2,
        "woken and dropped when served"
    );
    drop(lanes.drain());
    assert_eq!(
        asked.swap(0, Ordering::SeqCst),
        2,
        "woken and dropped by the drain"
    );
    polled(drained.as_mut());
    drop(drained);
    assert_eq!(asked.load(Ordering::SeqCst), 1, "dropped with the watcher");
    drop(served);
}

#[tokio::test(start_paused = true)]
async fn who_watches_the_clock_is_woken_without_a_lock() {
    let (lanes, [core]) = lanes(2, [LaneConfig::new("core").queue(3)]);
    let asked = Arc::new(Count::new(0));
    let held = [lanes.take(core), lanes.take(core)];
    let wait = lanes.wait(core);
    let (deadline, mut reaper) = (Instant::now() + Duration::from_secs(60), wait.reaper());
    for _ in 0..2 {
        let waker = nosy(&lanes, &asked);
        let mut cx = Context::from_waker(&waker);
        assert!(reaper.poll(&mut cx, Some(deadline)).is_pending());
    }
    // The timer keeps one as well, so none of this is the last.
    let holds = held.map(|permit| {
        let until = Instant::now() + Duration::from_secs(1);
        TimedPermit::new(Arc::new(permit), until)
    });
    let seen = asked.load(Ordering::SeqCst);
    assert!((1..LOCKED).contains(&seen), "an earlier end came: {seen}");
    drop((reaper, holds, wait));
    assert_eq!(lanes.in_flight(), 0);
}

/// A future and whether it was woken.
pub(super) struct Task<F> {
    future: Pin<Box<F>>,
    woken: Arc<Woken>,
}

#[derive(Default)]
struct Woken(std::sync::atomic::AtomicBool);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

pub(super) fn task<F: Future>(future: F) -> Task<F> {
    Task {
        future: Box::pin(future),
        woken: Arc::default(),
    }
}

impl<F: Future> Task<F> {
    pub(super) fn poll(&mut self) -> Poll<F::Output> {
        let waker = Waker::from(Arc::clone(&self.woken));
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    pub(super) fn is_woken(&self) -> bool {
        self.woken.0.load(Ordering::SeqCst)
    }
}
