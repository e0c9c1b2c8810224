//! A budget of ours under tower's own retry layer.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gw_retry::RatioBudget;
use tower::retry::budget::Budget;
use tower::retry::{Policy, RetryLayer};
use tower::{Layer as _, ServiceExt as _, service_fn};

#[derive(Clone)]
struct Within(Arc<RatioBudget>);

impl Policy<(), (), ()> for Within {
    type Future = Ready<()>;

    fn retry(&mut self, (): &mut (), result: &mut Result<(), ()>) -> Option<Ready<()>> {
        (result.is_err() && Budget::withdraw(&*self.0)).then(|| ready(()))
    }

    fn clone_request(&mut self, (): &()) -> Option<()> {
        Some(())
    }
}

#[tokio::test(start_paused = true)]
async fn ends_the_retries_of_towers_layer() {
    let budget = RatioBudget::new(0.5, Duration::from_secs(10), 0).unwrap();
    let budget = Arc::new(budget);
    let layer = RetryLayer::new(Within(Arc::clone(&budget)));
    let calls = AtomicUsize::new(0);
    for _ in 0..10 {
        Budget::deposit(&*budget);
        let service = service_fn(|()| {
            calls.fetch_add(1, Ordering::Relaxed);
            ready(Err::<(), ()>(()))
        });
        assert!(layer.layer(service).oneshot(()).await.is_err());
    }
    assert_eq!(calls.into_inner(), 15);
}
