//! What a pipeline lacks, and the compiler cannot see.

use std::fmt;

use gw_core::context::UpstreamName;

use super::describe::{Description, HeldFacts, UpstreamDescription};

/// Something that a pipeline lacks, or has in vain. See [`Description::lint`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    name: &'static str,
    upstream: Option<UpstreamName>,
    slots: &'static [&'static str],
    advice: &'static str,
}

impl Finding {
    /// Its name, which stays the same, so that one can be let pass.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The upstream, if it is about what stands in front of one.
    pub const fn upstream(&self) -> Option<&UpstreamName> {
        self.upstream.as_ref()
    }

    /// The slots that it is about: filled ones, and those that should be.
    pub const fn slots(&self) -> &'static [&'static str] {
        self.slots
    }

    /// What goes wrong, and what to do.
    pub const fn advice(&self) -> &'static str {
        self.advice
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(upstream) = &self.upstream {
            write!(f, "{upstream}: ")?;
        }
        let Self { name, advice, .. } = self;
        write!(f, "{name} ({}): {advice}", self.slots.join(", "))
    }
}

impl Description {
    /// What the pipeline lacks, or has in vain, as far as that can be told from its description. The compiler refuses the rest.
    ///
    /// Where something outside of the pipeline does what is missing, let the finding pass by its name.
    ///
    /// | name | it is found where |
    /// |---|---|
    /// | `unobserved` | `observe` is empty: refusals are in no log |
    /// | `unisolated` | `admit` is empty: one slow route takes the places of all |
    /// | `credentials_unlimited` | `authenticate` is filled, and `pre_auth_limit` is not: bad credentials cost a check each |
    /// | `limit_without_client` | `pre_auth_limit` is filled, and nobody finds out which client calls |
    /// | `caller_unknown` | `post_auth_limit` or `authorize` is filled, and nobody finds out who calls |
    /// | `fact_missing` | what fills `route_resolve`, `ip_filter` or `authenticate` does not give their fact; [`plain`](super::plain) gives none |
    /// | `resent_without_breaker` | an upstream has retries or hedges, and no breaker |
    /// | `endpoints_unwatched` | an upstream has several endpoints, and nobody takes out the one that fails |
    ///
    /// # Examples
    ///
    /// ```
    /// use gw_pipeline::inbound::RequestIdLayer;
    /// use gw_pipeline::{Pipeline, plain};
    /// use tower::layer::util::Identity;
    ///
    /// let pipeline = Pipeline::builder()
    ///     .request_id(RequestIdLayer::new())
    ///     .admit(plain(Identity::new()))
    ///     .into_layer();
    /// let description = pipeline.describe();
    /// assert_eq!(
    ///     description.to_string(),
    ///     "request_id: RequestIdLayer\nanswer: Respond\nadmit: Identity (plain)\n"
    /// );
    /// let found: Vec<_> = description.lint().iter().map(|finding| finding.name()).collect();
    /// assert_eq!(found, ["unobserved"]);
    /// ```
    pub fn lint(&self) -> Vec<Finding> {
        let of_upstreams = self.upstreams().iter().flat_map(|upstream| {
            let name = Some(upstream.name());
            OF_UPSTREAM
                .iter()
                .filter_map(move |rule| rule.apply(upstream, name))
        });
        OF_PIPELINE
            .iter()
            .filter_map(|rule| rule.apply(self, None))
            .chain(of_upstreams)
            .collect()
    }

    fn fills(&self, slot: &str) -> bool {
        self.stage(slot).is_some()
    }

    /// Whether a slot is filled, and a fact does not hold behind it.
    fn lacks(&self, slot: &str, fact: fn(HeldFacts) -> bool) -> bool {
        self.stage(slot).is_some_and(|stage| !fact(stage.facts()))
    }
}

/// One mistake.
struct Rule<T> {
    name: &'static str,
    slots: &'static [&'static str],
    advice: &'static str,
    is_broken: fn(&T) -> bool,
}

