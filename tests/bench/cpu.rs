//! The CPU time a process has used, as the kernel accounts it.

use std::fs;
use std::time::Duration;

use super::Result;

/// CPU time of all threads of a process, ended ones included. Its grain is the clock tick, 10 ms on nearly all systems,
/// so a difference is worth something from a second on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuTime {
    /// In the process's own code.
    pub user: Duration,
    /// In the kernel on its behalf: the sockets, mostly.
    pub system: Duration,
}

impl CpuTime {
    /// What the process has used until now.
    ///
    /// # Errors
    ///
    /// If there is no such process, or no `/proc`.
    pub fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/stat");
        let stat = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let (user, system) = ticks(&stat).ok_or_else(|| format!("{path}: not understood"))?;
        let per_second = ticks_per_second(&fs::read("/proc/self/auxv")?)
            .ok_or("/proc/self/auxv does not tell the clock tick")?;
        let time = |ticks: u64| Duration::from_nanos(ticks * (1_000_000_000 / per_second));
        Ok(Self {
            user: time(user),
            system: time(system),
        })
    }

    /// What came on top of an earlier reading.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }

    /// User and system time together.
    pub fn total(self) -> Duration {
        self.user + self.system
    }
}

/// `utime` and `stime`, the 14th and 15th field of `stat`. The second field is the program's name, which may hold spaces
/// and parentheses; the last parenthesis ends it.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// The kernel's answer to `sysconf(_SC_CLK_TCK)`, read where the C library reads it.
fn ticks_per_second(auxv: &[u8]) -> Option<u64> {
    const AT_CLKTCK: usize = 17;
    const WORD: usize = size_of::<usize>();
    let word = |bytes: &[u8]| bytes.try_into().ok().map(usize::from_ne_bytes);
    auxv.chunks_exact(2 * WORD).find_map(|entry| {
        let (key, value) = entry.split_at(WORD);
        let found = word(key)? == AT_CLKTCK;
        found
            .then(|| word(value))?
            .filter(|&ticks| ticks > 0)?
            .try_into()
            .ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 123 45 0 0 20 0 3 0";
        assert_eq!(ticks(stat), Some((123, 45)));
        assert_eq!(ticks("7 (a) S 1 7"), None);
    }

    #[test]
    fn the_clock_tick_is_found_among_other_entries() {
        let words = [6_usize, 4096, 17, 100, 0, 0];
        let auxv: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(ticks_per_second(&auxv), Some(100));
        assert_eq!(ticks_per_second(&auxv[..16]), None);
    }

    #[test]
    fn the_own_process_can_be_read() {
        let earlier = CpuTime::of(std::process::id()).unwrap();
        let later = CpuTime::of(std::process::id()).unwrap();
        assert_eq!(
            later.since(earlier).total(),
            later.total() - earlier.total()
        );
    }
}
