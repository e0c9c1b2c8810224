//! Log uploads: from the socket to the disk, from the disk to the search node.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use gw_core::key::ClientIp;
use gw_logingest::consumer::{Consumer, ConsumerHandle};
use gw_logingest::dead_letter::DeadLetterFile;
use gw_logingest::intake::{Classifier, ClientKey};
use gw_logingest::sink::elasticsearch::ElasticsearchSink;
use gw_logingest::{DiskQueue, IngestHandle, IngestLayer, LogIngest, Pressure, Queue as _};

use crate::gateway::Ledger;
use crate::scenario::LOGS_PATH;

/// The intake, the queue behind it, and the consumer that empties the queue.
#[derive(Debug)]
pub(super) struct Intake {
    layer: IngestLayer<DiskQueue>,
    intake: IngestHandle,
    queue: DiskQueue,
    consumer: ConsumerHandle,
}

impl Intake {
    /// Opens the queue in `directory` and begins to deliver what is in it.
    pub(super) fn start(directory: &Path, sink: SocketAddr) -> io::Result<Self> {
        // Far more than the flood brings, and little enough for a temporary directory.
        let queue = DiskQueue::builder(directory.join("queue"))
            .segment_bytes(4 << 20)
            .max_bytes(64 << 20)
            .open()
            .map_err(io::Error::other)?;
        // By this handle the consumer tells the intake how the search node fares.
        let pressure = Pressure::new();
        let ingest = LogIngest::builder(queue.clone())
            .classifier(Classifier::new().path(LOGS_PATH))
            .clients([ClientKey::Ip(ClientIp::new())])
            .pressure(pressure.clone())
            .build()
            .map_err(io::Error::other)?;
        let sink = ElasticsearchSink::builder("logs")
            .node(format!("http://{sink}"))
            .build()
            .map_err(io::Error::other)?;
        let dead_letters = DeadLetterFile::new(directory.join("dead-letters"), 1 << 20)
            .map_err(io::Error::other)?;
        let consumer = Consumer::builder(queue.clone(), sink)
            .dead_letters(dead_letters)
            .pressure(pressure)
            .build()
            .map_err(io::Error::other)?;
        let handle = consumer.handle();
        tokio::spawn(consumer.run(pending()));
        Ok(Self {
            layer: ingest.layer(LOGS_PATH).map_err(io::Error::other)?,
            intake: ingest.handle(),
            queue,
            consumer: handle,
        })
    }

    /// Answers the route for logs in front of another service.
    pub(super) const fn layer(&self) -> &IngestLayer<DiskQueue> {
        &self.layer
    }

    /// What became of the events so far.
    pub(super) fn ledger(&self) -> Ledger {
        let consumer = self.consumer.status();
        Ledger {
            accepted: self.intake.snapshot().counts.accepted,
            delivered: consumer.delivered + consumer.duplicates,
            dead: consumer.dead,
            queued: self.queue.status().events,
        }
    }
}
