use std::fs;
use std::path::Path;

use super::ladder::{Ladder, Thresholds};

/// Which part of the memory may be in use before it counts as running out.
///
/// Of what there is, that is: of the limit of the process's control group (cgroup v2) or of one it is inside, whichever is
/// fullest; where there is none with a limit, of the machine's memory. Page cache that can be dropped at once counts as
/// free. Or it is a limit for this process alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MemoryThresholds {
    up: Thresholds,
    process_limit: Option<u64>,
}

impl MemoryThresholds {
    /// Elevated from 0.80 on, high from 0.90 on, extreme from 0.95 on.
    pub const fn new() -> Self {
        Self::at(0.80, 0.90, 0.95)
    }

    /// From which part on, of 1, the load is elevated, high and extreme. It falls again when 0.05 less are in use.
    pub const fn at(elevated: f64, high: f64, extreme: f64) -> Self {
        Self {
            up: [elevated, high, extreme, f64::INFINITY],
            process_limit: None,
        }
    }

    /// From which part on all requests are refused, critical-plus ones too. Never by default.
    #[must_use]
    pub const fn exhausted(mut self, from: f64) -> Self {
        let [elevated, high, extreme, _] = self.up;
        self.up = [elevated, high, extreme, from];
        self
    }

    /// Counts what this process has in memory, as a part of so many bytes.
    #[must_use]
    pub const fn process_limit(mut self, bytes: u64) -> Self {
        self.process_limit = Some(bytes);
        self
    }

    pub(super) fn ladder(self) -> Ladder {
        Ladder::new(self.up, self.up.map(|used| used - 0.05), 1)
    }

    /// The part of the memory that is in use, as the kernel tells it; `None` if it does not.
    pub(super) fn used(self) -> Option<f64> {
        self.used_in(Path::new("/"))
    }

    /// As [`Self::used`], with the file system's root in a directory.
    fn used_in(self, root: &Path) -> Option<f64> {
        let read = |path: &str| fs::read_to_string(root.join(path)).ok();
        match self.process_limit {
            Some(limit) => process_used(&read("proc/self/status")?, limit),
            None => group_used(&read).or_else(|| machine_used(&read("proc/meminfo")?)),
        }
    }
}

impl Default for MemoryThresholds {
    fn default() -> Self {
        Self::new()
    }
}

fn process_used(status: &str, limit: u64) -> Option<f64> {
    let kibibytes = field(status, "VmRSS:")?;
    (limit > 0).then(|| kibibytes * 1024.0 / limit as f64)
}

/// The fullest of the control groups that the process is in and that have a limit.
fn group_used(read: &impl Fn(&str) -> Option<String>) -> Option<f64> {
    let groups = read("proc/self/cgroup")?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mut fullest: Option<f64> = None;
    // From the innermost one to the root, whose files are there in a container only.
    for group in Path::new(group).ancestors() {
        let file = |name: &str| read(group_file(group, name).to_str()?);
        let used = file("memory.max").and_then(|limit| {
            let limit: f64 = limit.trim().parse().ok()?;
            let in_use: f64 = file("memory.current")?.trim().parse().ok()?;
            let droppable = file("memory.stat").and_then(|stat| field(&stat, "inactive_file"));
            Some(((in_use - droppable.unwrap_or(0.0)) / limit).max(0.0))
        });
        fullest = fullest.into_iter().chain(used).reduce(f64::max);
    }
    fullest
}

fn group_file(group: &Path, name: &str) -> std::path::PathBuf {
    Path::new("sys/fs/cgroup").join(group).join(name)
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

    fn files(files: &'static [(&str, &str)]) -> impl Fn(&str) -> Option<String> {
        move |path| {
            let (_, text) = files.iter().find(|(name, _)| *name == path)?;
            Some((*text).to_owned())
        }
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
        assert_eq!(group_used(&read), Some(0.6));
    }

    #[test]
    fn without_a_limit_the_machine_counts() {
        let read = files(&[
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "max\n"),
        ]);
        assert_eq!(group_used(&read), None);
        let meminfo = "MemTotal:       8000 kB\nMemFree:  100 kB\nMemAvailable:   2000 kB\n";
        assert_eq!(machine_used(meminfo), Some(0.75));
        assert_eq!(machine_used("nonsense"), None);
        assert_eq!(process_used("VmRSS:\t  512 kB\n", 1 << 20), Some(0.5));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_kernel_tells() {
        let used = MemoryThresholds::new().used().unwrap();
        assert!((0.0..=1.0).contains(&used), "{used}");
        // A process that tests itself has more than a kibibyte, and less than a tebibyte.
        let of = |limit| MemoryThresholds::new().process_limit(limit).used().unwrap();
        assert!(of(1 << 10) > 1.0);
        assert!(of(1 << 40) < 1.0);
    }

    #[test]
    fn elsewhere_nothing_is_known() {
        let nowhere = Path::new("/nowhere");
        assert_eq!(MemoryThresholds::new().used_in(nowhere), None);
        assert_eq!(
            MemoryThresholds::new().process_limit(1).used_in(nowhere),
            None
        );
    }
}
