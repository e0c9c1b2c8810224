//! How willingly a thread gives way to others.

/// Makes the calling thread, one of `lane`'s, nicer by `nice`.
///
/// Relative to what it inherits, since only going up takes no privilege: a process that is nicer than the lane shall be keeps
/// its own niceness. It is only a priority, so the lane runs without it where the system refuses.
#[cfg(target_os = "linux")]
pub(super) fn raise(lane: &str, nice: u8) {
    if nice == 0 {
        return;
    }
    // Of this thread alone: contrary to POSIX, Linux has one niceness for each.
    if let Err(refused) = rustix::process::nice(i32::from(nice)) {
        crate::telemetry::nice_refused(lane, refused);
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) const fn raise(_lane: &str, _nice: u8) {}
