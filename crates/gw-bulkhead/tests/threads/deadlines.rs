//! What comes to the lane's thread too late.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use gw_bulkhead::{Deadline, Mode};
use gw_core::stage::{NoFacts, Stage};
use http::Request;
use tokio::time::{Instant, advance, pause};
use tower::{Layer as _, service_fn};

use super::support::{call, poll, recorded, refused, request_in};
use super::{logs, response, settles_at, two_lanes};

const HOUR: Duration = Duration::from_secs(3600);

/// Story: a request that had found a free place was called whenever the lane's thread came to it.
#[tokio::test]
async fn what_a_busy_thread_comes_to_after_its_deadline_is_not_started() {
    for (aware, mode, status) in [
        (true, Mode::Enforce, 503),
        // Story: here it was not counted.
        (true, Mode::Shadow, 200),
        (false, Mode::Enforce, 200),
    ] {
        let layer = two_lanes(logs().deadline_aware(aware).mode(mode));
        let layer = Stage::<NoFacts>::into_layer_in(layer, "post_auth_limit");
        let handle = layer.handle();
        let calls = Arc::new(AtomicU32::new(0));
        let called = Arc::clone(&calls);
        // The first one keeps the thread for an hour, on its clock.
        let mut service = layer.layer(service_fn(move |_: Request<()>| {
            let first = called.fetch_add(1, Ordering::SeqCst) == 0;
            async move {
                if first {
                    pause();
                    advance(HOUR).await;
                }
                Ok::<_, Infallible>(response("done"))
            }
        }));
        let mut first = call(&mut service, request_in("logs")).await;
        // It begins with that, and may have ended by then.
        let early = poll(&mut first);
        let (mut request, record) = recorded(request_in("logs"));
        let due = Deadline::at(Instant::now() + HOUR / 2);
        request.extensions_mut().insert(due);
        let second = call(&mut service, request).await;
        let first = match early {
            Poll::Ready(answer) => answer,
            Poll::Pending => first.await,
        };
        assert_eq!(first.unwrap().status(), 200);
        assert_eq!(second.await.unwrap().status(), status);
        settles_at(&handle, 0).await;
        let rejected = handle.snapshot().lanes[1].rejected;
        let late = u64::from(aware);
        assert_eq!((rejected.deadline, rejected.total()), (late, late));
        let (told, started) = match status {
            503 => ((Some("post_auth_limit"), Some("OVERLOADED")), 1),
            _ => ((None, None), 2),
        };
        assert_eq!(refused(&record), told);
        assert_eq!(calls.load(Ordering::SeqCst), started);
    }
}
