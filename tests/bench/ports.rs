//! Free ports on loopback.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use super::Result;

/// So many different addresses on which nobody listens at this moment. Somebody else may take one before its server
/// does; that server then fails to start, and the measurement says so.
///
/// # Errors
///
/// If the system has no port left.
pub fn free<const COUNT: usize>() -> Result<[SocketAddr; COUNT]> {
    // All are held until all are known, so that none comes twice.
    let mut held = Vec::with_capacity(COUNT);
    let mut addrs = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); COUNT];
    for addr in &mut addrs {
        let listener = TcpListener::bind(*addr)?;
        *addr = listener.local_addr()?;
        held.push(listener);
    }
    Ok(addrs)
}

#[cfg(test)]
mod tests {
    #[test]
    fn ports_differ() {
        let [a, b, c] = super::free().unwrap();
        assert!(a != b && b != c && a != c);
        assert_ne!(a.port(), 0);
    }
}
