//! Instructions counted by callgrind: slow, but the same on a busy machine as on an idle one.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::Result;

/// The command line under callgrind, its profile in `profile`.
pub fn under(words: &[OsString], profile: &Path) -> Vec<OsString> {
    let mut out = OsString::from("--callgrind-out-file=");
    out.push(profile);
    let mut wrapped = vec!["valgrind".into(), "--tool=callgrind".into(), out];
    wrapped.extend_from_slice(words);
    wrapped
}

/// The same with a profile for each thread, whose name ends in its number; see [`of_thread`].
pub fn by_thread(words: &[OsString], profile: &Path) -> Vec<OsString> {
    let mut wrapped = under(words, profile);
    // Threads take turns there: without fairness the one that is busy keeps the turn.
    let options = ["--separate-threads=yes", "--fair-sched=yes"];
    wrapped.splice(2..2, options.map(OsString::from));
    wrapped
}

/// The number of each thread of a running process whose name begins so. They are numbered as they were started, and keep
/// their numbers as long as none has ended.
///
/// # Errors
///
/// If there is no such process.
pub fn threads(pid: u32, name: &str) -> Result<Vec<usize>> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let id: u32 = entry?.file_name().to_string_lossy().parse()?;
        ids.push(id);
    }
    // Ids grow until they wrap round, which takes more threads than a measurement has.
    ids.sort_unstable();
    let mut numbers = Vec::new();
    for (number, id) in (1..).zip(ids) {
        // A thread may end between the listing and this, and has no name then.
        let comm = fs::read_to_string(format!("/proc/{pid}/task/{id}/comm"));
        if comm.is_ok_and(|comm| comm.starts_with(name)) {
            numbers.push(number);
        }
    }
    Ok(numbers)
}

/// The profile of one thread.
pub fn of_thread(profile: &Path, number: usize) -> PathBuf {
    let mut path = profile.as_os_str().to_owned();
    path.push(format!("-{number:02}"));
    path.into()
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
    fn threads_are_found_by_name() {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let (running, runs) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("found-by-name-1".to_owned())
            .spawn(move || {
                running.send(()).unwrap();
                stopped.recv().unwrap_err();
            });
        runs.recv().unwrap();
        let found = threads(std::process::id(), "found-by-name").unwrap();
        assert!(found.len() == 1 && found[0] > 1, "{found:?}");
        drop(stop);
        thread.unwrap().join().unwrap();
        assert!(threads(u32::MAX, "").is_err());
    }

    #[test]
    fn the_total_is_found() {
        assert_eq!(
            total("events: Ir\nsummary: 12\n\nfn=(1) a\n1 12\n\ntotals: 34\n"),
            Some(34)
        );
        assert_eq!(total("events: Ir\n"), None);
    }
}
