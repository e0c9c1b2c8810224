//! A log intake on an axum app. It answers 202 once a batch is on disk, and delivers from there, to a file in this example.
//!
//! `log-intake [LISTEN] [DIRECTORY]`. Try: `curl -i http://127.0.0.1:3000/logs -H 'content-type: application/json' -d '{"trace_id":
//! "4bf92f3577b34da6a3ce929d0e0e4736","service":"shop","level":"info","message":"hello"}'`, and kill it as you like: what was
//! answered 202 is in DIRECTORY/events.ndjson after the next start.
#![allow(clippy::print_stdout, reason = "the line says where it listens")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::{env, error::Error, future::pending};

use axum::{Router, routing::get};
use gw_logingest::consumer::Consumer;
use gw_logingest::dead_letter::DeadLetterFile;
use gw_logingest::intake::Classifier;
use gw_logingest::sink::FileSink;
use gw_logingest::{DiskQueue, LogIngest, Pressure};
use tokio::net::TcpListener;

const PATH: &str = "/logs";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let listen = args.next().unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let directory = PathBuf::from(args.next().unwrap_or_else(|| "log-intake".to_owned()));

    let queue = DiskQueue::builder(directory.join("queue")).open()?;
    // By this the consumer tells the intake how the sink fares: reports of failed uploads wait while it is down.
    let pressure = Pressure::new();
    // `sink::elasticsearch::ElasticsearchSink` delivers to a cluster.
    let consumer = Consumer::builder(
        queue.clone(),
        FileSink::new(directory.join("events.ndjson")),
    )
    .dead_letters(DeadLetterFile::new(
        directory.join("dead.ndjson"),
        64 << 20,
    )?)
    .pressure(pressure.clone())
    .build()?;
    tokio::spawn(consumer.run(pending()));
    let ingest = LogIngest::builder(queue)
        // An error that names this path is about a failed upload.
        .classifier(Classifier::new().path(PATH))
        .pressure(pressure)
        .build()?;

    let app = Router::new()
        .route("/", get(|| async { "hello\n" }))
        .layer(ingest.layer(PATH)?);
    // Clients are told apart by their addresses, and each has its share of the queue.
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let listener = TcpListener::bind(listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let stop = async { _ = tokio::signal::ctrl_c().await };
    axum::serve(listener, app)
        .with_graceful_shutdown(stop)
        .await?;
    // What is not delivered by now is on disk, and goes out after the next start.
    Ok(())
}
