//! The documents and what became of them.

use std::collections::HashMap;

use bytes::Bytes;

/// A document that the cluster was offered, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Document {
    /// The index or data stream that the client named.
    pub index: String,
    /// The client's `_id`, or a made-up one.
    pub id: String,
    /// The source as last offered, byte for byte.
    pub source: Bytes,
    /// How many items brought this `_id`.
    pub offered: u32,
    /// How many copies were made. More than one is a duplicate, which takes a rollover, unless it was deleted in between. Where
    /// the cluster makes up the `_id`s, each copy is a document of its own.
    pub indexed: u32,
    /// How many items were answered with 409.
    pub conflicts: u32,
    /// The status of the last answer.
    pub last_status: u16,
    /// The backing indices that hold it, by number.
    pub(super) generations: Vec<u32>,
    pub(super) version: u64,
}

/// All documents in the order of their first arrival.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    documents: Vec<Document>,
    places: HashMap<(String, String), usize>,
}

impl Ledger {
    pub(super) fn all(&self) -> &[Document] {
        &self.documents
    }

    /// Notes that the document is offered once more.
    pub(super) fn offered(&mut self, index: &str, id: &str, source: Bytes) -> &mut Document {
        let key = (index.to_owned(), id.to_owned());
        let place = *self.places.entry(key).or_insert_with(|| {
            self.documents.push(Document {
                index: index.to_owned(),
                id: id.to_owned(),
                source: Bytes::new(),
                offered: 0,
                indexed: 0,
                conflicts: 0,
                last_status: 0,
                generations: Vec::new(),
                version: 0,
            });
            self.documents.len() - 1
        });
        let document = &mut self.documents[place];
        document.offered += 1;
        document.source = source;
        document
    }

    pub(super) fn find(&mut self, index: &str, id: &str) -> Option<&mut Document> {
        let key = (index.to_owned(), id.to_owned());
        self.places
            .get(&key)
            .map(|place| &mut self.documents[*place])
    }
}

impl Document {
    /// Whether it is in the index now.
    pub fn is_indexed(&self) -> bool {
        !self.generations.is_empty()
    }
}
