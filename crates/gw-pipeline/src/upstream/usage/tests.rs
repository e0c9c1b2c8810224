use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn an_idle_connection_ends_a_busy_one_does_not() {
    let start = Instant::now();
    let usage = Usage::new(start);
    let driving = drive(std::future::pending::<()>(), &usage, idle_for(10 * SECOND));
    let using = async {
        tokio::time::sleep(25 * SECOND).await;
        usage.leave(Instant::now());
        tokio::time::sleep(9 * SECOND).await;
        usage.enter();
        tokio::time::sleep(5 * SECOND).await;
        usage.leave(Instant::now());
    };
    tokio::join!(driving, using);
    assert_eq!(start.elapsed(), 49 * SECOND);
}

/// Story: a connection that had once been idle for a second, when there were not too many, was not looked at again for as long as
/// idle ones are kept. In a silence all of these stayed.
#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_looked_at_again_and_again() {
    let start = Instant::now();
    let usage = Usage::new(start);
    let looks = Mutex::new(Vec::new());
    let crowds = || looks.lock().unwrap().push(start.elapsed().as_secs());
    let next_look = idle_for_or_crowding(10 * SECOND, SECOND, crowds);
    let driving = drive(std::future::pending::<()>(), &usage, next_look);
    let using = async {
        // In use it is no surplus.
        tokio::time::sleep(3 * SECOND).await;
        usage.leave(Instant::now());
        tokio::time::sleep(2 * SECOND + SECOND / 2).await;
        usage.enter();
        tokio::time::sleep(SECOND).await;
        usage.leave(Instant::now());
    };
    tokio::join!(driving, using);
    let looks = looks.into_inner().unwrap();
    assert_eq!(looks[..3], [4, 5, 7], "{looks:?}");
    assert_eq!(start.elapsed(), 16 * SECOND + SECOND / 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_given_up_ends_at_once() {
    let start = Instant::now();
    let usage = Usage::new(start);
    let driving = drive(std::future::pending::<()>(), &usage, idle_for(10 * SECOND));
    let using = async {
        tokio::time::sleep(SECOND).await;
        usage.give_up();
    };
    tokio::join!(driving, using);
    assert_eq!(start.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_is_not_driven_on() {
    let start = Instant::now();
    drive(std::future::ready(()), &Usage::new(start), idle_for(SECOND)).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_retired_connection_ends_with_its_last_user() {
    let start = Instant::now();
    let usage = Usage::new(start);
    let driving = drive(std::future::pending::<()>(), &usage, idle_for(100 * SECOND));
    let using = async {
        assert!(usage.try_enter());
        usage.retire();
        assert!(!usage.try_enter());
        assert!(usage.enter_retired());
        for left in (0..3).rev() {
            tokio::time::sleep(SECOND).await;
            usage.leave(Instant::now());
            assert_eq!(usage.enter_retired(), left > 0);
            if left > 0 {
                usage.leave(Instant::now());
                assert!(usage.enter_retired());
                usage.leave(Instant::now());
            }
        }
    };
    tokio::join!(driving, using);
    assert_eq!(start.elapsed(), 3 * SECOND);
}

/// Story: a connection was shared for as long as it held, and its peer could have a reset queued for each exchange that there had ever
/// been. After a million of them that was half a gigabyte.
#[tokio::test]
async fn a_shared_connection_is_for_so_many_exchanges() {
    let streams = Arc::new(Streams::default());
    let now = Instant::now();
    let usage = Usage::shared(now, Arc::clone(&streams));
    for _ in 2..EXCHANGES {
        assert!(usage.try_enter());
        usage.leave(now);
    }
    assert!(usage.takes_more() && usage.try_enter());
    assert!(!usage.takes_more() && !usage.has_room() && !usage.try_enter());
    // Where there is no room for another it is still shared, as long as it is in use.
    assert!(usage.enter_retired());
    for _ in 0..3 {
        assert!(!usage.is_given_up());
        usage.leave(now);
    }
    assert!(usage.is_given_up() && !usage.enter_retired());
}

#[tokio::test]
async fn a_shared_connection_takes_as_many_as_its_peer_allows() {
    let streams = Arc::new(Streams::default());
    let usage = Usage::shared(Instant::now(), Arc::clone(&streams));
    let freed = || {
        let freed = pin!(streams.freed.notified());
        let waker = Context::from_waker(Waker::noop());
        freed.poll(&mut { waker }).is_ready()
    };
    assert!(usage.asks(), "nothing is known yet");
    usage.allow(2, true);
    assert!(!usage.asks() && usage.try_enter());
    assert!(!usage.try_enter() && !usage.enter_retired());
    assert!(usage.asks(), "it may be more by now");
    assert!(!freed());
    usage.leave(Instant::now());
    assert!(freed() && usage.try_enter());
    usage.allow(3, true);
    assert!(freed() && usage.try_enter() && !usage.try_enter());
    // One at least, or nobody would ever hear that it is more.
    usage.allow(0, true);
    assert_eq!(streams.allowed(), 1);
    (0..3).for_each(|_| usage.leave(Instant::now()));
    assert!(usage.try_enter());
}

/// A waker that looks, when it goes, whether the state is locked.
struct Looking {
    usage: Arc<Usage>,
    locked: Arc<AtomicBool>,
}

impl Wake for Looking {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Looking {
    fn drop(&mut self) {
        let locked = self.usage.state.try_lock().is_err();
        self.locked.fetch_or(locked, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn no_waker_is_dropped_under_the_lock() {
    let usage = Arc::new(Usage::new(Instant::now()));
    let locked = Arc::new(AtomicBool::new(false));
    let first = Waker::from(Arc::new(Looking {
        usage: Arc::clone(&usage),
        locked: Arc::clone(&locked),
    }));
    assert!(
        usage
            .poll_given_up(&mut None, &Context::from_waker(&first))
            .is_pending()
    );
    drop(first);
    assert!(
        usage
            .poll_given_up(&mut None, &Context::from_waker(Waker::noop()))
            .is_pending()
    );
    assert!(!locked.load(Ordering::SeqCst));
}
