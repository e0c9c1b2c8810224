//! Anything that can happen, in any order, against what must always hold.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Report(usize, Outcome, u64, usize),
    /// A whole interval's traffic: which endpoints fail, and which are slow.
    Traffic(u8, u8),
    Pass(u64),
    Healthy(usize, bool),
    Eject(usize),
    Readmit(usize),
    Mode(Mode),
    Replace(Vec<usize>),
    Reconfigure(u32, u32),
}

fn step() -> impl Strategy<Value = Step> {
    let endpoint = 0usize..8;
    let outcome = prop_oneof![
        3 => Just(Outcome::Failure),
        2 => Just(Outcome::Success),
        1 => Just(Outcome::Ignored),
        1 => Just(Outcome::Throttled(None)),
    ];
    prop_oneof![
        8 => (endpoint.clone(), outcome, prop_oneof![Just(1), Just(60_000)], 1usize..8)
            .prop_map(|(n, outcome, latency, times)| Step::Report(n, outcome, latency, times)),
        4 => (any::<u8>(), any::<u8>()).prop_map(|(bad, slow)| Step::Traffic(bad, slow)),
        6 => prop_oneof![1u64..12_000, 1u64..400_000].prop_map(Step::Pass),
        2 => (endpoint.clone(), any::<bool>()).prop_map(|(n, healthy)| Step::Healthy(n, healthy)),
        1 => endpoint.clone().prop_map(Step::Eject),
        2 => endpoint.prop_map(Step::Readmit),
        1 => prop_oneof![Just(Mode::Enforce), Just(Mode::Shadow), Just(Mode::Off)].prop_map(Step::Mode),
        1 => proptest::collection::vec(0usize..10, 0..9).prop_map(Step::Replace),
        1 => (1u32..8, 1u32..=100).prop_map(|(consecutive, percent)| Step::Reconfigure(consecutive, percent)),
    ]
}

struct Model {
    world: World,
    percent: u32,
    names: Vec<String>,
}

/// Ejected, out at all, forced out, in the set.
type Counts = (usize, usize, usize, usize);

impl Model {
    fn counts(&self) -> Counts {
        let snapshot = self.world.outliers.snapshot();
        let count = |is: fn(&EndpointState) -> bool| {
            snapshot.endpoints.iter().filter(|e| is(&e.state)).count()
        };
        (
            count(|state| matches!(state, EndpointState::Ejected { .. })),
            count(|state| *state != EndpointState::In && *state != EndpointState::ForcedOut),
            count(|state| *state == EndpointState::ForcedOut),
            snapshot.endpoints.len(),
        )
    }

    async fn run(&mut self, step: Step) {
        let before = self.counts();
        let reports = matches!(step, Step::Report(..) | Step::Traffic(..));
        match step {
            Step::Report(n, outcome, latency, times) => {
                for _ in 0..times {
                    let latency = Duration::from_millis(latency);
                    self.world.set.report(n, outcome, latency, self.world.now);
                }
            }
            Step::Traffic(bad, slow) => {
                for n in 0..120 {
                    for place in 0..self.world.set.len() {
                        let is = |mask: u8| mask & (1 << (place % 8)) != 0;
                        let failed = is(bad) && n % 4 == 0;
                        let outcome = if failed {
                            Outcome::Failure
                        } else {
                            Outcome::Success
                        };
                        let latency = if is(slow) { 8 * MS } else { MS };
                        self.world
                            .set
                            .report(place, outcome, latency, self.world.now);
                    }
                }
            }
            Step::Pass(millis) => self.world.pass(Duration::from_millis(millis)).await,
            Step::Healthy(n, healthy) => {
                self.world.outliers.set_healthy(&n.to_string(), healthy);
            }
            Step::Eject(n) => {
                self.world.outliers.eject(&n.to_string());
            }
            Step::Readmit(n) => {
                self.world.outliers.readmit(&n.to_string());
            }
            Step::Mode(mode) => self.world.outliers.set_mode(mode),
            Step::Replace(names) => {
                self.names = names.iter().map(usize::to_string).collect();
                self.world.set = self.world.outliers.endpoints(self.names.clone()).unwrap();
            }
            Step::Reconfigure(consecutive, percent) => {
                self.percent = percent;
                let config = config().consecutive(consecutive).max_percent(percent);
                self.world.outliers.reconfigure(&config).unwrap();
            }
        }
        if reports {
            self.assert_cap(before);
        }
        self.assert_usable();
    }

    /// A report that ejects leaves no more out than may be.
    fn assert_cap(&self, before: Counts) {
        let (ejected, out, forced, members) = self.counts();
        let members = members - forced;
        let most = (members * self.percent as usize / 100)
            .max(1)
            .min(members.saturating_sub(1));
        assert!(
            ejected <= before.0 || out <= most,
            "{out} of {members} out, at most {most}"
        );
        if self.world.outliers.mode() == Mode::Off {
            assert_eq!(ejected, 0);
        }
    }

    /// Whoever is usable is what the states say, and the share of those that are in.
    fn assert_usable(&self) {
        let snapshot = self.world.outliers.snapshot();
        let (_, out, forced, members) = self.counts();
        let members = members - forced;
        let panicking = snapshot.mode == Mode::Enforce && 2 * (members - out) < members;
        assert_eq!(snapshot.panicking, panicking);
        let all = panicking || snapshot.mode != Mode::Enforce;
        for (place, name) in self.names.iter().enumerate() {
            let state = snapshot
                .endpoints
                .iter()
                .find(|e| *e.name == **name)
                .unwrap()
                .state;
            let usable = match state {
                EndpointState::In => true,
                EndpointState::ForcedOut => false,
                _ => all,
            };
            assert_eq!(
                self.world.set.is_usable(place, self.world.now),
                usable,
                "{state:?}"
            );
        }
    }
}

proptest! {
    #[test]
    fn what_must_always_hold(steps in proptest::collection::vec(step(), 1..60), endpoints in 1usize..9) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let world = world(endpoints, config());
            let mut model = Model { world, percent: 50, names: names(endpoints) };
            for step in steps {
                model.run(step).await;
            }
            // Everyone comes back whom nobody holds, and nobody needs to report for that.
            model.world.pass(Duration::from_secs(331)).await;
            model.assert_usable();
            prop_assert_eq!(model.counts().0, 0);
            Ok(())
        })?;
    }
}
