//! Thousands of requests over real sockets whose clients leave at any point: before their head is sent, within a body, before
//! an answer, within it, with their stream reset or the connection gone, or out of a tunnel. Afterwards all is given back,
//! exactly, and meanwhile no lane ran more than it may by the service's own count.
//!
//! What clients do is decided by a seed, which is printed when the test fails; `CHAOS_SEED` sets it. How threads take turns is
//! not.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

#[path = "chaos/client.rs"]
mod client;
#[path = "chaos/server.rs"]
mod server;
mod support;

use std::time::Duration;

use client::{Client, Saw};
use gw_bulkhead::{BulkheadBuilder, BulkheadHandle, BulkheadLayer, Hold, LaneConfig};
use gw_testkit::within;
use server::{Gauges, gauge, gauges, lane_of, serve};
use support::places;
use tokio::task::{JoinSet, yield_now};

const CLIENTS: u64 = 24;
const REQUESTS: u64 = 150;

/// Of 20 places: holds its place until the body ends; until the head; until the body ends, with a queue; for 15 ms at most.
fn lanes() -> [LaneConfig; 4] {
    let lane = |name| LaneConfig::new(name).guaranteed(0.1).cap(0.2);
    [
        lane("body"),
        lane("head").hold(Hold::Head),
        lane("queued")
            .queue(6)
            .queue_timeout(Duration::from_millis(20)),
        lane("timed").max_hold(Duration::from_millis(15)),
    ]
}

const CAP: u64 = 4;

fn builder(lanes: impl IntoIterator<Item = LaneConfig>) -> BulkheadBuilder {
    lanes
        .into_iter()
        .fold(BulkheadLayer::builder(places(20)), |builder, lane| {
            builder.lane(lane)
        })
        .classify(|parts, lanes| lanes.find(lane_of(parts.uri.path())))
}

/// Tells the seed if the test fails.
struct Seed(u64);

impl Seed {
    fn new(usual: u64) -> Self {
        let seed = std::env::var("CHAOS_SEED").ok();
        Self(seed.map_or(usual, |seed| seed.parse().unwrap()))
    }
}

impl Drop for Seed {
    #[allow(clippy::print_stderr, reason = "what a failed test has to say")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("CHAOS_SEED={}", self.0);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_clients_do_lanes_get_their_places_back() {
    let layer = builder(lanes()).build().unwrap();
    let handle = layer.handle();
    let names = ["body", "head", "queued", "timed"];
    let gauges = gauges(names);
    let address = serve(gauges.clone(), layer).await;
    let saw = storm(&Seed::new(7), |seed| {
        Client::new(address, seed, names.to_vec(), vec!["body", "timed"])
    })
    .await;
    assert!(saw.echoed > 20, "{saw:?}");
    settles(&handle, &gauges).await;
    // Who was cut still runs until it is told so: of that lane only the lane's own count is exact.
    for lane in ["body", "queued"] {
        assert_eq!(gauge(&gauges, lane).peak(), CAP, "{lane}");
    }
    assert!(gauge(&gauges, "head").peak() >= 1);
    adds_up(&handle, &gauges);
}

#[cfg(feature = "threads")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_do_lanes_with_threads_of_their_own_lose_any() {
    let lanes = lanes().map(|lane| {
        let threads = if lane.name() == "queued" { 2 } else { 1 };
        lane.threads(threads)
    });
    let layer = builder(lanes).with_threads().build().unwrap();
    let handle = layer.handle();
    let names = ["body", "head", "queued", "timed"];
    let gauges = gauges(names);
    let address = serve(gauges.clone(), layer).await;
    storm(&Seed::new(11), |seed| {
        Client::new(address, seed, names.to_vec(), Vec::new())
    })
    .await;
    settles(&handle, &gauges).await;
    for lane in ["body", "queued"] {
        assert_eq!(gauge(&gauges, lane).peak(), CAP, "{lane}");
    }
    adds_up(&handle, &gauges);
}

/// All clients at once; what they saw.
async fn storm(seed: &Seed, client: impl Fn(u64) -> Client) -> Saw {
    let mut seeds = fastrand::Rng::with_seed(seed.0);
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(client(seeds.u64(..)).run(REQUESTS));
    }
    let mut all = Saw::default();
    while let Some(saw) = clients.join_next().await {
        let saw = saw.unwrap();
        all.sent += saw.sent;
        all.whole += saw.whole;
        all.refused += saw.refused;
        all.left += saw.left;
        all.echoed += saw.echoed;
    }
    // Each way of ending was taken by many, or the test says little.
    assert!(all.sent >= CLIENTS * REQUESTS, "{all:?}");
    for ended in [all.whole, all.refused, all.left] {
        assert!(ended > all.sent / 50, "{all:?}");
    }
    all
}

/// Once all clients are gone, nothing is held and nobody waits.
async fn settles(handle: &BulkheadHandle, gauges: &Gauges) {
    within("all places to be given back", async {
        loop {
            let snapshot = handle.snapshot();
            let lanes = &snapshot.lanes;
            let held = |lane: &gw_bulkhead::LaneSnapshot| lane.in_flight + lane.queued > 0;
            let running = gauges.iter().any(|(_, gauge)| gauge.running() > 0);
            if snapshot.in_flight == 0 && !lanes.iter().any(held) && !running {
                return;
            }
            yield_now().await;
        }
    })
    .await;
}

/// Each request that came was admitted or refused, and each that was admitted without waiting ran, once.
fn adds_up(handle: &BulkheadHandle, gauges: &Gauges) {
    for lane in handle.snapshot().lanes {
        let gauge = gauge(gauges, lane.name.as_str());
        let (arrived, started) = (gauge.arrived(), gauge.started());
        assert!(started > 50, "{lane:?}");
        let refused = lane.rejected.lane_full;
        match lane.name.as_str() {
            // Of those that waited, some left.
            "queued" => assert!(
                lane.admitted >= started && lane.admitted < arrived,
                "{lane:?}"
            ),
            _ => assert_eq!(lane.admitted + refused, arrived, "{lane:?}"),
        }
    }
}
