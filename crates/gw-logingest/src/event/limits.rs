use std::time::Duration;

use gw_core::ConfigError;

/// What one event may measure. All sizes are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventLimits {
    /// The event as it was sent. Default 256 KiB, at least 256.
    pub bytes: usize,
    /// Objects and arrays inside one another, the event itself included. Default 16, 1 to 100.
    pub depth: usize,
    /// Members of objects, at all depths. Default 256, at least 4.
    pub fields: usize,
    /// The name of a member. Default 256, at least 10.
    pub key_bytes: usize,
    /// A string that is matched whole, with the path of names to it: all except `message`. The same holds for the text of a
    /// number. 128 to 32 766, which is the default and the longest term of a Lucene index; a longer one would be refused there for
    /// ever.
    pub exact_bytes: usize,
    /// How old a timestamp may be. Default 7 days.
    pub past: Duration,
    /// How far a timestamp may lie in the future. Default 10 minutes.
    pub future: Duration,
}

impl Default for EventLimits {
    fn default() -> Self {
        Self {
            bytes: 256 * 1024,
            depth: 16,
            fields: 256,
            key_bytes: 256,
            exact_bytes: 32_766,
            past: Duration::from_secs(7 * 24 * 3600),
            future: Duration::from_secs(600),
        }
    }
}

impl EventLimits {
    /// Above it the JSON parser's own limit, 128, would come into play and say something else.
    const MAX_DEPTH: usize = 100;

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let rules = [
            (
                "event.bytes",
                self.bytes >= 256,
                "must be at least 256: the required members must fit",
            ),
            (
                "event.depth",
                (1..=Self::MAX_DEPTH).contains(&self.depth),
                "must be 1 to 100",
            ),
            (
                "event.fields",
                self.fields >= 4,
                "must be at least 4: the required members must fit",
            ),
            (
                "event.key_bytes",
                self.key_bytes >= 10,
                "must be at least 10: the required names must fit",
            ),
            (
                "event.exact_bytes",
                (128..=32_766).contains(&self.exact_bytes),
                "must be 128 to 32766: Lucene refuses longer terms",
            ),
        ];
        match rules.into_iter().find(|&(_, met, _)| !met) {
            Some((field, _, rule)) => Err(ConfigError::new(field, rule)),
            None => Ok(()),
        }
    }
}
