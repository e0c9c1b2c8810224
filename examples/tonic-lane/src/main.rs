//! A gRPC service on tonic, with two methods in two lanes of one `BulkheadLayer`.
//!
//! `Report` blocks its thread, as a handler that computes or calls a blocking library does. Its lane has one place and a
//! thread of its own. All the rest shares the main thread, client and server too, and `Lookup` is answered meanwhile.
#![allow(clippy::print_stdout, reason = "the lines are what it is for")]

use std::{error::Error, future::ready, thread, time::Duration};

use axum::routing::{MethodRouter, Router, post};
use gw_bulkhead::{BulkheadLayer, LaneConfig, RespondWith};
use http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint, Server, server::TcpIncoming};
use tonic::{Request, Response, Status, body::Body};
use tonic_prost::ProstCodec;

const LOOKUP: &str = "/demo.Desk/Lookup";
const REPORT: &str = "/demo.Desk/Report";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // tonic's body is not `From<Bytes>`, so a refusal is told how to make one.
    let body = |bytes| Body::new(gw_core::Body::from(bytes));
    let lanes = BulkheadLayer::builder(8)
        .lane(LaneConfig::new("lookup").guaranteed(0.5))
        .lane(LaneConfig::new("reports").cap(0.125).threads(1))
        .classify(|head, lanes| lanes.find("reports").filter(|_| head.uri.path() == REPORT))
        .with_threads()
        .build()?
        .on_reject(RespondWith::new(body));

    let (begin, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let report = move |of: String| {
        _ = begin.send(thread::current());
        // Not for ever: were this the main thread, nobody could wake it.
        thread::park_timeout(Duration::from_secs(10));
        format!("all about {of}")
    };
    let methods = Router::new()
        .route(LOOKUP, method(|what| format!("{what} are in stock")))
        .route(REPORT, method(report));
    let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into())?;
    let server = format!("http://{}", incoming.local_addr()?);
    let routes = Server::builder().layer(lanes).add_routes(methods.into());
    tokio::spawn(routes.serve_with_incoming(incoming));
    let client = Endpoint::from_shared(server)?.connect().await?;

    let report = tokio::spawn(ask(client.clone(), REPORT));
    let blocked = begun.recv().await.ok_or("no report has begun")?;
    println!("a report has begun, and blocks its thread");
    for _ in 0..100 {
        ask(client.clone(), LOOKUP).await?;
    }
    let done = report.is_finished();
    println!("100 lookups answered, report done: {done}");
    let second = ask(client, REPORT).await.err().ok_or("not refused")?;
    println!("second report: {:?}, {}", second.code(), second.message());
    blocked.unpark();
    println!("first report: {}", report.await??);
    Ok(())
}

/// A unary method, served as generated code does. The messages are `google.protobuf.StringValue`.
fn method(answer: impl Fn(String) -> String + Clone + Send + Sync + 'static) -> MethodRouter {
    post(|request: axum::extract::Request| async move {
        let answer = |asked: Request<_>| ready(Ok(Response::new(answer(asked.into_inner()))));
        let mut grpc = tonic::server::Grpc::new(ProstCodec::default());
        grpc.unary(tower::service_fn(answer), request).await
    })
}

/// Asks as a generated client does.
async fn ask(client: Channel, method: &'static str) -> Result<String, Status> {
    let mut client = tonic::client::Grpc::new(client);
    let ready = client.ready().await;
    ready.map_err(|error| Status::unavailable(error.to_string()))?;
    let (path, asked) = (PathAndQuery::from_static(method), "shoes".to_owned());
    let answer = client.unary(Request::new(asked), path, ProstCodec::default());
    Ok(answer.await?.into_inner())
}
