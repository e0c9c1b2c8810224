//! What a circuit breaker costs: gw-breaker beside tower-resilience, failsafe and recloser.
//!
//! See `docs/benchmarks.md`.

fn main() -> gw_tests::bench::Result<()> {
    gw_peers::program::run(gw_peers::BREAKERS)
}
