use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::{fs, io};

use gw_core::ConfigError;

use super::ladder::{Ladder, Thresholds};

/// Which part of the memory may be in use before it counts as running out.
///
/// Of what there is, that is: of the limit of the process's control group (cgroup v2) or of one it is inside, whichever is
/// fullest; where there is none with a limit, of the machine's memory. Page cache that can be dropped at once counts as
/// free. Or it is a limit for this process alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MemoryThresholds {
    up: Thresholds,
    process_limit: Option<NonZeroU64>,
}

impl MemoryThresholds {
    /// The load falls again when so much less is in use.
    const FALL: f64 = 0.05;

    /// Elevated from 0.80 on, high from 0.90 on, extreme from 0.95 on.
    pub const fn new() -> Self {
        Self {
            up: [0.80, 0.90, 0.95, f64::INFINITY],
            process_limit: None,
        }
    }

    /// From which part on, of 1, the load is elevated, high and extreme: above 0.05, since it falls again when 0.05 less
    /// are in use, at most 1, and none below the one before it.
    ///
    /// # Errors
    ///
    /// The one that breaks this rule.
    pub fn at(elevated: f64, high: f64, extreme: f64) -> Result<Self, ConfigError> {
        let up = [
            part("memory.elevated", elevated)?,
            part("memory.high", high)?,
            part("memory.extreme", extreme)?,
            f64::INFINITY,
        ];
        if high < elevated {
            return Err(ConfigError::new(
                "memory.high",
                "must be at least `elevated`",
            ));
        }
        if extreme < high {
            return Err(ConfigError::new(
                "memory.extreme",
                "must be at least `high`",
            ));
        }
        Ok(Self {
            up,
            process_limit: None,
        })
    }

    /// From which part on all requests are refused, critical-plus ones too: from where the load is extreme, to 1. Never by
    /// default.
    ///
    /// # Errors
    ///
    /// If it is not in this range.
    pub fn exhausted(mut self, from: f64) -> Result<Self, ConfigError> {
        let [elevated, high, extreme, _] = self.up;
        if part("memory.exhausted", from)? < extreme {
            return Err(ConfigError::new(
                "memory.exhausted",
                "must be at least `extreme`",
            ));
        }
        self.up = [elevated, high, extreme, from];
        Ok(self)
    }

    /// Counts what this process has in memory, as a part of so many bytes.
    #[must_use]
    pub const fn process_limit(mut self, bytes: NonZeroU64) -> Self {
        self.process_limit = Some(bytes);
        self
    }

    pub(super) fn ladder(self) -> Ladder {
        Ladder::new(self.up, self.up.map(|used| used - Self::FALL), 1)
    }

    /// The part of the memory that is in use, as the kernel tells it; `None` if it does not.
    pub(super) fn used(self) -> Option<f64> {
        self.used_in(Path::new("/"))
    }

    /// As [`Self::used`], with the file system's root in a directory.
    fn used_in(self, root: &Path) -> Option<f64> {
        let read = |path: &str| match fs::read_to_string(root.join(path)) {
            Err(error) if is_absent(&error) => Ok(None),
            read => read.map(Some),
        };
        let whole = |path| read(path).ok().flatten();
        match self.process_limit {
            Some(limit) => process_used(&whole("proc/self/status")?, limit),
            None => group_used(&read)
                .ok()?
                .or_else(|| machine_used(&whole("proc/meminfo")?)),
        }
    }
}

impl Default for MemoryThresholds {
    fn default() -> Self {
        Self::new()
    }
}

/// A part of the memory from which on there can be load that also falls again.
fn part(field: &'static str, part: f64) -> Result<f64, ConfigError> {
    if part > MemoryThresholds::FALL && part <= 1.0 {
        return Ok(part);
    }
    Err(ConfigError::new(
        field,
        "must be a number above 0.05 and at most 1",
    ))
}

/// Whether a file is not there for this process, and not only at this moment.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
    )
}

fn process_used(status: &str, limit: NonZeroU64) -> Option<f64> {
    let kibibytes = field(status, "VmRSS:")?;
    Some(kibibytes * 1024.0 / limit.get() as f64)
}

/// The fullest of the control groups that the process is in and that have a limit.
///
/// An error if a file cannot be read that is there: without it a group would seem to have no limit, or to use its page cache.
fn group_used(read: &impl Fn(&str) -> io::Result<Option<String>>) -> io::Result<Option<f64>> {
    let groups = read("proc/self/cgroup")?.unwrap_or_default();
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    let mut fullest: Option<f64> = None;
    // From the innermost one to the root, whose files are there in a container only.
    for group in own.into_iter().flat_map(|own| Path::new(own).ancestors()) {
        let file = |name: &str| read(&group_file(group, name).to_string_lossy());
        let Some(limit) = number(file("memory.max")?) else {
            continue;
        };
        let Some(in_use) = number(file("memory.current")?) else {
            continue;
        };
        let stat = file("memory.stat")?.unwrap_or_default();
        let droppable = field(&stat, "inactive_file").unwrap_or(0.0);
        let used = ((in_use - droppable) / limit).max(0.0);
        fullest = fullest.into_iter().chain([used]).reduce(f64::max);
    }
    Ok(fullest)
}

fn group_file(group: &Path, name: &str) -> PathBuf {
    Path::new("sys/fs/cgroup").join(group).join(name)
}

fn number(text: Option<String>) -> Option<f64> {
    text?.trim().parse().ok()
}

