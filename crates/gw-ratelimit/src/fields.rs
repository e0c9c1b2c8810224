//! The fields that tell clients about their limits.

use std::fmt;
use std::time::Duration;

use gw_core::retry_after::NotBefore;
use gw_core::{Rejection, RetryAfter};
use http::header::RETRY_AFTER;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Response};
use tokio::time::Instant;

use crate::algorithm::Algorithm;
use crate::config::{Headers, MAX_NAME};
use crate::decision::{PolicyId, Standing};
use crate::error::seconds;
use crate::limiter::Limiter;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
const LEGACY_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const LEGACY_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const LEGACY_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// What an answer will tell, written down when the request was decided.
pub(crate) struct Advert {
    headers: Headers,
    /// Whether another layer of this crate stands around this one, and will write its own fields beside these.
    within_another: bool,
    policies: Lines,
    limits: Lines,
    /// For how many seconds some policy leaves nothing, and from when on; `None` if all leave something.
    exhausted: Option<(u32, Instant)>,
    /// For the legacy fields, if they are wanted: what is told of the binding policy.
    binding: Option<Binding>,
}

/// The lines of one field. There is one, unless there are many policies; so what is moved about is small.
#[derive(Debug, Default)]
struct Lines {
    first: Option<HeaderValue>,
    rest: Option<Box<Lines>>,
}

#[derive(Debug, Clone, Copy)]
struct Binding {
    burst: u32,
    remaining: u32,
    reset_after: u32,
}

/// The line that tells of some policies' quotas, and which policies these are.
#[derive(Debug, Clone)]
pub(crate) struct PolicyLine {
    policies: Box<[PolicyId]>,
    value: HeaderValue,
}

/// Marks a request for which a layer of this crate will write fields, for layers of this crate further in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Around;

/// Marks an answer on which a layer of this crate has written fields, for the one around it, which adds its own to them.
/// Fields without the mark come from an upstream and speak of the gateway's account there, which is not the client's.
///
/// It is left only where there is such a layer: an answer without extensions would need room made for it.
#[derive(Debug, Clone, Copy)]
struct Ours;

impl Advert {
    /// Puts into `advert` what is to be told of how a request stands, and of the policy that matters most: `None` if there is
    /// nothing to tell, because no policy is enforced here or no fields are wanted. `now` is the limiter's, when it stood so.
    // Written to where it stays: values that were just made stall the processor when they are moved.
    pub(crate) fn put(
        advert: &mut Option<Self>,
        standings: &[Standing],
        binding: Option<&Standing>,
        headers: Headers,
        limiter: &Limiter,
        now: u64,
    ) {
        let Some(binding) = binding.filter(|_| headers != Headers::None) else {
            *advert = None;
            return;
        };
        let advert = advert.insert(Self {
            headers,
            within_another: false,
            policies: Lines::default(),
            limits: Lines::default(),
            exhausted: None,
            binding: headers.legacy().then(|| Binding::of(binding)),
        });
        if headers.draft() {
            advert.write_down(standings, limiter, now);
        }
    }

    /// The values of the draft's fields. In its terms `t` is the effective window.
    fn write_down(&mut self, standings: &[Standing], limiter: &Limiter, now: u64) {
        let told = || standings.iter().filter(|s| s.is_enforced());
        // What is written down is told to those who are in no tier.
        if told().all(|standing| standing.tier().is_none()) {
            let policies = told().map(Standing::policy);
            limiter.with_policy_line(policies, |line| self.policies.first = Some(line.clone()));
        }
        if self.policies.first.is_none() {
            self.write_down_policies(standings, limiter);
        }
        let (mut line, mut exhausted) = (Line::new(), 0);
        for standing in told() {
            let name = limiter.name(standing.policy()).unwrap_or_default();
            let (remaining, window) = standing.remaining_in_window();
            let window = seconds(window);
            if remaining == 0 {
                exhausted = window.max(exhausted).max(1);
            }
            let limit = [(";r=", remaining), (";t=", window)];
            line.member(name, limit, &mut self.limits);
        }
        self.limits.extend(line.value());
        self.exhausted = (exhausted > 0).then(|| (exhausted, limiter.instant(now)));
    }

