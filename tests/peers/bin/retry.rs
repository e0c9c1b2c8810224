//! What a retry layer costs where nothing is retried: gw-retry beside tower's and tower-resilience's.
//!
//! See `docs/benchmarks.md`.

fn main() -> gw_tests::bench::Result<()> {
    gw_peers::program::run(gw_peers::RETRIES)
}
