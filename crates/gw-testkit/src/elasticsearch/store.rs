//! The indices and their documents.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::answer::ItemError;
use super::behaviour::{ItemFault, Lottery};
use super::bulk::{Action, Operation};
use super::config::{Config, Product};
use super::counters::Requests;
use super::ledger::{Document, Ledger};
use super::mapping::Mapping;

const MAX_ID: usize = 512;

/// Which items a behaviour lets through.
#[derive(Clone, Copy, Debug)]
pub(super) enum Gatekeeper {
    All,
    Lottery(Lottery),
    /// The first so many; the rest finds the write queue full.
    First(usize),
}

#[derive(Debug)]
pub(super) struct Store {
    config: Config,
    indices: BTreeMap<String, Index>,
    ledger: Ledger,
    made_up_ids: u64,
    pub(super) requests: Requests,
}

#[derive(Debug)]
struct Index {
    mapping: Mapping,
    is_data_stream: bool,
    /// The number of the backing index; an ordinary index keeps its first.
    generation: u32,
    next_seq_no: u64,
}

/// What became of an item that did not fail.
struct Done {
    status: u16,
    result: &'static str,
    index: String,
    version: u64,
    seq_no: u64,
    redirected: bool,
}

impl Store {
    pub(super) fn new(config: Config) -> Self {
        let mut store = Self {
            indices: BTreeMap::new(),
            ledger: Ledger::default(),
            made_up_ids: 0,
            requests: Requests::default(),
            config,
        };
        for name in store.config.data_streams.clone() {
            store.make_index(name, true);
        }
        store
    }

    pub(super) fn documents(&self) -> Vec<Document> {
        self.ledger.all().to_vec()
    }

    pub(super) fn indexed(&self) -> usize {
        self.requests.documents
    }

    /// The documents in an index, or in all.
    pub(super) fn held<'a>(&'a self, index: Option<&'a str>) -> impl Iterator<Item = &'a Document> {
        self.ledger.all().iter().filter(move |document| {
            document.is_indexed() && index.is_none_or(|index| document.index == index)
        })
    }

    pub(super) fn has_index(&self, name: &str) -> bool {
        self.indices.contains_key(name)
    }

    pub(super) fn roll_over(&mut self, name: &str) {
        match self.indices.get_mut(name) {
            Some(index) if index.is_data_stream => index.generation += 1,
            _ => panic!("there is no data stream {name}"),
        }
    }

    /// Carries out the items of one request; the answer has one object for each.
    pub(super) fn bulk(
        &mut self,
        operations: &[Operation],
        gatekeeper: Gatekeeper,
    ) -> (bool, Vec<Value>) {
        let mut errors = false;
        let items = operations.iter().enumerate().map(|(place, operation)| {
            let (status, item) = self.item(operation, place, gatekeeper);
            self.requests.item(status);
            errors |= status >= 300;
            item
        });
        let items = items.collect();
        (errors, items)
    }

    fn item(
        &mut self,
        operation: &Operation,
        place: usize,
        gatekeeper: Gatekeeper,
    ) -> (u16, Value) {
        let action = operation.action;
        let id = operation.id.clone().unwrap_or_else(|| self.make_up_id());
        let offered = if matches!(action, Action::Create | Action::Index) {
            let source = operation.source.clone();
            self.ledger.offered(&operation.index, &id, source).offered
        } else {
            1
        };
        let outcome = match gatekeeper.fault(place, &id, offered) {
            Some(fault) => Err(fault.error(&operation.index)),
            None => self.carry_out(operation, &id),
        };
        let status = match &outcome {
            Ok(done) => done.status,
            Err(error) => error.status,
        };
        if let Some(document) = self.ledger.find(&operation.index, &id) {
            document.last_status = status;
            document.conflicts += u32::from(status == 409);
        }
        let body = match outcome {
            // A failure store takes what does not fit as a document of its own, and it is that one's id that is answered.
            Ok(done) if done.redirected => done.to_json(&self.make_up_id(), self.config.product),
            Ok(done) => done.to_json(&id, self.config.product),
            Err(error) => json!({
                "_index": operation.index, "_id": id, "status": status, "error": error.to_json(),
            }),
        };
        (status, json!({ action.as_str(): body }))
    }

    fn make_up_id(&mut self) -> String {
        self.made_up_ids += 1;
        format!("made-up-{}", self.made_up_ids)
    }

