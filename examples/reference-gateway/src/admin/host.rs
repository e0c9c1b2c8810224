//! Which hosts are this machine whoever answers for names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use gw_core::{Code, GrpcStatus, RejectContext, Rejection, Respond};

use crate::refused;

const FORBIDDEN: Code = Code::new(
    "FORBIDDEN",
    StatusCode::FORBIDDEN,
    "Without a token, only localhost and loopback addresses are answered as the host.",
    GrpcStatus::PermissionDenied,
);

/// A page that a browser on this machine shows can ask for anything here, and may read the answer if its own name resolves to
/// a loopback address (DNS rebinding). That name is then the host, and only its owner can have it resolve so.
pub(super) async fn require(
    State(respond): State<Respond>,
    request: Request,
    next: Next,
) -> Response {
    if is_asked_as_loopback(&request) {
        return next.run(request).await;
    }
    let context = RejectContext::of(&request);
    refused::answer(&respond, Rejection::new(&FORBIDDEN), context)
}

/// Whether there is a host, and all that are named are this machine: who repeats one, or has another in the target, means something.
fn is_asked_as_loopback<B>(request: &axum::http::Request<B>) -> bool {
    let fields = request.headers().get_all(header::HOST);
    let fields = fields
        .iter()
        .map(|host| Authority::try_from(host.as_bytes()).ok());
    let mut hosts = fields
        .chain(request.uri().authority().cloned().map(Some))
        .peekable();
    hosts.peek().is_some() && hosts.all(|host| host.is_some_and(|host| is_loopback(host.host())))
}

/// Names are compared without case.
fn is_loopback(host: &str) -> bool {
    let v6 = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let address: Option<IpAddr> = match v6 {
        Some(host) => host.parse::<Ipv6Addr>().map(IpAddr::V6).ok(),
        None => host.parse::<Ipv4Addr>().map(IpAddr::V4).ok(),
    };
    host.eq_ignore_ascii_case("localhost")
        || address.is_some_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn asked(target: &str, hosts: &[&str]) -> bool {
        let request = Request::builder().uri(target);
        let request = hosts
            .iter()
            .fold(request, |request, host| request.header("host", *host));
        is_asked_as_loopback(&request.body(()).unwrap())
    }

    #[test]
    fn only_what_nobody_can_resolve_otherwise_is_this_machine() {
        for host in [
            "localhost",
            "LocalHost:9901",
            "127.0.0.1",
            "127.8.8.8:80",
            "[::1]",
            "[::1]:9901",
            "[::ffff:127.0.0.1]:9901",
        ] {
            assert!(asked("/", &[host]), "{host}");
        }
        for host in [
            "",
            ":9901",
            "evil.example",
            "evil.example:9901",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhost.",
            "0.0.0.0",
            "10.0.0.1",
            "127.1",
            "2130706433",
            "[::]",
            "[fe80::1]",
            "::1",
            "localhost evil.example",
        ] {
            assert!(!asked("/", &[host]), "{host}");
        }
    }

    #[test]
    fn each_host_that_is_named_counts() {
        assert!(!asked("/", &[]));
        assert!(!asked("/", &["localhost", "evil.example"]));
        assert!(!asked("http://evil.example/", &["localhost"]));
        assert!(!asked("http://localhost/", &["evil.example"]));
        assert!(asked("http://localhost:9901/", &["localhost:9901"]));
    }
}
