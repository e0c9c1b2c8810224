//! Allocations, as the allocator counts them with the feature `allocations`. To count makes each of them dearer by 5 ns.

/// What was allocated while something ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocations {
    /// How often.
    pub count: u64,
    /// The bytes that were not given back.
    pub held: i64,
}

/// What `run` comes to, and what it allocates on this thread; that only if it is counted.
#[cfg(feature = "allocations")]
pub fn of<T>(run: impl FnOnce() -> T) -> (T, Option<Allocations>) {
    let mut ended = None;
    let counted = allocation_counter::measure(|| ended = Some(run()));
    let allocations = Allocations {
        count: counted.count_total,
        held: counted.bytes_current,
    };
    match ended {
        Some(ended) => (ended, Some(allocations)),
        None => unreachable!("it was run"),
    }
}

/// What `run` comes to, and what it allocates on this thread; that only if it is counted.
#[cfg(not(feature = "allocations"))]
pub fn of<T>(run: impl FnOnce() -> T) -> (T, Option<Allocations>) {
    (run(), None)
}
