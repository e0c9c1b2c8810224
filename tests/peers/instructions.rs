//! Instructions, counted by callgrind in a process of its own for each subject.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use gw_tests::bench::{Result, callgrind};

use crate::subject::{Case, Subject};

/// How many times each is done: numbers hardly change from one time to the next.
pub const TIMES: u64 = 20_000;

/// User-space instructions of one time.
///
/// # Errors
///
/// If there is no valgrind, or the program does not end well under it.
pub fn of(case: &Case, subject: &str, keys: u64, directory: &Path) -> Result<f64> {
    let name = format!("{} {subject}.callgrind", case.name);
    let profile = directory.join(name.replace([' ', ','], "-"));
    let words: [OsString; 7] = [
        std::env::current_exe()?.into(),
        "--keys".into(),
        keys.to_string().into(),
        "count".into(),
        case.name.into(),
        subject.into(),
        TIMES.to_string().into(),
    ];
    let words = callgrind::within(&words, &profile, "*counted*");
    let (program, arguments) = words.split_first().ok_or("no program")?;
    let output = Command::new(program).args(arguments).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {said}", output.status).into());
    }
    Ok(callgrind::instructions(&profile)? as f64 / TIMES as f64)
}

/// What the other process does.
///
/// # Errors
///
/// If there is no such subject, or it does not do what it should.
pub fn count(case: &Case, subject: &str, keys: u64, times: u64) -> Result<()> {
    let mut subjects = case.subjects(keys)?;
    let named = |found: &&mut Subject| found.name == subject;
    let subject = subjects.iter_mut().find(named).ok_or("no such subject")?;
    // What is done at the first time only does not count.
    subject.run(100)?;
    counted(subject, times)
}

/// The only function whose instructions are collected.
#[inline(never)]
fn counted(subject: &mut Subject, times: u64) -> Result<()> {
    subject.run(times)
}
