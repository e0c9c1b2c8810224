//! The fields that tell clients about their limits.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Response};
use smallvec::SmallVec;

use crate::config::{Headers, MAX_NAME};
use crate::decision::{Decision, PolicyId, Standing};
use crate::error::seconds;
use crate::limiter::Limiter;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LEGACY_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const LEGACY_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const LEGACY_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// What an answer will tell: kept small, since it waits in the future for the inner service's answer.
pub(crate) struct Advert {
    limiter: Arc<Limiter>,
    headers: Headers,
    /// The item that the legacy fields speak of.
    binding: usize,
    items: SmallVec<[Item; 2]>,
}

/// What is told of one policy. In the draft's terms `window` is the effective window.
#[derive(Debug, Clone, Copy)]
struct Item {
    policy: PolicyId,
    burst: u32,
    burst_window: u32,
    remaining: u32,
    window: u32,
    reset_after: u32,
}

/// Marks an answer on which a layer of this crate has written fields. A second one adds its own to them; fields
/// without the mark come from an upstream and speak of the gateway's account there, which is not the client's.
#[derive(Debug, Clone, Copy)]
struct Ours;

impl Advert {
    /// `None` if there is nothing to tell: no policy is enforced here, or no fields are wanted.
    pub(crate) fn of(
        decision: &Decision,
        headers: Headers,
        limiter: &Arc<Limiter>,
    ) -> Option<Self> {
        if headers == Headers::None {
            return None;
        }
        let binding = decision.binding()?.policy();
        let enforced = decision.standings().iter().filter(|s| s.is_enforced());
        let items: SmallVec<[Item; 2]> = enforced.map(Item::of).collect();
        Some(Self {
            limiter: Arc::clone(limiter),
            headers,
            binding: items.iter().position(|item| item.policy == binding)?,
            items,
        })
    }

    pub(crate) fn write<B>(&self, response: &mut Response<B>) {
        let ours = response.extensions_mut().insert(Ours).is_some();
        // A client that is told of nothing left might wait before it follows a redirect (draft, section 6).
        let hold_back =
            response.status().is_redirection() && self.items.iter().any(|item| item.remaining == 0);
        let headers = response.headers_mut();
        if self.headers.draft() {
            if !ours {
                headers.remove(RATE_LIMIT);
                headers.remove(RATE_LIMIT_POLICY);
            }
            self.append(headers, &RATE_LIMIT_POLICY, |item| {
                [(";q=", item.burst), (";w=", item.burst_window)]
            });
            if !hold_back {
                self.append(headers, &RATE_LIMIT, |item| {
                    [(";r=", item.remaining), (";t=", item.window)]
                });
            }
        }
        if self.headers.legacy() {
            self.write_legacy(headers, ours);
        }
    }

    /// One set of numbers only. Of several layers, the one that leaves the client the least has the word.
    fn write_legacy(&self, headers: &mut HeaderMap, ours: bool) {
        let Some(item) = self.items.get(self.binding) else {
            return;
        };
        let told: Option<u32> = headers
            .get(LEGACY_REMAINING)
            .filter(|_| ours)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        if told.is_none_or(|told| item.remaining < told) {
            headers.insert(LEGACY_LIMIT, item.burst.into());
            headers.insert(LEGACY_REMAINING, item.remaining.into());
            headers.insert(LEGACY_RESET, item.reset_after.into());
        }
    }

    /// Appends a list with one member per item: its name and two parameters. A list may go over several lines
    /// (RFC 9651, section 3.1), so lines are of a fixed size and each costs one allocation, that of the value.
    fn append(
        &self,
        headers: &mut HeaderMap,
        name: &HeaderName,
        parameters: impl Fn(&Item) -> [(&'static str, u32); 2],
    ) {
        let mut line = Line::new();
        for item in &self.items {
            let policy = self.limiter.name(item.policy).unwrap_or_default();
            if !line.has_room() {
                line.append_to(headers, name);
                line = Line::new();
            }
            line.member(policy, parameters(item));
        }
        line.append_to(headers, name);
    }
}

impl fmt::Debug for Advert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.items).finish()
    }
}

impl Item {
    fn of(standing: &Standing) -> Self {
        Self {
            policy: standing.policy(),
            burst: standing.burst(),
            burst_window: seconds(standing.burst_window()),
            remaining: standing.remaining(),
            window: seconds(standing.window()),
            reset_after: seconds(standing.reset_after()),
        }
    }
}

/// Text on its way into a field's value.
struct Line {
    text: [u8; Self::SIZE],
    len: usize,
}

impl Line {
    const SIZE: usize = 256;
    /// A separator, a name in quotes, and two parameters of ten digits.
    const MEMBER: usize = 2 + MAX_NAME + 2 + 2 * (3 + 10);

    const fn new() -> Self {
        Self {
            text: [0; Self::SIZE],
            len: 0,
        }
    }

    const fn has_room(&self) -> bool {
        self.len + Self::MEMBER <= Self::SIZE
    }

    fn member(&mut self, name: &str, parameters: [(&str, u32); 2]) {
        self.push(if self.len == 0 { "\"" } else { ", \"" });
        self.push(name);
        self.push("\"");
        for (parameter, value) in parameters {
            self.push(parameter);
            self.push(itoa::Buffer::new().format(value));
        }
    }

    /// What does not fit is left out; there is room for a member, or the line would not have been asked.
    fn push(&mut self, text: &str) {
        let end = self.len + text.len();
        if let Some(place) = self.text.get_mut(self.len..end) {
            place.copy_from_slice(text.as_bytes());
            self.len = end;
        }
    }

    fn append_to(&self, headers: &mut HeaderMap, name: &HeaderName) {
        let text = self.text.get(..self.len).unwrap_or_default();
        // Names were checked and the rest is digits, so this is a value.
        if let Ok(value) = HeaderValue::from_bytes(text) {
            headers.append(name.clone(), value);
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
