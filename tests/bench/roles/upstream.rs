//! The upstream that answers at once.

use std::convert::Infallible;
use std::future::ready;
use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;

use super::{bind, server};
use crate::bench::Result;

const DOCUMENT: &[u8] =
    br#"{"id":4711,"status":"shipped","total":"129.90","currency":"EUR","items":[{"sku":"A-100","quantity":2}]}"#;

pub(super) async fn serve(listen: SocketAddr) -> Result<()> {
    let handler = service_fn(|_: Request<Incoming>| {
        let mut response = Response::new(Full::new(Bytes::from_static(DOCUMENT)));
        let fields = response.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        ready(Ok::<_, Infallible>(response))
    });
    server::serve(bind(listen).await?, handler).await
}
