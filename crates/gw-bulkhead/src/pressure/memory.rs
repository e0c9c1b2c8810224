use std::fs;
use std::path::Path;

use super::ladder::Ladder;

/// Which part of the memory may be in use before it counts as running out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MemoryThresholds {
    up: [f64; 3],
}

impl MemoryThresholds {
    /// Elevated from 0.80 on, high from 0.90 on, extreme from 0.95 on.
    pub const fn new() -> Self {
        Self::at(0.80, 0.90, 0.95)
    }

    /// From which part on, of 1, the load is elevated, high and extreme. It falls again when 0.05 less are in use.
    pub const fn at(elevated: f64, high: f64, extreme: f64) -> Self {
        Self {
            up: [elevated, high, extreme],
        }
    }

    pub(super) fn ladder(self) -> Ladder {
        Ladder::new(self.up, self.up.map(|used| used - 0.05), 1)
    }
}

impl Default for MemoryThresholds {
    fn default() -> Self {
        Self::new()
    }
}

/// The part of the memory that is in use, as the kernel tells it; `None` if it does not.
pub(super) fn used() -> Option<f64> {
    used_in(Path::new("/"))
}

/// As [`used`], with the file system's root in a directory.
fn used_in(root: &Path) -> Option<f64> {
    let read = |path: &str| fs::read_to_string(root.join(path)).ok();
    group_used(&read).or_else(|| machine_used(&read("proc/meminfo")?))
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
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_kernel_tells() {
        let used = used().unwrap();
        assert!((0.0..=1.0).contains(&used), "{used}");
    }

    #[test]
    fn elsewhere_nothing_is_known() {
        assert_eq!(used_in(Path::new("/nowhere")), None);
    }
}
