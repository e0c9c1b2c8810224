//! What kind of cluster it is.

use super::mapping::Mapping;

const MIB: usize = 1024 * 1024;

/// What kind of cluster it is. It does not change while the simulator runs.
#[derive(Clone, Debug)]
pub struct Config {
    pub(super) product: Product,
    pub(super) mapping: Mapping,
    pub(super) max_fields: usize,
    pub(super) max_content_length: usize,
    pub(super) auto_create: bool,
    pub(super) data_streams: Vec<String>,
    pub(super) failure_store: bool,
    pub(super) authorization: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Product {
    Elasticsearch,
    OpenSearch,
}

impl Default for Config {
    fn default() -> Self {
        Self::elasticsearch()
    }
}

impl Config {
    /// Elasticsearch 9 with its defaults: dynamic mapping, 1000 fields, requests up to 100 MiB, indices made at the
    /// first write, no data streams, open to everybody.
    pub fn elasticsearch() -> Self {
        Self {
            product: Product::Elasticsearch,
            mapping: Mapping::dynamic(),
            max_fields: 1000,
            max_content_length: 100 * MIB,
            auto_create: true,
            data_streams: Vec::new(),
            failure_store: false,
            authorization: None,
        }
    }

    /// OpenSearch 3 with the same defaults.
    pub fn opensearch() -> Self {
        Self {
            product: Product::OpenSearch,
            ..Self::elasticsearch()
        }
    }

    /// The mapping that each index begins with.
    #[must_use]
    pub fn mapping(mut self, mapping: Mapping) -> Self {
        self.mapping = mapping;
        self
    }

    /// How many fields an index may have.
    #[must_use]
    pub fn max_fields(mut self, fields: usize) -> Self {
        self.max_fields = fields;
        self
    }

    /// How many bytes the body of a request may have, as sent and after decompression. More is answered with 413.
    #[must_use]
    pub fn max_content_length(mut self, bytes: usize) -> Self {
        self.max_content_length = bytes;
        self
    }

    /// Items for an index that does not exist fail with 404 instead of making it.
    #[must_use]
    pub fn without_auto_create(mut self) -> Self {
        self.auto_create = false;
        self
    }

    /// There is a data stream of this name: it takes only `create`, and only documents with `@timestamp`.
    #[must_use]
    pub fn data_stream(mut self, name: impl Into<String>) -> Self {
        self.data_streams.push(name.into());
        self
    }

    /// Data streams put documents that do not fit their mapping into a failure store and answer 201, under an id of the failure
    /// store's own.
    #[must_use]
    pub fn failure_store(mut self) -> Self {
        self.failure_store = true;
        self
    }

    /// Requests need exactly this `Authorization`; others are answered with 401.
    #[must_use]
    pub fn authorization(mut self, value: impl Into<String>) -> Self {
        self.authorization = Some(value.into());
        self
    }
}

impl Product {
    pub(super) const fn version(self) -> &'static str {
        match self {
            Self::Elasticsearch => "9.2.0",
            Self::OpenSearch => "3.2.0",
        }
    }

    /// The versions of the interface that a client may ask to be compatible with.
    pub(super) const fn compatible_with(self) -> [&'static str; 2] {
        ["8", "9"]
    }
}
