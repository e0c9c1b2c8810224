//! Free ports on loopback.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Result;

/// Where looking begins, above the ports of well-known services.
const FIRST: u16 = 10_000;

/// Ports handed out by this process. Tests run in parallel, and none may get another's.
static HANDED_OUT: AtomicU32 = AtomicU32::new(0);

/// So many different addresses on which nobody listens at this moment.
///
/// They lie below the ports that the kernel gives to clients. One of those would be taken again by the first connection
/// that happens to get it, before its server listens; and polling it until it accepts may connect it to itself.
///
/// # Errors
///
/// If there are not so many, or the kernel's range is not known.
pub fn free<const COUNT: usize>() -> Result<[SocketAddr; COUNT]> {
    let path = "/proc/sys/net/ipv4/ip_local_port_range";
    let range = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let below = first_number(&range).ok_or_else(|| format!("{path}: not understood"))?;
    let candidates = u32::from(below.saturating_sub(FIRST));
    let mut addrs = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); COUNT];
    for addr in &mut addrs {
        *addr = (0..candidates)
            .map(|_| candidate(candidates))
            .find(|&addr| TcpListener::bind(addr).is_ok())
            .ok_or_else(|| format!("no free port from {FIRST} to {below}"))?;
    }
    Ok(addrs)
}

/// The next address to try. Programs that run at the same time begin at different ones.
fn candidate(candidates: u32) -> SocketAddr {
    // Odd, and no round number: process ids that follow each other spread over the range.
    let begin = process::id().wrapping_mul(7_919);
    let offset = begin.wrapping_add(HANDED_OUT.fetch_add(1, Ordering::Relaxed)) % candidates;
    let port = u16::try_from(offset).unwrap_or(0) + FIRST;
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn first_number(range: &str) -> Option<u16> {
    range.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ() {
        let [a, b, c] = free().unwrap();
        let [d] = free().unwrap();
        for addr in [b, c, d] {
            assert_ne!(a, addr);
            assert!(addr.port() >= FIRST);
        }
        assert!(b != c && b != d && c != d);
    }

    #[test]
    fn the_kernels_range() {
        assert_eq!(first_number("32768\t60999\n"), Some(32_768));
        assert_eq!(first_number(""), None);
    }
}
