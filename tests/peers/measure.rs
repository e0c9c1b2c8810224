//! Rounds in which all subjects of a case take turns.

use std::time::Duration;

use gw_tests::bench::Result;
use gw_tests::bench::statistics::median;
use rustix::time::{ClockId, clock_gettime};

use crate::allocations;
use crate::subject::Subject;

/// What one subject cost.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// CPU time in nanoseconds.
    pub nanos: f64,
    /// What is left of them without what the first subject takes.
    pub over: f64,
    /// What ours takes of what this takes, both without the first.
    pub ratio: Option<f64>,
    /// Allocations, where one thread does it all.
    pub allocations: Option<f64>,
}

/// How long all take, in CPU time: it goes on while the process runs, and stands still while others do.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}

fn nanos(subject: &mut Subject, times: u64) -> Result<f64> {
    let before = cpu();
    subject.run(times)?;
    let taken = cpu().saturating_sub(before);
    Ok(taken.as_nanos() as f64 / times as f64)
}

/// How many times fit into a slice, warm.
fn times(subject: &mut Subject, slice: Duration) -> Result<u64> {
    let mut times = 1_000;
    loop {
        let each = nanos(subject, times)?;
        let fit = (slice.as_nanos() as f64 / each.max(0.1)) as u64;
        if fit <= 2 * times {
            return Ok(fit.max(100));
        }
        times = fit.min(times * 16);
    }
}

/// Measures all in turns, a slice each, so that whatever else the machine does meets all alike. Medians over rounds; ratios
/// are those of one round.
///
/// # Errors
///
/// If a subject does not do what it should.
pub fn measure(subjects: &mut [Subject], rounds: usize, slice: Duration) -> Result<Vec<Cost>> {
    let mut slices = Vec::with_capacity(subjects.len());
    for subject in &mut *subjects {
        slices.push(times(subject, slice)?);
    }
    // By subject, then by round.
    let mut taken = vec![Vec::with_capacity(rounds); subjects.len()];
    for round in 0..rounds {
        let mut turn: Vec<_> = subjects.iter_mut().zip(&slices).zip(&mut taken).collect();
        // Who comes after whom changes, since each leaves its data in the caches.
        let first = round % turn.len().max(1);
        turn.rotate_left(first);
        if round % 2 == 1 {
            turn.reverse();
        }
        for ((subject, times), taken) in turn {
            taken.push(nanos(subject, *times)?);
        }
    }
    let floor = taken.first().cloned().unwrap_or_default();
    let over: Vec<Vec<f64>> = taken.iter().map(|one| less(one, &floor)).collect();
    let mut costs = Vec::with_capacity(subjects.len());
    for (subject, (taken, own)) in subjects.iter().zip(taken.iter().zip(&over)) {
        let ours = subjects
            .iter()
            .position(|other| subject.beside == Some(other.name));
        let ours = ours.and_then(|ours| over.get(ours));
        costs.push(Cost {
            nanos: median(taken.iter().copied()),
            over: median(own.iter().copied()),
            ratio: ours.map(|ours| median(ours.iter().zip(own).map(|(ours, own)| ours / own))),
            allocations: None,
        });
    }
    for (subject, cost) in subjects.iter_mut().zip(&mut costs) {
        cost.allocations = allocations(subject)?;
    }
    Ok(costs)
}

fn less(one: &[f64], floor: &[f64]) -> Vec<f64> {
    one.iter()
        .zip(floor)
        .map(|(one, floor)| one - floor)
        .collect()
}

fn allocations(subject: &mut Subject) -> Result<Option<f64>> {
    const TIMES: u64 = 1_000;
    if !subject.alone {
        return Ok(None);
    }
    let (ended, counted) = allocations::of(|| subject.run(TIMES));
    ended?;
    Ok(counted.map(|counted| counted.count as f64 / TIMES as f64))
}