fn machine_used(meminfo: &str) -> Option<f64> {
    let total = field(meminfo, "MemTotal:")?;
    let available = field(meminfo, "MemAvailable:")?;
    (total > 0.0).then(|| 1.0 - available / total)
}

/// The number in the line that begins with a name.
fn field(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(name)).then(|| words.next()?.parse().ok())?
    })
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    fn files(files: &'static [(&str, &str)]) -> impl Fn(&str) -> io::Result<Option<String>> {
        move |path| {
            let file = files.iter().find(|(name, _)| *name == path);
            Ok(file.map(|(_, text)| (*text).to_owned()))
        }
    }

    fn bytes(number: u64) -> NonZeroU64 {
        NonZeroU64::new(number).unwrap()
    }

    #[test]
    fn what_the_load_could_not_reach_or_fall_below_is_refused() {
        const PART: &str = "must be a number above 0.05 and at most 1";
        for ([elevated, high, extreme], field, rule) in [
            ([f64::NAN, 0.9, 0.95], "elevated", PART),
            ([80.0, 90.0, 95.0], "elevated", PART),
            // Nothing is below what it would fall at.
            ([0.05, 0.9, 0.95], "elevated", PART),
            ([0.8, f64::INFINITY, 0.95], "high", PART),
            ([0.8, 0.9, f64::NAN], "extreme", PART),
            ([0.9, 0.8, 0.95], "high", "must be at least `elevated`"),
            ([0.8, 0.9, 0.85], "extreme", "must be at least `high`"),
        ] {
            let error = MemoryThresholds::at(elevated, high, extreme).unwrap_err();
            assert_eq!(error.to_string(), format!("memory.{field}: {rule}"));
        }
        for (from, rule) in [
            (f64::NAN, PART),
            (98.0, PART),
            (0.9, "must be at least `extreme`"),
        ] {
            let error = MemoryThresholds::new().exhausted(from).unwrap_err();
            assert_eq!(error.to_string(), format!("memory.exhausted: {rule}"));
        }
        let least = MemoryThresholds::at(0.06, 0.06, 1.0).unwrap();
        assert!(least.exhausted(1.0).is_ok());
        assert_eq!(
            MemoryThresholds::at(0.8, 0.9, 0.95),
            Ok(MemoryThresholds::new())
        );
    }

    #[test]
    fn the_fullest_group_counts_without_what_can_be_dropped() {
        let read = files(&[
            ("proc/self/cgroup", "1:name=systemd:/x\n0::/pod/app\n"),
            ("sys/fs/cgroup/pod/app/memory.max", "max\n"),
            ("sys/fs/cgroup/pod/app/memory.current", "900\n"),
            ("sys/fs/cgroup/pod/memory.max", "1000\n"),
            ("sys/fs/cgroup/pod/memory.current", "900\n"),
            (
                "sys/fs/cgroup/pod/memory.stat",
                "anon 500\ninactive_file 300\n",
            ),
            ("sys/fs/cgroup/memory.max", "10000\n"),
            ("sys/fs/cgroup/memory.current", "1000\n"),
        ]);
        assert_eq!(group_used(&read).unwrap(), Some(0.6));
    }

    /// Story: where only `memory.stat` could not be opened, all of the page cache counted as used; where it was `memory.max`, the
    /// machine's memory counted.
    #[test]
    fn a_group_of_which_not_all_can_be_read_says_nothing() {
        let all = files(&[
            ("proc/self/cgroup", "0::/app\n"),
            ("sys/fs/cgroup/app/memory.max", "1000\n"),
            ("sys/fs/cgroup/app/memory.current", "900\n"),
            ("sys/fs/cgroup/app/memory.stat", "inactive_file 300\n"),
        ]);
        assert_eq!(group_used(&all).unwrap(), Some(0.6));
        for missing in ["cgroup", "memory.max", "memory.current", "memory.stat"] {
            let read = |path: &str| match path.ends_with(missing) {
                true => Err(io::Error::other("too many open files")),
                false => all(path),
            };
            assert!(group_used(&read).is_err(), "{missing}");
        }
    }

    #[test]
    fn without_a_limit_the_machine_counts() {
        let read = files(&[
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "max\n"),
        ]);
        assert_eq!(group_used(&read).unwrap(), None);
        let meminfo = "MemTotal:       8000 kB\nMemFree:  100 kB\nMemAvailable:   2000 kB\n";
        assert_eq!(machine_used(meminfo), Some(0.75));
        assert_eq!(machine_used("nonsense"), None);
        assert_eq!(
            process_used("VmRSS:\t  512 kB\n", bytes(1 << 20)),
            Some(0.5)
        );
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_kernel_tells() {
        let used = MemoryThresholds::new().used().unwrap();
        assert!((0.0..=1.0).contains(&used), "{used}");
        // A process that tests itself has more than a kibibyte, and less than a tebibyte.
        let of = |limit| MemoryThresholds::new().process_limit(limit).used().unwrap();
        assert!(of(bytes(1 << 10)) > 1.0);
        assert!(of(bytes(1 << 40)) < 1.0);
    }

    #[test]
    fn elsewhere_nothing_is_known() {
        let nowhere = Path::new("/nowhere");
        assert_eq!(MemoryThresholds::new().used_in(nowhere), None);
        assert_eq!(
            MemoryThresholds::new()
                .process_limit(bytes(1))
                .used_in(nowhere),
            None
        );
    }
}
