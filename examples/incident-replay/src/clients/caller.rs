use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;

use crate::connector;
use crate::measure::Outcome;
use crate::scenario::CLIENT_PATIENCE;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// One client's way to the gateway: an HTTP/2 connection of its own, so that requests without an answer cost no sockets
/// and do not hold up the next ones. The balancer that would stand in front reports its address.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    client: Client<HttpConnector, Full<Bytes>>,
    gateway: SocketAddr,
    address: HeaderValue,
}

impl Caller {
    /// Connects with the first request.
    pub(super) fn new(gateway: SocketAddr, address: Ipv4Addr) -> Self {
        // Digits and dots are a valid field value.
        let address = HeaderValue::try_from(address.to_string())
            .unwrap_or(HeaderValue::from_static("192.0.2.1"));
        Self {
            client: connector::http2(),
            gateway,
            address,
        }
    }

    /// Sends JSON and reads the answer to its end, for as long as the client's patience lasts.
    pub(super) async fn post(&self, path: &str, body: Bytes) -> Outcome {
        let exchange = async {
            let request = Request::post(format!("http://{}{path}", self.gateway))
                .header(CONTENT_TYPE, "application/json")
                .header(X_FORWARDED_FOR, &self.address)
                .body(Full::new(body))
                .ok()?;
            let response = self.client.request(request).await.ok()?;
            let status: StatusCode = response.status();
            response.into_body().collect().await.ok()?;
            Some(status.as_u16())
        };
        match tokio::time::timeout(CLIENT_PATIENCE, exchange).await {
            Ok(Some(status)) => Outcome::Status(status),
            Ok(None) | Err(_) => Outcome::None,
        }
    }
}
