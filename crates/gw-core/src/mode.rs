//! What a protection does with what it decides.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};

use serde::de::{Deserialize, Deserializer, Error as _};

use crate::config::ConfigError;

/// What a protection does with what it decides. It is set when a layer is built, and switched by the layer's handle while requests
/// run; what it means beyond this for one layer stands there.
///
/// It is read (`FromStr`, `serde`) and displayed as [`Mode::as_str`] writes it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Decides, and does it.
    #[default]
    Enforce,
    /// Decides, counts what it would have done, and lets everything pass. Clients are not told of it.
    Shadow,
    /// Decides nothing: everything passes untouched. It is the kill switch.
    Off,
}

impl Mode {
    const NAMES: [&str; 3] = ["enforce", "shadow", "off"];

    /// `enforce`, `shadow` or `off`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Shadow => "shadow",
            Self::Off => "off",
        }
    }

    fn of(name: &str) -> Option<Self> {
        let all = [Self::Enforce, Self::Shadow, Self::Off];
        all.into_iter().find(|mode| mode.as_str() == name)
    }

    /// The one of both that does less.
    #[must_use]
    pub const fn milder(self, other: Self) -> Self {
        match (self, other) {
            (Self::Off, _) | (_, Self::Off) => Self::Off,
            (Self::Shadow, _) | (_, Self::Shadow) => Self::Shadow,
            (Self::Enforce, Self::Enforce) => Self::Enforce,
        }
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Cow::<str>::deserialize(deserializer)?;
        Self::of(&name).ok_or_else(|| D::Error::unknown_variant(&name, &Self::NAMES))
    }
}

impl FromStr for Mode {
    type Err = ConfigError;

    fn from_str(name: &str) -> Result<Self, ConfigError> {
        let rule = "must be `enforce`, `shadow` or `off`";
        Self::of(name).ok_or_else(|| ConfigError::new("mode", rule))
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A mode that requests read while a handle switches it.
#[derive(Debug, Default)]
pub struct SharedMode(AtomicU8);

impl SharedMode {
    /// Begins as `mode`.
    pub const fn new(mode: Mode) -> Self {
        Self(AtomicU8::new(mode as u8))
    }

    /// The mode in force.
    #[inline]
    pub fn get(&self) -> Mode {
        const ENFORCE: u8 = Mode::Enforce as u8;
        const SHADOW: u8 = Mode::Shadow as u8;
        // Relaxed: nothing else is published with it.
        match self.0.load(Ordering::Relaxed) {
            ENFORCE => Mode::Enforce,
            SHADOW => Mode::Shadow,
            _ => Mode::Off,
        }
    }

    /// Switches to `mode`. Whether it was another one.
    pub fn set(&self, mode: Mode) -> bool {
        self.0.swap(mode as u8, Ordering::Relaxed) != mode as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Mode; 3] = [Mode::Enforce, Mode::Shadow, Mode::Off];

    #[test]
    fn files_write_it_as_it_is_called() {
        for (mode, name) in ALL.into_iter().zip(Mode::NAMES) {
            assert_eq!(mode.as_str(), name);
            let read: Mode = serde_json::from_str(&format!("{name:?}")).unwrap();
            assert_eq!(read, mode);
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        let error = serde_json::from_str::<Mode>("\"on\"")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("expected one of `enforce`, `shadow`, `off`"),
            "{error}"
        );
        assert!(serde_json::from_str::<Mode>("1").is_err());
        for other in ["on", "", "Shadow", " off"] {
            let error = other.parse::<Mode>().unwrap_err().to_string();
            assert_eq!(error, "mode: must be `enforce`, `shadow` or `off`");
        }
    }

    #[test]
    fn the_milder_one_does_less() {
        for (stricter, a) in ALL.into_iter().enumerate() {
            for (milder, b) in ALL.into_iter().enumerate() {
                assert_eq!(a.milder(b), if stricter > milder { a } else { b });
            }
        }
    }

    #[test]
    fn it_is_switched_while_it_is_read() {
        let mode = SharedMode::default();
        assert_eq!(mode.get(), Mode::Enforce);
        for next in [Mode::Off, Mode::Shadow, Mode::Enforce] {
            assert!(mode.set(next));
            assert!(!mode.set(next));
            assert_eq!(mode.get(), next);
            assert_eq!(SharedMode::new(next).get(), next);
        }
    }
}
