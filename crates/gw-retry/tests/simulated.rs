//! What retries make of load, against its bound; and the plots of `docs/retries.md` as they stand there.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

mod simulation;

use std::path::Path;

use simulation::Allowed;
use simulation::amplification::{ATTEMPTS, Fails, Tiers};
use simulation::outage::{self, BREAKS, ENDS, MENDED, OFFERED};

const ALL: [Allowed; 3] = [Allowed::Anything, Allowed::ShareOfActive, Allowed::Ratio];
const WAYS: [(bool, Fails); 3] = [
    (true, Fails::Answered),
    (true, Fails::Broken),
    (false, Fails::Answered),
];

#[test]
fn no_budget_is_exceeded_whatever_fails() {
    for count in 1..=3 {
        for (allowed, (tell, fails)) in ALL.into_iter().flat_map(|it| WAYS.map(|way| (it, way))) {
            let tiers = Tiers {
                count,
                allowed,
                tell,
                fails,
            };
            let curve: Vec<f64> = (0..=100)
                .step_by(10)
                .map(|percent| tiers.amplification(percent))
                .collect();
            println!(
                "{count} {allowed:?} {tell} {fails:?}: {curve:.2?}, at most {:.2}",
                tiers.bound()
            );
            assert!(curve[0] == 1.0, "nothing fails, nothing is sent again");
            let worst = curve.iter().copied().fold(0.0, f64::max);
            // Where nothing but the attempts bounds it, waits of random length make a second's worth a little more or less.
            let noise = if allowed == Allowed::Anything {
                1.01
            } else {
                1.0
            };
            assert!(worst <= tiers.bound() * noise, "{tiers:?}: {curve:?}");
            // A bound that nothing comes near would say little. Of several tiers in a row it is not the least one.
            let near = count > 1 || worst >= 1.0 + 0.8 * (tiers.bound() - 1.0);
            assert!(near, "{tiers:?}: {curve:?}");
        }
    }
}

#[test]
fn gateways_that_do_not_know_of_each_other_multiply() {
    for count in 1..=3 {
        let tiers = Tiers {
            count,
            allowed: Allowed::Anything,
            tell: false,
            fails: Fails::Answered,
        };
        let near = |sent: f64, expected: u32| (sent / f64::from(expected) - 1.0).abs() < 0.01;
        assert!(near(tiers.amplification(100), ATTEMPTS.pow(count)));
        let told = Tiers {
            tell: true,
            ..tiers
        };
        assert!(near(told.amplification(100), ATTEMPTS));
        let broken = Tiers {
            fails: Fails::Broken,
            ..told
        };
        let sum = 1 + count.min(2) * (ATTEMPTS - 1);
        assert!(near(broken.amplification(100), sum));
    }
}

/// The least that was answered in time in any second of a run's `seconds`, as a part of what was asked for.
fn least(run: &outage::Run, seconds: std::ops::Range<usize>) -> f64 {
    let least = run.good[seconds].iter().min().unwrap();
    f64::from(*least) / f64::from(OFFERED)
}

fn most(run: &outage::Run, seconds: std::ops::Range<usize>) -> f64 {
    let most = run.good[seconds].iter().max().unwrap();
    f64::from(*most) / f64::from(OFFERED)
}

#[test]
fn within_a_budget_an_outage_ends_when_it_ends() {
    for allowed in [Allowed::Ratio, Allowed::ShareOfActive, Allowed::Nothing] {
        let run = outage::run(allowed);
        println!("{allowed:?}: {:?}", run.good);
        assert!(least(&run, 1..BREAKS) >= 0.99);
        assert!(most(&run, BREAKS + 1..MENDED) <= 0.01);
        assert!(least(&run, MENDED + 5..ENDS - 1) >= 0.99, "{allowed:?}");
    }
}

#[test]
fn without_a_budget_it_does_not_end() {
    let run = outage::run(Allowed::Anything);
    println!("{:?}", run.good);
    assert!(least(&run, 1..BREAKS) >= 0.99);
    assert!(most(&run, MENDED + 5..ENDS) <= 0.1, "it stays down");
}

#[test]
fn the_same_run_twice() {
    assert_eq!(outage::run(Allowed::Ratio), outage::run(Allowed::Ratio));
}

/// `cargo run --release -p gw-retry --example retry-plots` writes them.
#[test]
fn the_plots_are_those_of_the_code() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/retries");
    for (name, figure) in simulation::figures::all() {
        let drawn = std::fs::read_to_string(docs.join(name).with_extension("svg")).unwrap();
        assert!(drawn == figure.to_svg(), "{name} is not up to date");
    }
}
