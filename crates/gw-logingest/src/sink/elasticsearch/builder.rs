use std::time::Duration;

use gw_core::ConfigError;
use http::{HeaderValue, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::ElasticsearchSink;
use super::nodes::{Node, Nodes};

/// An idle connection is closed before a load balancer in between is likely to do so.
const IDLE: Duration = Duration::from_secs(30);
/// As many as a consumer opens at the most.
const IDLE_PER_NODE: usize = 32;
/// The longest time that can be configured: no point in time that is computed from it is beyond what a clock can tell.
const LONGEST: Duration = Duration::from_secs(3600);
const FILTER: &str =
    "items.*._id,items.*.status,items.*.error.type,items.*.error.reason,items.*.failure_store";

/// Settings of an [`ElasticsearchSink`].
#[derive(Debug, Clone)]
#[must_use]
pub struct ElasticsearchSinkBuilder {
    index: String,
    nodes: Vec<String>,
    authorization: Option<HeaderValue>,
    connect_timeout: Duration,
    request_timeout: Duration,
    max_reply: usize,
}

impl ElasticsearchSinkBuilder {
    pub(super) const fn new(index: String) -> Self {
        Self {
            index,
            nodes: Vec::new(),
            authorization: None,
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(30),
            max_reply: 16 * 1024 * 1024,
        }
    }

    /// Adds a node, as `http://host:port` with an optional path in front of the interface. Nodes take turns.
    pub fn node(mut self, url: impl Into<String>) -> Self {
        self.nodes.push(url.into());
        self
    }

    /// The `Authorization` of each request, such as `ApiKey ..`.
    pub fn authorization(mut self, mut value: HeaderValue) -> Self {
        value.set_sensitive(true);
        self.authorization = Some(value);
        self
    }

    /// How long connecting to a node may take. Two seconds by default.
    pub const fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// How long a request may take, from connecting to the end of the answer. 30 seconds by default.
    pub const fn request_timeout(mut self, limit: Duration) -> Self {
        self.request_timeout = limit;
        self
    }

    /// The most bytes of an answer; more is taken for garbled. 16 MiB by default. Each request that is under way may take as much
    /// memory for it, and twice that for a moment. An event that is refused may be quoted in the answer, so it should not be less than what
    /// a request may hold.
    pub const fn max_reply(mut self, bytes: usize) -> Self {
        self.max_reply = bytes;
        self
    }

    /// Checks the settings. No connection is made yet.
    ///
    /// # Errors
    ///
    /// If there is no node, a node's address or the name of the index cannot be used, a limit is zero or a
    /// time is longer than an hour.
    pub fn build(self) -> Result<ElasticsearchSink, ConfigError> {
        if !is_index(&self.index) {
            return Err(ConfigError::new(
                "index",
                "must be 1 to 255 of a-z, 0-9, '.', '_', '-', '+' and begin with a letter or a digit",
            ));
        }
        if self.nodes.is_empty() {
            return Err(ConfigError::new("nodes", "must name at least one"));
        }
        let rules = [
            ("connect_timeout", self.connect_timeout),
            ("request_timeout", self.request_timeout),
        ];
        for (field, limit) in rules {
            if limit.is_zero() || limit > LONGEST {
                return Err(ConfigError::new(
                    field,
                    "must be above 0 and at most an hour",
                ));
            }
        }
        if self.max_reply == 0 {
            return Err(ConfigError::new("max_reply", "must be greater than zero"));
        }
        let nodes: Result<Vec<Node>, ConfigError> =
            self.nodes.iter().map(|url| node(url)).collect();
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(self.connect_timeout));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_PER_NODE)
            .build(connector);
        Ok(ElasticsearchSink {
            client,
            nodes: Nodes::new(nodes?),
            path: format!("/{}/_bulk?filter_path={FILTER}", self.index),
            authorization: self.authorization,
            request_timeout: self.request_timeout,
            max_reply: self.max_reply,
        })
    }
}

fn node(url: &str) -> Result<Node, ConfigError> {
    let uri: Uri = url
        .parse()
        .map_err(|_| ConfigError::new("nodes", "must be addresses such as http://host:9200"))?;
    if uri.scheme_str() != Some("http") {
        return Err(ConfigError::new(
            "nodes",
            "must begin with http://; TLS is not spoken",
        ));
    }
    let authority = uri.authority().cloned();
    let authority = authority.filter(|authority| !authority.as_str().contains('@'));
    let Some(authority) = authority else {
        return Err(ConfigError::new(
            "nodes",
            "must not hold credentials: use authorization",
        ));
    };
    if uri.query().is_some() {
        return Err(ConfigError::new("nodes", "must not hold a query"));
    }
    Ok(Node::new(authority, uri.path().trim_end_matches('/')))
}

/// The names that a cluster takes and that need no escaping in a path.
fn is_index(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.len() <= 255
        && bytes
            .next()
            .is_some_and(|first| first.is_ascii_lowercase() || first.is_ascii_digit())
        && bytes.all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-+".contains(&byte)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(builder: ElasticsearchSinkBuilder) -> String {
        let error = builder.build().err();
        error.map_or_else(String::new, |error| error.field().to_owned())
    }

    #[test]
    fn settings_are_checked() {
        let good =
            || ElasticsearchSink::builder("logs-gw-default").node("http://127.0.0.1:9200/es/");
        assert_eq!(field(good()), "");
        assert_eq!(field(ElasticsearchSink::builder("logs")), "nodes");
        for name in ["", "Logs", "_logs", "a/b", "a b", "-a"] {
            let builder = ElasticsearchSink::builder(name).node("http://x:1");
            assert_eq!(field(builder), "index", "{name:?}");
        }
        for url in [
            "x:1",
            "https://x:1",
            "http://u:p@x:1",
            "http://x:1/?a=b",
            "",
            "http://",
        ] {
            let builder = ElasticsearchSink::builder("logs").node(url);
            assert_eq!(field(builder), "nodes", "{url:?}");
        }
        let hour = Duration::from_secs(3600);
        assert_eq!(
            field(good().connect_timeout(hour).request_timeout(hour)),
            ""
        );
        for limit in [Duration::ZERO, hour + Duration::from_nanos(1)] {
            assert_eq!(field(good().connect_timeout(limit)), "connect_timeout");
            assert_eq!(field(good().request_timeout(limit)), "request_timeout");
        }
        assert_eq!(field(good().max_reply(0)), "max_reply");
    }

    #[test]
    fn the_credentials_are_not_shown() {
        let builder = ElasticsearchSink::builder("logs").node("http://x:1");
        let builder = builder.authorization(HeaderValue::from_static("ApiKey secret"));
        assert!(!format!("{builder:?}").contains("secret"));
        assert!(!format!("{:?}", builder.build().unwrap()).contains("secret"));
    }
}
