use gw_logingest::sink::elasticsearch::ElasticsearchSink;
use gw_logingest::sink::{Delivery, FileSink, Sink};
use gw_logingest::{ConfigError, Event};

use crate::assembly::Fault;
use crate::config::{KeyPath, table};

/// The sink that the file asks for.
#[derive(Debug)]
pub(super) enum Outlet {
    File(FileSink),
    // Boxed: it is much larger than the other.
    Elasticsearch(Box<ElasticsearchSink>),
}

impl Outlet {
    /// None for a sink that is not there yet. Nothing is opened.
    pub(super) fn new(written: &table::LogSink) -> Result<Option<Self>, Fault> {
        Ok(match written {
            table::LogSink::Embedded(_) => None,
            table::LogSink::File(sink) => Some(Self::File(FileSink::new(&sink.path))),
            table::LogSink::Elasticsearch(sink) => {
                let cluster = elasticsearch(sink).map_err(|error| fault(sink, &error))?;
                Some(Self::Elasticsearch(Box::new(cluster)))
            }
        })
    }
}

fn elasticsearch(written: &table::ElasticsearchSink) -> Result<ElasticsearchSink, ConfigError> {
    let (table::EsTarget::Index(name) | table::EsTarget::DataStream(name)) = &written.target;
    let builder = ElasticsearchSink::builder(name.as_str());
    let nodes = written.nodes.iter();
    nodes
        .fold(builder, |builder, node| {
            builder.node(node.uri().to_string())
        })
        .build()
}

fn fault(written: &table::ElasticsearchSink, error: &ConfigError) -> Fault {
    let field = match (error.field(), &written.target) {
        ("index", table::EsTarget::DataStream(_)) => "data_stream",
        (field, _) => field,
    };
    Fault::new(KeyPath::from("log_ingest.sink").below(field), error.rule())
}

impl Sink for Outlet {
    async fn deliver(&self, events: &[Event]) -> Delivery {
        match self {
            Self::File(sink) => sink.deliver(events).await,
            Self::Elasticsearch(sink) => sink.deliver(events).await,
        }
    }
}
