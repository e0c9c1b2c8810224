//! What a lane does under more load than it can serve, by how it queues. A simulation; the figures are in
//! `docs/queues.md`, and `cargo test -p gw-bulkhead --test overload -- --nocapture` prints them.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that prints a table"
)]

mod support;
#[path = "overload/world.rs"]
mod world;

use std::time::Duration;

use gw_bulkhead::{Codel, LaneConfig};
use world::{Load, Tally, percentile, run};

const LASTS: Duration = Duration::from_secs(10);

/// A queue that takes two seconds to serve, while requests have half of one: the discipline decides.
fn lane() -> LaneConfig {
    LaneConfig::new("core")
        .queue(800)
        .queue_timeout(Duration::from_secs(2))
}

const FIFO: &str = "first come, first served";
const SHORT: &str = "the same, timeout 100 ms (the default)";
const AWARE: &str = "deadline-aware";
const CODEL: &str = "CoDel";
const LIFO: &str = "CoDel, adaptive LIFO";
const ALL: &str = "CoDel, adaptive LIFO, deadline-aware";
const PATIENT: &str = "the last one, interval 1 s";

/// How a lane queues, and what that is called.
type Discipline = (&'static str, fn() -> LaneConfig);

const DISCIPLINES: [Discipline; 7] = [
    (FIFO, lane),
    (SHORT, || lane().queue_timeout(Duration::from_millis(100))),
    (AWARE, || lane().deadline_aware(true)),
    (CODEL, || lane().codel(Codel::new())),
    (LIFO, || lane().codel(Codel::new().adaptive_lifo())),
    (ALL, || {
        lane()
            .codel(Codel::new().adaptive_lifo())
            .deadline_aware(true)
    }),
    (PATIENT, || {
        let interval = Duration::from_secs(1);
        let codel = Codel::new().interval(interval).adaptive_lifo();
        lane().codel(codel).deadline_aware(true)
    }),
];

const fn constant(offered: fn(Duration) -> f64) -> Load {
    Load {
        offered,
        slowness: |_| 1.0,
    }
}

fn row(name: &str, tally: &Tally) -> String {
    format!(
        "| {name} | {:.1} % | {:.2} % | {:.1} % | {} | {} |",
        tally.goodput_percent(),
        tally.late_percent(),
        100.0 * tally.refused.len() as f64 / f64::from(tally.offered),
        spread(&tally.waits),
        spread(&tally.refused),
    )
}

fn spread(values: &[Duration]) -> String {
    if values.is_empty() {
        return "none".to_owned();
    }
    let [half, most] = [50, 99].map(|percent| percentile(values, percent));
    format!("{half:.0} / {most:.0} ms")
}

/// Runs all disciplines under a load, and prints what came of it.
async fn table(title: &str, load: Load) -> Vec<(&'static str, Tally)> {
    let mut lines = vec![
        format!("\n{title}\n"),
        "| queue | in time, of capacity | too late, of started | refused, of offered | \
         wait, p50 / p99 | until refused, p50 / p99 |"
            .to_owned(),
        "|---|---|---|---|---|---|".to_owned(),
    ];
    let mut results = Vec::new();
    for (name, lane) in DISCIPLINES {
        let tally = run(lane(), load, LASTS, 7).await;
        lines.push(row(name, &tally));
        let completed = tally.in_time + tally.late;
        assert_eq!(completed, tally.started, "what is started is completed");
        let answered = completed as usize + tally.refused.len();
        assert_eq!(answered, tally.offered as usize);
        results.push((name, tally));
    }
    // At once, since others run beside.
    println!("{}", lines.join("\n"));
    results
}

fn of<'a>(results: &'a [(&str, Tally)], name: &str) -> &'a Tally {
    &results.iter().find(|(other, _)| *other == name).unwrap().1
}

/// What must hold under overload.
fn assert_useful(results: &[(&str, Tally)], least_goodput: f64) {
    for name in [AWARE, CODEL, LIFO, ALL, PATIENT] {
        let tally = of(results, name);
        assert!(
            tally.late_percent() < 1.0,
            "{name}: {:.2} % too late",
            tally.late_percent()
        );
        assert!(tally.goodput_percent() > least_goodput, "{name}");
    }
    for name in [CODEL, LIFO, ALL] {
        let wait = percentile(&of(results, name).waits, 50);
        assert!(wait <= 11.0, "{name}: waits {wait} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn all_that_can_be_served_is() {
    let title = "0.7 times what the lane can do";
    for (name, tally) in table(title, constant(|_| 0.7)).await {
        assert_eq!((tally.refused.len(), tally.late), (0, 0), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn at_the_limit_little_is_refused() {
    let title = "0.9 times what the lane can do";
    for (name, tally) in table(title, constant(|_| 0.9)).await {
        assert!(tally.refused.len() * 20 < tally.offered as usize, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn under_twice_the_load_what_is_started_is_of_use() {
    let title = "2 times what the lane can do";
    let results = table(title, constant(|_| 2.0)).await;
    assert_useful(&results, 95.0);
    // Not by chance.
    for seed in 1..=3 {
        let lane = lane().deadline_aware(true);
        let late = run(lane, constant(|_| 2.0), LASTS, seed)
            .await
            .late_percent();
        println!("deadline-aware, 2 times, seed {seed}: {late:.2} % too late");
        assert!(late < 1.0);
    }
    // What it is for.
    assert!(of(&results, FIFO).late_percent() > 80.0);
}

#[tokio::test(start_paused = true)]
async fn under_four_times_the_load_what_is_started_is_of_use() {
    let title = "4 times what the lane can do";
    assert_useful(&table(title, constant(|_| 4.0)).await, 95.0);
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_becomes_slower_finds_out() {
    let title = "2 times what the lane can do; from the middle on requests take twice as long";
    let load = Load {
        offered: |_| 2.0,
        slowness: |at| if at < LASTS / 2 { 1.0 } else { 2.0 },
    };
    // In the second half it can do half of what it could.
    assert_useful(&table(title, load).await, 0.95 * 75.0);
}

#[tokio::test(start_paused = true)]
async fn bursts() {
    let title = "0.5 times what the lane can do, and each second 3 times for 150 ms";
    let burst = |at: Duration| if at.subsec_millis() < 150 { 3.0 } else { 0.5 };
    let results = table(title, constant(burst)).await;
    // An interval that is shorter than the bursts takes them for overload, a longer one does not.
    let refused = |name| of(&results, name).refused.len();
    assert!(refused(LIFO) > 10 * refused(PATIENT));
    assert!(of(&results, PATIENT).late_percent() < 1.0);
}
