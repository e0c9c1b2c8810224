use std::error::Error;
use std::fmt;

use crate::config::{Config, KeyPath, table};

/// A setting that no gateway can be built from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where it stands, such as `lanes.lane.logs.cap`.
    pub key: KeyPath,
    /// The rule that it breaks.
    pub message: String,
}

impl Fault {
    pub(crate) fn new(key: impl Into<KeyPath>, message: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            message: message.into(),
        }
    }

    /// The lanes' own paths leave out that the file has them in a table of their own. Their names have no dots.
    pub(super) fn of_lanes(error: &gw_bulkhead::ConfigError) -> Self {
        let key = match error.field() {
            "lanes" => "lanes.lane".into(),
            field => match field.strip_prefix("lanes.") {
                Some(rest) => KeyPath::from("lanes.lane").below(rest),
                None => KeyPath::of("lanes").below(field),
            },
        };
        Self::new(key, error.rule())
    }

    pub(super) fn of_limits(error: &gw_ratelimit::ConfigError) -> Self {
        let limits = KeyPath::of("limits");
        match (error.policy(), error.field()) {
            (Some(policy), key @ ("rate" | "burst")) => {
                Self::new(limits.key(policy).key(key), error.rule())
            }
            (Some(policy), field) => {
                let message = format!("{field} {}", error.rule());
                Self::new(limits.key(policy), message)
            }
            (None, field) => Self::new(limits, format!("{field} {}", error.rule())),
        }
    }

    /// The table of routes knows them by their names, the file has them in a row.
    pub(super) fn of_routes(error: &gw_pipeline::ConfigError, routes: &[table::Route]) -> Self {
        let at = KeyPath::of("routes");
        let named = error.field().strip_prefix("routes.");
        let named = named.and_then(|rest| rest.rsplit_once('.'));
        let found = named.and_then(|(name, part)| {
            let number = routes.iter().position(|route| route.name == name)?;
            Some(at.index(number).below(match part {
                "host" => "match.host",
                "header" => "match.headers",
                "methods" => "match.methods",
                "deadline" => "timeouts.request",
                same => same,
            }))
        });
        Self::new(found.unwrap_or(at), error.rule())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)
    }
}

impl Error for Fault {}

/// Refuses what would be dangerous to leave out: a client that is told of TLS must not be served without it.
pub(super) fn refuse_unsupported(config: &Config) -> Result<(), Fault> {
    const TLS: &str = "TLS is not supported by this version";
    if config.server.tls.is_some() {
        return Err(Fault::new("server.tls", TLS));
    }
    for (name, upstream) in &config.upstreams {
        if let Some(index) = upstream.endpoints.iter().position(|endpoint| endpoint.tls) {
            let key = KeyPath::of("upstreams").key(name).key("endpoints");
            return Err(Fault::new(key.index(index), TLS));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_lanes_are_found_under_the_keys_of_the_file() {
        for (field, key) in [
            ("lanes", "lanes.lane"),
            ("lanes.logs.cap", "lanes.lane.logs.cap"),
            ("default_lane", "lanes.default_lane"),
        ] {
            let error = gw_bulkhead::ConfigError::new(field, "must be otherwise");
            assert_eq!(Fault::of_lanes(&error).key, key.into());
        }
    }

    #[test]
    fn faults_of_routes_are_found_at_their_place_in_the_file() {
        let routes = ["a", "b.2"].map(|name| {
            format!(
                "[[routes]]\nname = \"{name}\"\nmatch = {{ prefix = \"/{name}\" }}\nupstream = \"a\"\npublic = true\n"
            )
        });
        let text = format!(
            "[upstreams.a]\nendpoints = [\"http://h\"]\n{}",
            routes.concat()
        );
        let config = Config::parse("gateway.toml", &text, "".as_ref(), &|_| None).unwrap();
        for (field, key) in [
            ("routes.a.match", "routes[0].match"),
            ("routes.b.2.match", "routes[1].match"),
            ("routes.b.2.host", "routes[1].match.host"),
            ("routes.a.header", "routes[0].match.headers"),
            ("routes.name", "routes"),
        ] {
            let error = gw_pipeline::ConfigError::new(field, "must be otherwise");
            let fault = Fault::of_routes(&error, &config.routes);
            assert_eq!(fault.key, key.into());
        }
    }
}
