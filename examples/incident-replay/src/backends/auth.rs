use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use fastrand::Rng;

use crate::scenario::{LOGIN_MILLIS, LOGIN_PATH};

/// The auth service. It is never the bottleneck: each login takes its few milliseconds, however many there are.
#[derive(Debug, Clone)]
pub(super) struct Auth {
    rng: Arc<Mutex<Rng>>,
    logins: Arc<AtomicU64>,
}

impl Auth {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rng: Arc::new(Mutex::new(Rng::with_seed(seed))),
            logins: Arc::default(),
        }
    }

    pub(super) fn router(&self) -> Router {
        let auth = self.clone();
        let login = post(move || {
            let auth = auth.clone();
            async move { auth.login().await }
        });
        Router::new().route(LOGIN_PATH, login)
    }

    /// Logins so far.
    pub(super) fn count(&self) -> u64 {
        self.logins.load(Ordering::Relaxed)
    }

    async fn login(self) -> &'static str {
        self.logins.fetch_add(1, Ordering::Relaxed);
        let work = {
            let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
            rng.u64(LOGIN_MILLIS)
        };
        tokio::time::sleep(Duration::from_millis(work)).await;
        r#"{"token":"welcome"}"#
    }
}
