//! What a place among a bounded number costs: gw-bulkhead beside tower's `ConcurrencyLimit`, the semaphore that it is made of,
//! and tower-resilience's bulkhead.
//!
//! See `docs/benchmarks.md`.

fn main() -> gw_tests::bench::Result<()> {
    gw_peers::program::run(gw_peers::BULKHEADS)
}