    // Apart: it is written down already for most requests.
    #[inline(never)]
    fn write_down_policies(&mut self, standings: &[Standing], limiter: &Limiter) {
        let mut line = Line::new();
        for standing in standings.iter().filter(|s| s.is_enforced()) {
            let name = limiter.name(standing.policy()).unwrap_or_default();
            let quota = quota(standing.burst(), standing.burst_window());
            line.member(name, quota, &mut self.policies);
        }
        self.policies.extend(line.value());
    }

    /// Learns from a request's extensions whether there is a layer around this one, and marks them for those within.
    pub(crate) fn mark(&mut self, extensions: &mut Extensions) {
        self.within_another = extensions.insert(Around).is_some();
    }

    /// Takes over what another tells of the same request, later on.
    pub(crate) fn tell_anew(&mut self, anew: Self) {
        let within_another = self.within_another;
        *self = Self {
            within_another,
            ..anew
        };
    }

    /// Writes what it tells, and is empty afterwards.
    pub(crate) fn write<B>(&mut self, response: &mut Response<B>) {
        let ours = if self.within_another {
            response.extensions_mut().insert(Ours).is_some()
        } else {
            response.extensions().get::<Ours>().is_some()
        };
        // A client that is told of nothing left might wait before it follows a redirect (draft, section 6).
        let hold_back = self.exhausted.is_some() && response.status().is_redirection();
        if let Some((seconds, since)) = self.exhausted.filter(|_| !hold_back) {
            not_before(seconds, since, response);
        }
        let headers = response.headers_mut();
        if let Some(binding) = self.binding {
            binding.write(headers, ours);
        }
        if self.headers.draft() {
            self.policies.write(headers, RATE_LIMIT_POLICY, ours);
            if hold_back {
                self.limits = Lines::default();
            }
            self.limits.write(headers, RATE_LIMIT, ours);
        }
    }
}

/// Whoever is asked to come back before so many seconds since then is asked to do so after them, here or further out. What
/// answered further in knows nothing of these limits, and clients go by it rather than by `RateLimit` (draft, section 6).
#[cold]
fn not_before<B>(seconds: u32, since: Instant, response: &mut Response<B>) {
    let number = |name| -> Option<u64> {
        let value = response.headers().get(name)?;
        value.to_str().ok()?.parse().ok()
    };
    let (after, pushback) = (
        number(RETRY_AFTER).map(Duration::from_secs),
        number(PUSHBACK).map(Duration::from_millis),
    );
    let is_before = |told: Option<Duration>, wait| told.is_some_and(|told| told < wait);
    let window = Duration::from_secs(seconds.into());
    let is_left = may_be_told_further_out(response, window);
    if !is_left && !is_before(after, window) && !is_before(pushback, window) {
        return;
    }
    // What is told counts from now on, and the answer may have taken its time.
    let wait = window.saturating_sub(Instant::now().saturating_duration_since(since));
    if wait.is_zero() {
        return;
    }
    let jittered = RetryAfter::jittered(wait);
    let headers = response.headers_mut();
    if is_before(after, wait) {
        headers.insert(RETRY_AFTER, jittered.header_value());
    }
    if is_before(pushback, wait) {
        headers.insert(PUSHBACK, (1_000 * u64::from(jittered.seconds())).into());
    }
    if is_left {
        // What is late enough stays as it is.
        let stays = after.is_some_and(|told| told >= wait);
        let least = if stays {
            RetryAfter::at_least(wait)
        } else {
            jittered
        };
        NotBefore::leave(least, response.extensions_mut());
    }
}

/// Whether a layer further out may name a time before the end of the window. One that renders the answer anew names some time where
/// it asks to come back, by its status or by its fields; of a refusal that says itself when, it names that.
fn may_be_told_further_out<B>(response: &Response<B>, window: Duration) -> bool {
    let refused = response.extensions().get::<Rejection>();
    if let Some(hint) = refused.and_then(Rejection::retry_after_hint) {
        return hint.duration() < window;
    }
    // By the code: the HTTP status of a refusal to a gRPC caller is 200.
    let status = refused.map_or(response.status(), |refused| refused.code().status());
    let fields = response.headers();
    matches!(status.as_u16(), 429 | 503 | 504)
        || fields.contains_key(RETRY_AFTER)
        || fields.contains_key(PUSHBACK)
}

