//! `[log_ingest]`. The defaults are the contract's.

use std::num::NonZeroU32;
use std::path::PathBuf;

use gw_core::Mode;
use serde::Deserialize;

use crate::config::read::Broken;
use crate::config::value::{
    Endpoint, HttpUrl, Key, Rate, ServiceUrl, client_keys, count, size, text, whole,
};

/// How logs are taken in and where they go.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogIngest {
    pub queue: LogQueue,
    pub sink: LogSink,
    /// What tells one client from another: the first that a request has. Only addresses and
    /// headers.
    #[serde(deserialize_with = "client_keys")]
    pub client: Vec<Key>,
    pub on_invalid: OnInvalid,
    #[serde(deserialize_with = "size")]
    pub max_body_bytes: u64,
    #[serde(deserialize_with = "whole::<_, _, 1, 1_000_000>")]
    pub max_events: NonZeroU32,
    #[serde(deserialize_with = "size")]
    pub max_event_bytes: u64,
    pub per_client: PerClient,
}

impl Default for LogIngest {
    fn default() -> Self {
        Self {
            queue: LogQueue::Disk(DiskQueue::default()),
            sink: LogSink::Embedded(EmbeddedSink::default()),
            client: vec![
                Key::Header(http::HeaderName::from_static("x-client-id")),
                Key::Ip,
            ],
            on_invalid: OnInvalid::default(),
            max_body_bytes: 8 << 20,
            max_events: count(10_000),
            max_event_bytes: 256 << 10,
            per_client: PerClient::default(),
        }
    }
}

/// What happens to an event that the schema refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnInvalid {
    #[default]
    Reject,
    /// A raw line becomes the message of an event.
    Wrap,
}

/// `per_client`: batches of one client.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PerClient {
    pub rate: Rate,
    pub burst: NonZeroU32,
    pub mode: Mode,
}

impl Default for PerClient {
    fn default() -> Self {
        let per = std::time::Duration::from_secs(1);
        Self {
            rate: Rate {
                count: count(50),
                per,
            },
            burst: count(100),
            mode: Mode::default(),
        }
    }
}

/// `queue`: what stands between the answer 202 and the sink. `engine` names the kind.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename = "engine", rename_all = "kebab-case")]
pub enum LogQueue {
    Memory(MemoryQueue),
    Disk(DiskQueue),
    Redis(RedisQueue),
    Nats(NatsQueue),
    Kafka(KafkaQueue),
    Sqs(SqsQueue),
}

/// `engine = "memory"`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MemoryQueue {
    #[serde(deserialize_with = "size")]
    pub max_bytes: u64,
}

impl Default for MemoryQueue {
    fn default() -> Self {
        // A sixteenth of the default `server.memory.limit`: the queue must not be what makes the
        // gateway shed.
        Self {
            max_bytes: 64 << 20,
        }
    }
}

/// `engine = "disk"`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiskQueue {
    #[serde(deserialize_with = "text")]
    pub dir: PathBuf,
    #[serde(deserialize_with = "size")]
    pub max_bytes: u64,
    /// For what is known of the batches in the files.
    #[serde(deserialize_with = "size")]
    pub max_memory: u64,
    pub durability: Durability,
}

impl Default for DiskQueue {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("log-queue"),
            max_bytes: 1 << 30,
            max_memory: 64 << 20,
            durability: Durability::default(),
        }
    }
}

/// What a 202 promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// Survives the death of the process.
    Process,
    /// Survives the loss of power.
    #[default]
    Fsync,
}

/// `engine = "redis"`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisQueue {
    /// `redis://` or `rediss://`
    pub url: ServiceUrl,
    pub stream: String,
}

/// `engine = "nats"`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatsQueue {
    /// `nats://` or `tls://`
    pub url: ServiceUrl,
    pub stream: String,
}

/// `engine = "kafka"`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaQueue {
    /// `host:port`, at least one.
    pub brokers: Vec<String>,
    pub topic: String,
}

/// `engine = "sqs"`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqsQueue {
    pub endpoint: Endpoint,
    pub queue_url: HttpUrl,
}

/// `sink`: where events end up. `kind` names the kind.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename = "kind", rename_all = "kebab-case")]
pub enum LogSink {
    Embedded(EmbeddedSink),
    File(FileSink),
    Elasticsearch(ElasticsearchSink),
}

/// `kind = "embedded"`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EmbeddedSink {
    #[serde(deserialize_with = "text")]
    pub dir: PathBuf,
}

impl Default for EmbeddedSink {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("log-index"),
        }
    }
}

/// `kind = "file"`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSink {
    #[serde(deserialize_with = "text")]
    pub path: PathBuf,
}

/// `kind = "elasticsearch"`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "ElasticsearchTable")]
pub struct ElasticsearchSink {
    /// At least one.
    pub nodes: Vec<HttpUrl>,
    pub target: EsTarget,
}

/// Where documents are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EsTarget {
    Index(String),
    DataStream(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ElasticsearchTable {
    nodes: Vec<HttpUrl>,
    index: Option<String>,
    data_stream: Option<String>,
}

impl TryFrom<ElasticsearchTable> for ElasticsearchSink {
    type Error = Broken;

    fn try_from(table: ElasticsearchTable) -> Result<Self, Broken> {
        let target = match (table.index, table.data_stream) {
            (Some(index), None) => EsTarget::Index(index),
            (None, Some(stream)) => EsTarget::DataStream(stream),
            (_, stream) => {
                return Err(Broken {
                    key: stream.map(|_| "data_stream"),
                    rule: "must have exactly one of `index` and `data_stream`",
                });
            }
        };
        Ok(Self {
            nodes: table.nodes,
            target,
        })
    }
}
