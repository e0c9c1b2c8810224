//! What a rate limit costs: gw-ratelimit beside governor, tower_governor, tower-resilience, tower and pingora-limits.
//!
//! See `docs/benchmarks.md`.

fn main() -> gw_tests::bench::Result<()> {
    gw_peers::program::run(gw_peers::CASES)
}
