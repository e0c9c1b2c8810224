//! Logins without and with saturated logs, in turns.

use std::time::Duration;

use gw_tests::bench::Result;
use gw_tests::bench::statistics::{median, micros};
use tokio::time::Instant;

use super::logins::{Logins, Seen};
use super::saturation::{Counts, Saturation, Size, Way};
use super::subject::{Running, Start, Subject};

/// Clients that log in.
const CLIENTS: usize = 4;

/// Logins before the first measurement.
const WARM_UP: usize = 2_000;

/// New clients in each turn.
const NEWCOMERS: usize = 20;

/// A turn is over by then, whatever has been answered.
const LONGEST: Duration = Duration::from_secs(2);

/// The promise: p99 with saturated logs to p99 without, or else so little more that nobody notices.
const ALLOWED: f64 = 1.10;
const ALLOWED_MORE: Duration = Duration::from_millis(1);

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Amount {
    /// Turns of each kind.
    pub pairs: usize,
    /// Logins of one turn.
    pub logins: usize,
    /// Requests of a flood in one turn, at least.
    pub flood: usize,
}

/// One turn of each kind.
#[derive(Debug)]
pub struct Pair {
    idle: Seen,
    saturated: Seen,
    newcomers: usize,
    counts: Counts,
}

/// All pairs of one subject that is saturated in one way.
#[derive(Debug)]
pub struct Case {
    /// Which subject.
    pub subject: Subject,
    /// Which way.
    pub way: Way,
    pairs: Vec<Pair>,
}

/// A subject that serves, and the clients that log in there.
#[derive(Debug)]
pub struct Stand {
    subject: Subject,
    running: Running,
    logins: Logins,
}

impl Stand {
    /// Starts it, in a directory of its own.
    ///
    /// # Errors
    ///
    /// If a process cannot be started.
    pub async fn start(subject: Subject, start: Start<'_>) -> Result<Self> {
        let directory = start
            .directory
            .join(subject.name().replace([' ', ','], "-"));
        std::fs::create_dir(&directory)?;
        let start = Start {
            directory: &directory,
            ..start
        };
        let running = subject.start(start).await?;
        let mut logins = Logins::new(running.auth, CLIENTS);
        logins.run(WARM_UP, LONGEST).await?;
        Ok(Self {
            subject,
            running,
            logins,
        })
    }

    /// Whether saturating it in this way tells anything.
    pub const fn can_be(&self, way: Way) -> bool {
        self.subject.can_be(way)
    }

    /// Saturates it in one way: as many pairs as there should be, or as are begun within `time`, one at least.
    ///
    /// # Errors
    ///
    /// If clients cannot be started.
    pub async fn measure(
        &mut self,
        way: Way,
        size: Size,
        amount: Amount,
        time: Duration,
    ) -> Result<Case> {
        let until = Instant::now() + time;
        let mut pairs = Vec::with_capacity(amount.pairs);
        while pairs.is_empty() || pairs.len() < amount.pairs && Instant::now() < until {
            pairs.push(pair(&mut self.logins, &self.running, way, size, amount).await?);
        }
        Ok(Case {
            subject: self.subject,
            way,
            pairs,
        })
    }
}

async fn pair(
    logins: &mut Logins,
    running: &Running,
    way: Way,
    size: Size,
    amount: Amount,
) -> Result<Pair> {
    recover(logins).await?;
    let idle = logins.run(amount.logins, LONGEST).await?;
    let saturation = Saturation::start(running.logs, way, size).await?;
    let before = saturation.counts();
    let mut saturated = logins.run(amount.logins, LONGEST).await?;
    while way == Way::Flood && saturation.counts().asked - before.asked < amount.flood {
        saturated.append(logins.run(amount.logins / 10, LONGEST).await?);
    }
    let after = saturation.counts();
    let newcomers = logins.newcomers(NEWCOMERS).await?;
    let counts = match way {
        // What is open was opened before.
        Way::IdleConnections => after,
        _ => Counts {
            asked: after.asked - before.asked,
            refused: after.refused - before.refused,
            held: after.held,
        },
    };
    Ok(Pair {
        idle,
        saturated,
        newcomers,
        counts,
    })
}

/// Waits until nothing is left of the last turn: handlers that block do so for clients that have left as well.
async fn recover(logins: &mut Logins) -> Result<()> {
    const ROUNDS: usize = 100;
    const QUICK: Duration = Duration::from_millis(5);
    for _ in 0..ROUNDS {
        let seen = logins.run(50, LONGEST).await?;
        if seen.answered() == 50 && seen.latencies().per_mille(1000) < QUICK {
            break;
        }
    }
    Ok(())
}

impl Case {
    /// How many pairs there are.
    pub fn pairs(&self) -> usize {
        self.pairs.len()
    }

    /// The median over the pairs of a thousandth of the latencies, in microseconds: without and with saturated logs.
    pub fn per_mille(&self, thousandths: usize) -> [f64; 2] {
        let of = |seen: &Seen| micros(seen.latencies().per_mille(thousandths));
        let over = |turn: fn(&Pair) -> &Seen| median(self.pairs.iter().map(|pair| of(turn(pair))));
        [over(|pair| &pair.idle), over(|pair| &pair.saturated)]
    }

    /// Logins answered out of those tried, with saturated logs.
    pub fn answered(&self) -> [usize; 2] {
        self.sum(|pair| [pair.saturated.answered(), pair.saturated.tried()])
    }

    /// New clients that could log in, out of all.
    pub fn newcomers(&self) -> [usize; 2] {
        self.sum(|pair| [pair.newcomers, NEWCOMERS])
    }

    /// Requests for logs that were refused, out of those that were asked.
    pub fn refused(&self) -> [usize; 2] {
        self.sum(|pair| [pair.counts.refused, pair.counts.asked])
    }

    /// The most requests for logs that were held at the end of a turn.
    pub fn held(&self) -> usize {
        let held = self.pairs.iter().map(|pair| pair.counts.held);
        held.max().unwrap_or_default()
    }

    /// Whether every login was answered, and as fast as was promised.
    pub fn holds(&self) -> bool {
        let [idle, saturated] = self.per_mille(990);
        let [answered, tried] = self.answered();
        let [came, all] = self.newcomers();
        let fast = saturated <= idle * ALLOWED || saturated <= idle + micros(ALLOWED_MORE);
        fast && answered == tried && came == all
    }

    fn sum(&self, of: impl Fn(&Pair) -> [usize; 2]) -> [usize; 2] {
        self.pairs
            .iter()
            .map(of)
            .fold([0, 0], |[a, b], [c, d]| [a + c, b + d])
    }
}
