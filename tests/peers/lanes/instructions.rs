//! What a login takes of the gateway's threads, counted by callgrind: instructions do not depend on how busy the machine is.

use std::path::Path;
use std::time::Duration;

use gw_tests::bench::table::Table;
use gw_tests::bench::{Result, callgrind};

use super::logins::Logins;
use super::saturation::{Saturation, Size, Way};
use super::subject::{Start, Subject};

/// Logins of one run, those before the first measurement included.
const LOGINS: usize = 2_000;

/// For a run of logins, and for the gateway to come up and to end, which are slow there.
const PATIENCE: Duration = Duration::from_secs(60);

/// The promise: instructions of a login with saturated logs to those without.
const ALLOWED: f64 = 1.05;

/// Fewer clients than where time is measured: all of them are served some fifty times slower.
const SIZE: Size = Size {
    clients: 60,
    idle: 200,
    flood: 200,
};

/// Counts for the gateway with a listener of the lane's own, since only there do threads tell logins from logs. Whether
/// the promise holds.
///
/// # Errors
///
/// If there is no valgrind, or the gateway does not end well under it.
pub async fn count(start: Start<'_>, ways: &[Way], directory: &Path) -> Result<(String, bool)> {
    // The children run elsewhere, so the directory's name must not depend on where we are.
    let directory = std::path::absolute(directory)?;
    std::fs::create_dir_all(&directory)?;
    let idle = login(start, None, &directory).await?;
    let mut table = Table::new(&["logs", "instructions", "ratio"]);
    table.row(vec!["idle".to_owned(), format!("{idle:.0}"), String::new()]);
    let mut holds = true;
    for &way in ways.iter().filter(|way| Subject::Gateway.can_be(**way)) {
        let saturated = login(start, Some(way), &directory).await?;
        let ratio = saturated / idle;
        holds &= ratio <= ALLOWED;
        table.row(vec![
            way.name().to_owned(),
            format!("{saturated:.0}"),
            format!("{ratio:.3}"),
        ]);
    }
    let verdict = if holds { "holds" } else { "MISSED" };
    let text = format!(
        "user-space instructions of a login on the threads that serve logins, over {LOGINS} each:\n{}at most {ALLOWED}: {verdict}\n",
        table.render()
    );
    Ok((text, holds))
}

async fn login(start: Start<'_>, way: Option<Way>, directory: &Path) -> Result<f64> {
    let name = way.map_or("idle", Way::name).replace([' ', ':'], "-");
    let profile = directory.join(format!("{name}.callgrind"));
    let start = Start {
        profile: Some(&profile),
        patience: PATIENCE,
        ..start
    };
    let running = Subject::Gateway.start(start).await?;
    let saturation = match way {
        Some(way) => Some(Saturation::start(running.logs, way, SIZE).await?),
        None => None,
    };
    let mut logins = Logins::new(running.auth, 4).patience(PATIENCE);
    let seen = logins.run(LOGINS, PATIENCE).await?;
    if seen.answered() != LOGINS {
        return Err(format!("{name}: {} of {LOGINS} logins answered", seen.answered()).into());
    }
    let threads = callgrind::threads(running.server.pid(), "gw-traffic")?;
    drop(saturation);
    running.server.terminate(PATIENCE).await?;
    let mut instructions = 0;
    for thread in threads {
        instructions += callgrind::instructions(&callgrind::of_thread(&profile, thread))?;
    }
    Ok(instructions as f64 / LOGINS as f64)
}
