/// How grave an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Steps of the program.
    Trace,
    /// For whoever debugs the program.
    Debug,
    /// The usual course of things.
    Info,
    /// Unusual, and handled.
    Warn,
    /// Something failed.
    Error,
    /// The program cannot go on.
    Fatal,
}

impl Level {
    const ALL: [Self; 6] = [
        Self::Trace,
        Self::Debug,
        Self::Info,
        Self::Warn,
        Self::Error,
        Self::Fatal,
    ];

    /// The level with this name, in any case; `warning` is `warn`.
    pub fn parse(name: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("warning") {
            return Some(Self::Warn);
        }
        Self::ALL
            .into_iter()
            .find(|level| name.eq_ignore_ascii_case(level.as_str()))
    }

    /// The name, as it is kept.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }
}
