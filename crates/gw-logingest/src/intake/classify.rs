use super::own_path::OwnPath;
use crate::batch::Class;
use crate::event::{Checked, Level};

/// Tells what an event is worth, above all whether it is a report about failed uploads.
///
/// Such reports are what feeds the loop: each failed upload makes one, which is uploaded, fails, and makes another. They
/// are known by any of these signs: the kind `upload_failure`; a logger of the uploading client; a level of error
/// or fatal, or none since it is wrapped text, together with a mention of the intake's own path. (The fourth sign, a header
/// field, is the request's.)
#[derive(Debug, Clone)]
pub struct Classifier {
    paths: Vec<OwnPath>,
    loggers: Vec<Box<str>>,
    trust_audit: bool,
}

impl Classifier {
    /// The kind of reports about failed uploads.
    pub const UPLOAD_FAILURE: &'static str = "upload_failure";
    /// The kind of audit records.
    pub const AUDIT: &'static str = "audit";

    /// Knows reports by their kind and by the logger `gw_logingest`; believes the kind `audit`.
    pub fn new() -> Self {
        Self {
            paths: Vec::new(),
            loggers: vec!["gw_logingest".into()],
            trust_audit: true,
        }
    }

    /// Adds a path of the intake, such as `/api/logs`. `{name}` stands for any one segment, and `{*name}` at the end for
    /// whatever is below.
    ///
    /// It counts where it stands by itself or as the whole path of an `http` URL, and not within another path. So where
    /// clients reach the intake by a longer one, since a proxy in front takes the beginning off, add that as well.
    /// One without a fixed segment would be found everywhere, and is left out.
    #[must_use]
    pub fn path(mut self, path: impl AsRef<str>) -> Self {
        self.paths.extend(OwnPath::new(path.as_ref()));
        self
    }

    /// Adds a logger of uploading clients; loggers below it, after `.`, `:` or `/`, count as well.
    #[must_use]
    pub fn client_logger(mut self, logger: impl Into<Box<str>>) -> Self {
        self.loggers.push(logger.into());
        self
    }

    /// Whether clients may call an event an audit record by the kind `audit`. Audit records are taken until the queue is
    /// full to the brim, or the client holds its share of it.
    #[must_use]
    pub const fn trust_audit(mut self, trust: bool) -> Self {
        self.trust_audit = trust;
        self
    }

    /// The class of an event.
    pub fn class(&self, event: &Checked<'_>) -> Class {
        let grave = event.wrapped || event.level >= Level::Error;
        if event.kind.as_deref() == Some(Self::UPLOAD_FAILURE)
            || event
                .logger
                .as_deref()
                .is_some_and(|name| self.is_client(name))
            || grave && self.mentions_intake(event.json)
        {
            return Class::Own;
        }
        if self.trust_audit && event.kind.as_deref() == Some(Self::AUDIT) {
            return Class::Audit;
        }
        match event.level {
            Level::Error | Level::Fatal => Class::Error,
            Level::Trace | Level::Debug => Class::Debug,
            Level::Info | Level::Warn => Class::Normal,
        }
    }

    fn is_client(&self, logger: &str) -> bool {
        self.loggers.iter().any(|known| {
            logger
                .strip_prefix(&**known)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', ':', '/']))
        })
    }

    fn mentions_intake(&self, json: &[u8]) -> bool {
        self.paths.iter().any(|path| path.is_in(json))
    }
}

impl Default for Classifier {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn class(level: Level, kind: Option<&str>, logger: Option<&str>, json: &str) -> Class {
        let event = Checked {
            event_id: None,
            level,
            kind: kind.map(Cow::Borrowed),
            logger: logger.map(Cow::Borrowed),
            wrapped: false,
            json: json.as_bytes(),
        };
        Classifier::new()
            .path("/api/logs")
            .path("")
            .client_logger("app.uploader")
            .class(&event)
    }

    #[test]
    fn each_sign_of_own_traffic_alone_is_enough() {
        use Level::{Error, Info, Warn};
        let mention = r#"{"message":"POST https://gw/api/logs failed"}"#;
        for (level, kind, logger, json, expected) in [
            (Info, Some("upload_failure"), None, "{}", Class::Own),
            (Info, None, Some("gw_logingest::uploader"), "{}", Class::Own),
            (Info, None, Some("app.uploader"), "{}", Class::Own),
            (Info, None, Some("app.uploaders"), "{}", Class::Normal),
            (Error, None, None, mention, Class::Own),
            (Warn, None, None, mention, Class::Normal),
            (Error, None, None, "{}", Class::Error),
            (Level::Fatal, None, None, "{}", Class::Error),
            (Level::Debug, None, None, "{}", Class::Debug),
            (Level::Trace, None, None, "{}", Class::Debug),
            (Info, Some("audit"), None, "{}", Class::Audit),
            (Error, Some("audit"), None, mention, Class::Own),
        ] {
            assert_eq!(
                class(level, kind, logger, json),
                expected,
                "{level:?} {kind:?} {logger:?} {json}"
            );
        }
    }
}
