//! What the measurement of lanes relies on, without measuring anything.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test")]

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use gw_peers::lanes::app;
use gw_peers::lanes::logins::Logins;
use gw_peers::lanes::protection::{PLACES, Protection};
use gw_peers::lanes::saturation::{Counts, Saturation, Size, WAYS, Way};
use gw_peers::lanes::talk::Talk;
use gw_tests::bench::ports;
use tokio::net::TcpListener;
use tokio::time::timeout;

/// For whatever should happen at once.
const PATIENCE: Duration = Duration::from_secs(30);

/// What blocks threads until it is opened.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn block(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = self.opened.wait_while(open, |open| !*open);
        drop(opened.unwrap_or_else(PoisonError::into_inner));
    }

    fn open(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.opened.notify_all();
    }
}

/// Opens it however the test ends: else its threads would be waited for.
struct Opened(Arc<Gate>);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// One thread serves everything that is not in the lane of logs. There all threads are blocked, and stay so.
#[tokio::test]
async fn a_blocked_lane_refuses_and_every_login_is_answered() {
    let gate = Arc::new(Gate::default());
    let opened = Opened(Arc::clone(&gate));
    let logs = Router::new().route(
        "/logs/block",
        get(async move || {
            gate.block();
            "stored"
        }),
    );
    let app = Protection::Gw.protect(app::logins(), logs).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });

    let ask = async |number| {
        let mut talk = Talk::open(addr, number).await.unwrap();
        talk.send(b"GET /logs/block HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        talk
    };
    let status = async |talk: &mut Talk| {
        let answer = timeout(PATIENCE, talk.answer()).await;
        answer.expect("an answer").unwrap().0
    };
    let mut held = Vec::new();
    for number in 0..PLACES {
        held.push(ask(number).await);
    }
    // Which of them are in is not told by anything: who is refused tells that all places are taken.
    let mut refused = 0;
    while refused < 20 {
        let mut talk = ask(refused).await;
        match timeout(Duration::from_millis(100), talk.answer()).await {
            Ok(answer) => {
                assert_eq!(answer.unwrap().0, 503);
                refused += 1;
            }
            Err(_) => held.push(talk),
        }
    }
    let mut logins = Logins::new(addr, 2);
    let seen = logins.run(200, PATIENCE).await.unwrap();
    assert_eq!((seen.answered(), seen.tried()), (200, 200));
    assert_eq!(logins.newcomers(10).await.unwrap(), 10);

    drop(opened);
    let mut answers = Vec::new();
    for talk in &mut held {
        answers.push(status(talk).await);
    }
    let stored = answers.iter().filter(|status| **status == 200).count();
    assert_eq!(stored, PLACES, "{answers:?}");
    // All places are free again.
    let mut again = Vec::new();
    for number in 0..PLACES {
        again.push(ask(number).await);
    }
    for talk in &mut again {
        assert_eq!(status(talk).await, 200);
    }
}

fn serve(protection: Protection) -> SocketAddr {
    let [addr] = ports::free().unwrap();
    // It serves until the process ends.
    std::thread::spawn(move || app::serve(addr, 1, protection));
    addr
}

/// In each way all places come to be taken and no more, and the rest are refused, where the protection sees to that.
#[tokio::test]
async fn every_way_saturates() {
    let size = Size {
        clients: 2 * PLACES,
        idle: 60,
        flood: 1_000,
    };
    for protection in [
        Protection::Gw,
        Protection::Tower,
        Protection::TowerResilience,
    ] {
        let is_semaphore = protection != Protection::Gw;
        for way in WAYS {
            // A new one for each: what blocks threads goes on doing so when its clients have left.
            let addr = serve(protection);
            let up = async { while Talk::open(addr, 0).await.is_err() {} };
            timeout(PATIENCE, up).await.unwrap();
            let saturation = Saturation::start(addr, way, size).await.unwrap();
            let is_saturated = |counts: Counts| match way {
                Way::IdleConnections => counts.held == size.idle,
                // A semaphore gives its permit back with the head.
                Way::EndlessBodies if is_semaphore => {
                    counts.held == size.clients && counts.refused == 0
                }
                // Who is blocked with its thread cannot even be refused.
                Way::BlockingHandlers if is_semaphore => counts.asked > 0,
                Way::BlockingHandlers => counts.asked > counts.refused && counts.refused > 0,
                Way::EndlessBodies | Way::Flood | Way::SlowUploads => {
                    counts.held == PLACES && counts.refused > 0
                }
            };
            let saturated = async {
                while !is_saturated(saturation.counts()) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            if timeout(PATIENCE, saturated).await.is_err() {
                let counts = saturation.counts();
                panic!("{protection:?}, {}: {counts:?}", way.name());
            }
        }
    }
}
