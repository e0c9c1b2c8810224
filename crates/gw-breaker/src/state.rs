use std::time::Duration;

use gw_core::Mode;
use gw_core::context::UpstreamName;

use crate::word::Phase;

/// What a breaker does with calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// All pass, and are judged.
    Closed,
    /// Closed again after it was open: a growing share passes, and is judged.
    Ramping,
    /// None pass, until the open time is over.
    Open,
    /// A few pass, to see whether the upstream is back.
    HalfOpen,
    /// None pass, until somebody says otherwise.
    ForcedOpen,
    /// All pass, until somebody says otherwise. They are counted, and open nothing.
    ForcedClosed,
    /// All pass, until somebody says otherwise. Nothing is counted.
    Disabled,
}

impl State {
    #[cfg(feature = "metrics")]
    pub(crate) const ALL: [Self; 7] = [
        Self::Closed,
        Self::Ramping,
        Self::Open,
        Self::HalfOpen,
        Self::ForcedOpen,
        Self::ForcedClosed,
        Self::Disabled,
    ];

    /// The state as a word in lower snake case, such as `half_open`: what metrics and logs say.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Ramping => "ramping",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::ForcedClosed => "forced_closed",
            Self::Disabled => "disabled",
        }
    }

    /// The state as the gauge says it: 0 if calls pass, 1 if none do, 2 if a few probe.
    pub const fn level(self) -> u8 {
        match self {
            Self::Closed | Self::Ramping | Self::ForcedClosed | Self::Disabled => 0,
            Self::Open | Self::ForcedOpen => 1,
            Self::HalfOpen => 2,
        }
    }

    /// The phase as far as it is one that users see.
    pub(crate) const fn of(phase: Phase) -> Self {
        match phase {
            Phase::Closed => Self::Closed,
            Phase::Ramping => Self::Ramping,
            Phase::Open => Self::Open,
            Phase::HalfOpen => Self::HalfOpen,
            Phase::ForcedOpen => Self::ForcedOpen,
            Phase::ForcedClosed => Self::ForcedClosed,
            // Nobody sees it: who meets it looks at what has taken over.
            Phase::Disabled | Phase::Replaced => Self::Disabled,
        }
    }
}

/// What a breaker knows at about one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Whom it is about.
    pub upstream: UpstreamName,
    /// What it does with calls.
    pub state: State,
    /// Whether it is enforced.
    pub mode: Mode,
    /// How long it has done so.
    pub lasted: Duration,
    /// How long it will stay open, if it is. When nothing is left, the next call is a probe.
    pub open_for: Option<Duration>,
    /// How often in a row it has opened, as far as that is not forgotten: the next open time is doubled so many times.
    pub opened: u8,
    /// How many probes are under way.
    pub probes: u8,
    /// How many probes have succeeded.
    pub probes_succeeded: u8,
    /// How many failures in a row there are.
    pub consecutive_failures: u32,
    /// How many calls there are in the window; 0 if no rate is asked for.
    pub calls: u32,
    /// How many of them failed.
    pub failed: u32,
    /// How many of them were slow.
    pub slow: u32,
}
