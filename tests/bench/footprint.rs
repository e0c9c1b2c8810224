//! What a process holds, as the kernel accounts it.

use std::fs;

use super::Result;

/// Memory and open files of a process at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// Memory that is resident, in KiB.
    pub resident: u64,
    /// Threads.
    pub threads: u64,
    /// Open files, sockets among them.
    pub files: usize,
}

impl Footprint {
    /// What the process holds now.
    ///
    /// # Errors
    ///
    /// If there is no such process, or no `/proc`.
    pub fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/status");
        let status = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let number = |name| number(&status, name).ok_or_else(|| format!("{path}: no {name}"));
        Ok(Self {
            resident: number("VmRSS")?,
            threads: number("Threads")?,
            files: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
        })
    }
}

/// The first number of the line that begins with `name` and a colon.
fn number(status: &str, name: &str) -> Option<u64> {
    let of_name = |line: &str| {
        line.strip_prefix(name)?
            .strip_prefix(':')
            .map(str::to_owned)
    };
    let rest = status.lines().find_map(of_name)?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel() {
        let status = "Name:\tVmRSS: 7\nVmRSSx:\t1 kB\nVmRSS:\t   5120 kB\nThreads:\t3\n";
        assert_eq!(number(status, "VmRSS"), Some(5_120));
        assert_eq!(number(status, "Threads"), Some(3));
        assert_eq!(number(status, "VmHWM"), None);
    }

    #[test]
    fn an_open_file_counts() {
        let pid = std::process::id();
        let _files = [(); 64].map(|()| fs::File::open("/proc/self/status").unwrap());
        let open = Footprint::of(pid).unwrap();
        assert!(open.files >= 64 && open.resident > 0 && open.threads > 0);
    }
}
