//! Two threads that use one limiter as fast as they can.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;

use gw_tests::bench::Result;

use crate::check::{Allowance, Check, Governor, Gw, GwAt, Pingora};
use crate::keyed::{COMPACT, GOVERNOR, GOVERNOR_STD, OURS, OURS_AT, PINGORA, filled};
use crate::subject::Subject;
use crate::walk::Walk;

/// Both for one client.
///
/// # Errors
///
/// If a limiter cannot be built.
pub fn one_key(_: u64) -> Result<Vec<Subject>> {
    both(1, Allowance::Ample)
}

/// Each for one of many clients after the other, in random orders.
///
/// # Errors
///
/// If a limiter cannot be built.
pub fn spread(keys: u64) -> Result<Vec<Subject>> {
    both(keys, Allowance::Lasting)
}

fn both(keys: u64, allowance: Allowance) -> Result<Vec<Subject>> {
    Ok(vec![
        threads("the walk", keys, Nothing),
        threads(OURS, keys, known(keys, Gw::new(allowance))?),
        threads(OURS_AT, keys, known(keys, GwAt::new(allowance))?),
        threads(
            COMPACT,
            keys,
            known(keys, Gw::compact(keys.max(1_000), allowance))?,
        ),
        threads(
            GOVERNOR,
            keys,
            known(keys, Governor::<u64>::new(allowance))?,
        )
        .beside(OURS),
        threads(
            GOVERNOR_STD,
            keys,
            known(keys, Governor::<u64, _>::with_std_clock(allowance))?,
        )
        .beside(OURS),
        threads(PINGORA, keys, Pingora::new(allowance)).beside(OURS),
    ])
}

struct Nothing;

impl Check<u64> for Nothing {
    fn check(&self, key: &u64) -> bool {
        black_box(*key) < u64::MAX
    }
}

fn known<L: Check<u64>>(keys: u64, limiter: Result<L>) -> Result<L> {
    filled(keys, || limiter).map(|(limiter, _)| limiter)
}

/// What is measured is the CPU time of both, so a check counts for as long as it keeps a processor.
fn threads(
    name: &'static str,
    keys: u64,
    limiter: impl Check<u64> + Send + Sync + 'static,
) -> Subject {
    let mut seed = 0;
    let many = move |times: u64| {
        seed += 2;
        on_two(times, |thread, times| {
            let mut walk = Walk::new(keys, seed + thread);
            (0..times)
                .map(|_| u64::from(limiter.check(&walk.next())))
                .sum()
        })
    };
    Subject::of_many(name, many).by_threads()
}

/// Has two threads, 0 and 1, each do `work` for half of the times at once; how often it came out as it should.
pub(crate) fn on_two(times: u64, work: impl Fn(u64, u64) -> u64 + Sync) -> u64 {
    let begin = Barrier::new(2);
    let work = |thread, times| {
        begin.wait();
        work(thread, times)
    };
    thread::scope(|scope| {
        let other = scope.spawn(|| work(1, times / 2));
        // A thread that panicked did nothing right.
        work(0, times - times / 2) + other.join().unwrap_or(0)
    })
}
