//! The least that a log intake does: reads a body whole, makes it durable together with the others that wait, and says so.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;

use super::{bind, server};
use crate::bench::Result;
use crate::bench::group_commit::GroupCommit;

pub(super) async fn serve(listen: SocketAddr) -> Result<()> {
    let commit = GroupCommit::start(Path::new("."))?;
    let handler = service_fn(move |request: Request<Incoming>| {
        let commit = commit.clone();
        async move {
            let (status, text) = match take(&commit, request).await {
                Ok(()) => (StatusCode::ACCEPTED, String::new()),
                Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            };
            let mut response = Response::new(Full::new(Bytes::from(text)));
            *response.status_mut() = status;
            Ok::<_, Infallible>(response)
        }
    });
    server::serve(bind(listen).await?, handler).await
}

async fn take(commit: &GroupCommit, request: Request<Incoming>) -> Result<()> {
    let body = request.into_body().collect().await?;
    commit.store(body.to_bytes()).await
}