impl<T> Rule<T> {
    fn apply(&self, described: &T, upstream: Option<&UpstreamName>) -> Option<Finding> {
        (self.is_broken)(described).then(|| Finding {
            name: self.name,
            upstream: upstream.cloned(),
            slots: self.slots,
            advice: self.advice,
        })
    }
}

const OF_PIPELINE: [Rule<Description>; 9] = [
    Rule {
        name: "unobserved",
        slots: &["observe"],
        advice: "requests that are refused, or that their clients leave, are in no log and no metric: fill `observe`",
        is_broken: |it| !it.fills("observe"),
    },
    Rule {
        name: "unisolated",
        slots: &["admit"],
        advice: "a route whose service has become slow takes the places of all others: fill `admit` with lanes",
        is_broken: |it| !it.fills("admit"),
    },
    Rule {
        name: "credentials_unlimited",
        slots: &["pre_auth_limit", "authenticate"],
        advice: "each bad credential costs a check, and nothing bounds how many a client sends: fill `pre_auth_limit`",
        is_broken: |it| it.fills("authenticate") && !it.fills("pre_auth_limit"),
    },
    Rule {
        name: "limit_without_client",
        slots: &["ip_filter", "pre_auth_limit"],
        advice: "nobody has found out which client calls, so that one of them can use up what is for all: fill `ip_filter`, and \
                 limit by its address",
        is_broken: |it| {
            !it.fills("ip_filter") && it.lacks("pre_auth_limit", |facts| facts.client_addr)
        },
    },
    Rule {
        name: "caller_unknown",
        slots: &["authenticate", "post_auth_limit"],
        advice: "nobody has found out who calls, so that the limit cannot be by caller: fill `authenticate`, or move the limit to \
                 `pre_auth_limit`, where a refusal is cheaper",
        is_broken: |it| {
            !it.fills("authenticate") && it.lacks("post_auth_limit", |facts| facts.identity)
        },
    },
    Rule {
        name: "caller_unknown",
        slots: &["authenticate", "authorize"],
        advice: "nobody has found out who calls, so that it cannot be asked what the caller may: fill `authenticate`",
        is_broken: |it| !it.fills("authenticate") && it.lacks("authorize", |facts| facts.identity),
    },
    Rule {
        name: "fact_missing",
        slots: &["route_resolve"],
        advice: "it gives no route, so that nothing behind it can rely on one: use `RouteResolveLayer`, or implement `Stage` for a \
                 layer that inserts a `RouteMatch`",
        is_broken: |it| it.lacks("route_resolve", |facts| facts.route),
    },
    Rule {
        name: "fact_missing",
        slots: &["ip_filter"],
        advice: "it gives no client's address, so that behind a proxy all clients look like that one: use `IpFilterLayer`, or \
                 implement `Stage` for a layer that inserts a `ClientAddr`",
        is_broken: |it| it.lacks("ip_filter", |facts| facts.client_addr),
    },
    Rule {
        name: "fact_missing",
        slots: &["authenticate"],
        advice: "it gives no identity, so that limits, scopes and the log know of no caller: implement `Stage` for a layer that \
                 inserts an `Identity`",
        is_broken: |it| it.lacks("authenticate", |facts| facts.identity),
    },
];

const OF_UPSTREAM: [Rule<UpstreamDescription>; 3] = [
    Rule {
        name: "resent_without_breaker",
        slots: &["retry", "breaker"],
        advice: "while the upstream is down each request waits for all of its attempts, and holds its place in the lane for so long: \
                 fill `breaker`, which refuses at once",
        is_broken: |it| it.layer("retry").is_some() && it.layer("breaker").is_none(),
    },
    Rule {
        name: "resent_without_breaker",
        slots: &["hedge", "breaker"],
        advice: "an upstream that is slow because it has too much to do is given more: fill `breaker`, which stops hedges as well",
        is_broken: |it| it.layer("hedge").is_some() && it.layer("breaker").is_none(),
    },
    Rule {
        name: "endpoints_unwatched",
        slots: &["balance"],
        advice: "an endpoint that fails gets its share of the requests for ever, too few of all for a breaker to open: give the \
                 builder an `endpoint_health`",
        is_broken: |it| it.endpoints() > 1 && !it.has_endpoint_health(),
    },
];
