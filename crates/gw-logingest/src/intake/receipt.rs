use bytes::Bytes;
use gw_core::Body;
use http::{HeaderValue, Response, StatusCode, header};
use serde::ser::{Serialize, SerializeMap as _, Serializer};

use super::fields;
use super::limits::ClassLimit;
use crate::batch::BatchId;
use crate::event::Violation;
use crate::queue::Durability;

/// The answer to a request whose events were taken, all or some.
#[derive(Debug)]
pub(super) struct Receipt {
    /// The batch; none if there was nothing to store.
    pub(super) stored: Option<(BatchId, Durability)>,
    pub(super) accepted: u64,
    pub(super) rejected: u64,
    pub(super) suppressed: u64,
    pub(super) errors: Vec<EventError>,
    pub(super) limits: Vec<ClassLimit>,
}

/// An event that was refused, and why.
#[derive(Debug)]
pub(super) struct EventError {
    pub(super) index: usize,
    pub(super) violation: Violation,
}

impl Receipt {
    /// The most events whose faults are told.
    pub(super) const MAX_ERRORS: usize = 32;

    pub(super) fn into_response(self) -> Response<Body> {
        // Numbers, static words and checked paths only: none of them fails.
        let body = serde_json::to_vec(&self)
            .map(Bytes::from)
            .unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::ACCEPTED;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(fields::LIMITS, ClassLimit::header_value(&self.limits));
        if let Some((_, durability)) = self.stored {
            let word = HeaderValue::from_static(durability.as_str());
            headers.insert(fields::DURABILITY, word);
        }
        response
    }
}

impl Serialize for Receipt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let receipt = self.stored.map(|(id, _)| id.to_string());
        map.serialize_entry("receipt", &receipt)?;
        map.serialize_entry("accepted", &self.accepted)?;
        map.serialize_entry("rejected", &self.rejected)?;
        map.serialize_entry("suppressed", &self.suppressed)?;
        // Without idempotency keys no batch is known to have come before.
        map.serialize_entry("duplicate", &false)?;
        let durability = self.stored.map(|(_, durability)| durability.as_str());
        map.serialize_entry("durability", &durability)?;
        map.serialize_entry("errors", &self.errors)?;
        let truncated = self.rejected > self.errors.len() as u64;
        map.serialize_entry("errors_truncated", &truncated)?;
        map.serialize_entry("limits", &self.limits)?;
        map.end()
    }
}

impl Serialize for EventError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let code = self.violation.code();
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("index", &self.index)?;
        map.serialize_entry("code", code.as_str())?;
        map.serialize_entry("pointer", self.violation.pointer().as_str())?;
        map.serialize_entry("message", code.message())?;
        map.end()
    }
}

impl Serialize for ClassLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Names(&'static [crate::batch::Class]);

        impl Serialize for Names {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_seq(self.0.iter().map(|class| class.as_str()))
            }
        }

        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("seconds", &self.seconds)?;
        map.serialize_entry("classes", &Names(self.classes))?;
        map.serialize_entry("scope", self.scope.as_str())?;
        map.end()
    }
}