impl Lines {
    #[inline]
    fn extend(&mut self, line: Option<HeaderValue>) {
        if self.first.is_none() {
            self.first = line;
        } else if line.is_some() {
            self.rest.get_or_insert_default().extend(line);
        }
    }

    /// Replaces what there is, or adds to it.
    #[inline]
    fn write(&mut self, headers: &mut HeaderMap, name: HeaderName, add: bool) {
        let rest = self.rest.take().map(|rest| (rest, name.clone()));
        // The name goes in as it is: one that is lent would be counted again.
        match self.first.take() {
            Some(first) if add => _ = headers.append(name, first),
            Some(first) => _ = headers.insert(name, first),
            None if add => {}
            None => _ = headers.remove(name),
        }
        if let Some((mut rest, name)) = rest {
            rest.write_more(headers, name);
        }
    }

    #[cold]
    fn write_more(&mut self, headers: &mut HeaderMap, name: HeaderName) {
        self.write(headers, name, true);
    }
}

impl Binding {
    fn of(standing: &Standing) -> Self {
        Self {
            burst: standing.burst(),
            remaining: standing.remaining(),
            reset_after: seconds(standing.reset_after()),
        }
    }

    /// One set of numbers only. Of several layers, the one that leaves the client the least has the word.
    fn write(&self, headers: &mut HeaderMap, ours: bool) {
        let told: Option<u32> = headers
            .get(LEGACY_REMAINING)
            .filter(|_| ours)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        if told.is_none_or(|told| self.remaining < told) {
            headers.insert(LEGACY_LIMIT, self.burst.into());
            headers.insert(LEGACY_REMAINING, self.remaining.into());
            headers.insert(LEGACY_RESET, self.reset_after.into());
        }
    }
}

impl PolicyLine {
    /// The line for these policies. `None` if there are none, or too many for one line.
    pub(crate) fn of<'a>(
        policies: impl Iterator<Item = (PolicyId, &'a str, Algorithm)>,
    ) -> Option<Self> {
        let (mut line, mut lines) = (Line::new(), Lines::default());
        let mut told = Vec::new();
        for (policy, name, algorithm) in policies {
            let quota = quota(algorithm.burst(), algorithm.burst_window());
            line.member(name, quota, &mut lines);
            told.push(policy);
        }
        let value = line.value().filter(|_| lines.first.is_none())?;
        let policies = told.into();
        Some(Self { policies, value })
    }

    /// Whether it tells of just these policies.
    pub(crate) fn is_of(&self, policies: impl Iterator<Item = PolicyId>) -> bool {
        self.policies.iter().copied().eq(policies)
    }

    /// What it tells. A clone of it shares the text.
    pub(crate) const fn value(&self) -> &HeaderValue {
        &self.value
    }
}

fn quota(burst: u32, window: Duration) -> [(&'static str, u32); 2] {
    [(";q=", burst), (";w=", seconds(window))]
}

impl fmt::Debug for Advert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.limits.first).finish()
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

    /// Adds a member to the list: a name and two parameters. A list may go over several lines (RFC 9651, section 3.1), so
    /// a line is of a fixed size and costs one allocation, that of its value. A full one goes to `full`.
    fn member(&mut self, name: &str, parameters: [(&str, u32); 2], full: &mut Lines) {
        if !self.has_room() {
            full.extend(self.value());
            self.len = 0;
        }
        if self.len > 0 {
            self.push(", ");
        }
        self.push("\"");
        self.push(name);
        self.push("\"");
        for (parameter, value) in parameters {
            self.push(parameter);
            self.push(itoa::Buffer::new().format(value));
        }
    }

    /// What does not fit is left out; there is room for a member, or the line would not have been asked.
    #[inline]
    fn push(&mut self, text: &str) {
        let end = self.len + text.len();
        if let Some(place) = self.text.get_mut(self.len..end) {
            place.copy_from_slice(text.as_bytes());
            self.len = end;
        }
    }

    /// The text, unless there is none.
    fn value(&self) -> Option<HeaderValue> {
        let text = self.text.get(..self.len).filter(|text| !text.is_empty())?;
        // Names were checked and the rest is digits, so this is a value.
        HeaderValue::from_bytes(text).ok()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
