//! The sink for the `_bulk` interface of Elasticsearch and OpenSearch.
//!
//! Events are sent with `create` and their id, so that an event that is sent twice is in the index once. On a data stream
//! that holds for each backing index: what is repeated across a rollover can be there twice.

mod builder;
mod nodes;
mod outcome;
mod reply;
mod request;

use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use gw_core::RetryAfter;
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::time::{Instant, timeout};

pub use self::builder::ElasticsearchSinkBuilder;

use self::nodes::{Node, Nodes};
use super::{Delivery, Fault, Sink};
use crate::batch::Event;

/// A cluster may ask to be left alone for so long at the most.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// How much is read of an answer that speaks of the whole request. A [`Reason`](super::Reason) keeps the beginning; a cluster's own words
/// end within this, so that its connection can be used again.
const EXPLANATION: usize = 16 * 1024;

/// Delivers to one index or data stream of a cluster, over HTTP/1 without TLS.
pub struct ElasticsearchSink {
    client: Client<HttpConnector, Full<Bytes>>,
    nodes: Nodes,
    path: String,
    authorization: Option<HeaderValue>,
    request_timeout: Duration,
    max_reply: usize,
}

/// A node did not do its part, so another may.
enum NodeFault {
    /// Nothing was sent.
    Unreachable,
    /// The request may have been carried out.
    Failed(Delivery),
}

impl ElasticsearchSink {
    /// A sink for this index or data stream, which should exist: with a template and a strict mapping if possible.
    pub fn builder(index: impl Into<String>) -> ElasticsearchSinkBuilder {
        ElasticsearchSinkBuilder::new(index.into())
    }

    async fn ask(&self, node: &Node, body: Bytes, events: &[Event]) -> Result<Delivery, NodeFault> {
        let request = request::to(node, &self.path, self.authorization.clone(), body);
        let response = self.client.request(request).await.map_err(|error| {
            if error.is_connect() {
                NodeFault::Unreachable
            } else {
                NodeFault::Failed(retry(None, Fault::Connection))
            }
        })?;
        let status = response.status();
        let after = response.headers().get(RETRY_AFTER).and_then(wait);
        if status != StatusCode::OK {
            let (text, _) = read(response.into_body(), EXPLANATION).await;
            let delivery = outcome::of_request(status, after, &text);
            return match status.as_u16() {
                // The node is not well, or not allowed to speak for the cluster.
                500..=599 => Err(NodeFault::Failed(delivery)),
                _ => Ok(delivery),
            };
        }
        let (text, true) = read(response.into_body(), self.max_reply).await else {
            return Err(NodeFault::Failed(retry(after, Fault::Garbled)));
        };
        Ok(match reply::parse(&text, events) {
            Some(items) => Delivery::Items(items),
            None => retry(after, Fault::Garbled),
        })
    }
}

/// The body of an answer, and whether that is all of it: it may break off, and no more than `most` bytes are read. They are copied
/// together as they come, since pieces of one byte cost many times that to keep.
async fn read(mut body: Incoming, most: usize) -> (Vec<u8>, bool) {
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return (text, false);
        };
        let data = frame.into_data().unwrap_or_default();
        let room = most - text.len();
        text.extend_from_slice(data.get(..room).unwrap_or(&data));
        if data.len() > room {
            return (text, false);
        }
    }
    (text, true)
}

impl Sink for ElasticsearchSink {
    async fn deliver(&self, events: &[Event]) -> Delivery {
        let body = request::body(events);
        let deadline = Instant::now() + self.request_timeout;
        // Another node is asked only if nothing was sent to the one before: a cluster that is slow must not get the same
        // request from each side.
        for place in self.nodes.order(Instant::now()) {
            let Some(node) = self.nodes.get(place) else {
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let asked = timeout(left, self.ask(node, body.clone(), events)).await;
            let fault = match asked {
                Ok(Ok(delivery)) => {
                    self.nodes.well(place);
                    return delivery;
                }
                Ok(Err(fault)) => fault,
                Err(_) => NodeFault::Failed(retry(None, Fault::Timeout)),
            };
            self.nodes.unwell(place, Instant::now());
            if let NodeFault::Failed(delivery) = fault {
                return delivery;
            }
        }
        retry(None, Fault::Connection)
    }
}

impl fmt::Debug for ElasticsearchSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The authorization is left out.
        f.debug_struct("ElasticsearchSink")
            .field("nodes", &self.nodes)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

const fn retry(after: Option<Duration>, fault: Fault) -> Delivery {
    Delivery::Retry { after, fault }
}

fn wait(value: &HeaderValue) -> Option<Duration> {
    let wait = RetryAfter::parse(value, SystemTime::now())?;
    Some(wait.min(MAX_RETRY_AFTER))
}
