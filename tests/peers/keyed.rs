//! One thread, one policy.

use std::hint::black_box;

use gw_tests::bench::Result;

use crate::allocations;
use crate::check::{Allowance, Array, Check, Governor, Gw, GwAt, Key, Pingora};
use crate::subject::Subject;
use crate::walk::{Text, Walk};

pub(crate) const OURS: &str = "gw";
pub(crate) const OURS_AT: &str = "gw, time given";
pub(crate) const COMPACT: &str = "gw, compact";
const ARRAY: &str = "an array of 24 bytes a key";
const SMALL_ARRAY: &str = "an array of 8 bytes a key";
pub(crate) const GOVERNOR: &str = "governor";
pub(crate) const GOVERNOR_STD: &str = "governor, std clock";
pub(crate) const PINGORA: &str = "pingora-limits (estimate)";

/// A single client.
///
/// # Errors
///
/// If a limiter cannot be built.
pub fn one_key(_: u64) -> Result<Vec<Subject>> {
    one(Allowance::Ample)
}

/// A single client that is over its limit.
///
/// # Errors
///
/// If a limiter cannot be built.
pub fn refused(_: u64) -> Result<Vec<Subject>> {
    one(Allowance::Scarce)
}

fn one(allowance: Allowance) -> Result<Vec<Subject>> {
    Ok(vec![
        Subject::new("nothing", || black_box(7) == 7u64),
        over_and_over(OURS, Gw::new(allowance)?, allowance),
        over_and_over(OURS_AT, GwAt::new(allowance)?, allowance),
        over_and_over(COMPACT, Gw::compact(1_000, allowance)?, allowance),
        over_and_over(GOVERNOR, Governor::<u64>::new(allowance)?, allowance).beside(OURS),
        over_and_over(
            GOVERNOR_STD,
            Governor::<u64, _>::with_std_clock(allowance)?,
            allowance,
        )
        .beside(OURS),
        over_and_over(PINGORA, Pingora::new(allowance), allowance).beside(OURS),
    ])
}

fn over_and_over(
    name: &'static str,
    limiter: impl Check<u64> + 'static,
    allowance: Allowance,
) -> Subject {
    let allowed = allowance == Allowance::Ample;
    // The one that is allowed in any case.
    limiter.check(&7);
    Subject::new(name, move || limiter.check(&black_box(7)) == allowed)
}

/// Many clients with numbers, in random order.
///
/// # Errors
///
/// If a limiter cannot be built.
pub fn integers(keys: u64) -> Result<Vec<Subject>> {
    const MANY: Allowance = Allowance::Lasting;
    let mut walk = Walk::new(keys, 1);
    Ok(vec![
        Subject::new("the walk", move || black_box(walk.next()) < keys),
        walked(OURS, keys, || Gw::new(MANY))?,
        walked(OURS_AT, keys, || GwAt::new(MANY))?,
        walked(COMPACT, keys, || Gw::compact(keys, MANY))?,
        walked::<Array>(ARRAY, keys, || Ok(Array::new(keys * 3)))?,
        walked::<Array>(SMALL_ARRAY, keys, || Ok(Array::new(keys)))?,
        walked(GOVERNOR, keys, || Governor::<u64>::new(MANY))?.beside(OURS),
        walked(GOVERNOR_STD, keys, || {
            Governor::<u64, _>::with_std_clock(MANY)
        })?
        .beside(OURS),
        walked(PINGORA, keys, || Ok(Pingora::new(MANY)))?.beside(OURS),
    ])
}

fn walked<L: Check<u64> + 'static>(
    name: &'static str,
    keys: u64,
    build: impl FnOnce() -> Result<L>,
) -> Result<Subject> {
    let (limiter, bytes) = filled(keys, build)?;
    let mut walk = Walk::new(keys, 1);
    Ok(Subject::new(name, move || limiter.check(&walk.next())).holding(bytes))
}

/// Many clients with names, in random order.
///
/// # Errors
///
/// If a limiter cannot be built.
pub fn strings(keys: u64) -> Result<Vec<Subject>> {
    const MANY: Allowance = Allowance::Lasting;
    let (mut walk, mut text) = (Walk::new(keys, 1), Text::new());
    Ok(vec![
        Subject::new("the walk", move || {
            !black_box(text.key(walk.next())).is_empty()
        }),
        named(OURS, keys, || Gw::new(MANY))?,
        named(OURS_AT, keys, || GwAt::new(MANY))?,
        named(COMPACT, keys, || Gw::compact(keys, MANY))?,
        named(GOVERNOR, keys, || Governor::<String>::new(MANY))?.beside(OURS),
        named(GOVERNOR_STD, keys, || {
            Governor::<String, _>::with_std_clock(MANY)
        })?
        .beside(OURS),
        named(PINGORA, keys, || Ok(Pingora::new(MANY)))?.beside(OURS),
    ])
}

fn named<L: Check<String> + 'static>(
    name: &'static str,
    keys: u64,
    build: impl FnOnce() -> Result<L>,
) -> Result<Subject> {
    let (limiter, bytes) = filled(keys, build)?;
    let (mut walk, mut text) = (Walk::new(keys, 1), Text::new());
    Ok(Subject::new(name, move || limiter.check(text.key(walk.next()))).holding(bytes))
}

/// A limiter that knows all keys, and the bytes that it holds for each, its fixed parts shared out among them, if they are counted.
pub(crate) fn filled<K: Key, L: Check<K>>(
    keys: u64,
    build: impl FnOnce() -> Result<L>,
) -> Result<(L, Option<f64>)> {
    let (limiter, counted) = allocations::of(|| {
        build().inspect(|limiter| {
            for number in 0..keys {
                limiter.check(&K::of(number));
            }
        })
    });
    let bytes_a_key = counted.map(|counted| counted.held as f64 / keys as f64);
    Ok((limiter?, bytes_a_key))
}
