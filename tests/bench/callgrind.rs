//! Instructions counted by callgrind: slow, but the same on a busy machine as on an idle one.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use super::Result;

/// The command line under callgrind, its profile in `profile`.
pub fn under(words: &[OsString], profile: &Path) -> Vec<OsString> {
    let mut out = OsString::from("--callgrind-out-file=");
    out.push(profile);
    let mut wrapped = vec!["valgrind".into(), "--tool=callgrind".into(), out];
    wrapped.extend_from_slice(words);
    wrapped
}

/// The same for what one function does, with all that it calls; its name may have stars in it. It must not be inlined.
pub fn within(words: &[OsString], profile: &Path, function: &str) -> Vec<OsString> {
    let mut wrapped = under(words, profile);
    let toggle = format!("--toggle-collect={function}");
    wrapped.splice(2..2, [toggle.into()]);
    wrapped
}

/// All instructions a profile counts. It is complete once its process has ended.
///
/// # Errors
///
/// If there is no such profile, or no total in it.
pub fn instructions(profile: &Path) -> Result<u64> {
    let text =
        fs::read_to_string(profile).map_err(|error| format!("{}: {error}", profile.display()))?;
    total(&text).ok_or_else(|| format!("{}: no total", profile.display()).into())
}

fn total(profile: &str) -> Option<u64> {
    let line = profile
        .lines()
        .find_map(|line| line.strip_prefix("totals: "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_found() {
        assert_eq!(
            total("events: Ir\nsummary: 12\n\nfn=(1) a\n1 12\n\ntotals: 34\n"),
            Some(34)
        );
        assert_eq!(total("events: Ir\n"), None);
    }
}