    fn carry_out(&mut self, operation: &Operation, id: &str) -> Result<Done, ItemError> {
        let name = &operation.index;
        if id.len() > MAX_ID {
            return Err(ItemError::illegal(format!(
                "id [{id}] is too long, must be no longer than {MAX_ID} bytes but was: {}",
                id.len()
            )));
        }
        if !self.indices.contains_key(name) {
            self.create_index(name)?;
        }
        let Some(index) = self.indices.get_mut(name) else {
            return Err(ItemError::new(
                404,
                "index_not_found_exception",
                format!("no such index [{name}]"),
            ));
        };
        match operation.action {
            Action::Create => {}
            Action::Index if !index.is_data_stream => {}
            Action::Delete if !index.is_data_stream => return Ok(self.delete(name, id)),
            Action::Update if !index.is_data_stream => {
                return Err(ItemError::illegal("the simulator does not update"));
            }
            _ => {
                return Err(ItemError::illegal(
                    "only write ops with an op_type of create are allowed in data streams",
                ));
            }
        }
        let admitted = index.admit(id, &operation.source, self.config.max_fields);
        let document = self
            .ledger
            .find(name, id)
            .expect("an offered document is in the ledger");
        if let Err(error) = admitted {
            if !(index.is_data_stream && self.config.failure_store) {
                return Err(error);
            }
            return Ok(Done {
                status: 201,
                result: "created",
                index: format!(".fs-{name}-2026.01.01-{:06}", index.generation),
                version: 1,
                seq_no: 0,
                redirected: true,
            });
        }
        let exists = document.generations.contains(&index.generation);
        if exists && operation.action == Action::Create {
            return Err(ItemError::new(
                409,
                "version_conflict_engine_exception",
                format!(
                    "[{id}]: version conflict, document already exists (current version [{}])",
                    document.version
                ),
            ));
        }
        if !exists {
            self.requests.documents += usize::from(!document.is_indexed());
            document.generations.push(index.generation);
            document.indexed += 1;
        }
        document.version += 1;
        let seq_no = index.next_seq_no;
        index.next_seq_no += 1;
        Ok(Done {
            status: if exists { 200 } else { 201 },
            result: if exists { "updated" } else { "created" },
            index: index.backing_name(name),
            version: document.version,
            seq_no,
            redirected: false,
        })
    }

    fn delete(&mut self, name: &str, id: &str) -> Done {
        let document = self.ledger.find(name, id);
        let found = document.filter(|document| document.is_indexed());
        let done = |status, result, version| Done {
            status,
            result,
            index: name.to_owned(),
            version,
            seq_no: 0,
            redirected: false,
        };
        let Some(document) = found else {
            return done(404, "not_found", 1);
        };
        document.generations.clear();
        document.version += 1;
        self.requests.documents -= 1;
        done(200, "deleted", document.version)
    }

    fn create_index(&mut self, name: &str) -> Result<(), ItemError> {
        let valid = !name.is_empty()
            && name.len() <= 255
            && !name.starts_with(['-', '_', '+', '.'])
            && !name.contains(|c: char| {
                c.is_uppercase() || c.is_whitespace() || r#"\/*?"<>|,#:"#.contains(c)
            });
        if !valid {
            return Err(ItemError::new(
                400,
                "invalid_index_name_exception",
                format!("Invalid index name [{name}]"),
            ));
        }
        if self.config.auto_create {
            self.make_index(name.to_owned(), false);
        }
        Ok(())
    }

    fn make_index(&mut self, name: String, is_data_stream: bool) {
        let index = Index {
            mapping: self.config.mapping.clone(),
            is_data_stream,
            generation: 1,
            next_seq_no: 0,
        };
        self.indices.insert(name, index);
    }
}

impl Index {
    fn admit(&mut self, id: &str, source: &[u8], max_fields: usize) -> Result<(), ItemError> {
        let document: Value = serde_json::from_slice(source)
            .map_err(|error| ItemError::parsing(format!("failed to parse: {error}")))?;
        if self.is_data_stream && document.get("@timestamp").is_none() {
            return Err(ItemError::parsing(
                "data stream timestamp field [@timestamp] is missing",
            ));
        }
        self.mapping.admit(id, &document, max_fields)
    }

    fn backing_name(&self, name: &str) -> String {
        if self.is_data_stream {
            format!(".ds-{name}-2026.01.01-{:06}", self.generation)
        } else {
            name.to_owned()
        }
    }
}

impl Gatekeeper {
    fn fault(self, place: usize, id: &str, offered: u32) -> Option<ItemFault> {
        match self {
            Self::All => None,
            Self::Lottery(lottery) => lottery.hits(id, offered).then_some(lottery.fault),
            Self::First(count) => (place >= count).then_some(ItemFault::Rejected),
        }
    }
}

impl ItemFault {
    fn error(self, index: &str) -> ItemError {
        match self {
            Self::Rejected => ItemError::new(
                429,
                "es_rejected_execution_exception",
                "rejected execution of primary operation: the write queue is full",
            ),
            Self::Unavailable => ItemError::new(
                503,
                "unavailable_shards_exception",
                format!("[{index}][0] primary shard is not active"),
            ),
            Self::Blocked => ItemError::new(
                403,
                "cluster_block_exception",
                format!("index [{index}] blocked by: [FORBIDDEN/8/index write (api)];"),
            ),
        }
    }
}

impl Done {
    fn to_json(&self, id: &str, product: Product) -> Value {
        let mut item = json!({
            "_index": self.index, "_id": id, "_version": self.version, "result": self.result,
            "_shards": {"total": 1, "successful": 1, "failed": 0},
            "_seq_no": self.seq_no, "_primary_term": 1, "status": self.status,
        });
        if self.redirected && product == Product::Elasticsearch {
            item["failure_store"] = json!("used");
        }
        item
    }
}
