//! What the machine as a whole says: a lane's own places do not see that the processor or the memory runs out.

mod ladder;
mod lag;
mod memory;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use gw_core::context::Criticality;
use tokio::time::{Instant, sleep, sleep_until};

pub use self::lag::LagThresholds;
pub use self::memory::MemoryThresholds;
use crate::telemetry;

/// How loaded the machine is, told by signals, and with it which requests lanes shed. Clones are the same.
///
/// There is one for each bulkhead, see [`BulkheadHandle::pressure`](crate::BulkheadHandle::pressure). Nothing looks at
/// the machine unless the application spawns what does: [`Pressure::watch_lag`], [`Pressure::watch_memory`], or
/// something of its own that calls [`Pressure::set`].
///
/// # Examples
///
/// ```
/// use gw_bulkhead::{Criticality, Load, Pressure, Signal};
///
/// let pressure = Pressure::default();
/// pressure.set(Signal::Other, Load::High);
/// assert!(pressure.load().sheds(Criticality::SheddablePlus));
/// assert!(!pressure.load().sheds(Criticality::Critical));
/// ```
#[derive(Clone, Default)]
pub struct Pressure(Arc<AtomicU32>);

/// How loaded the machine is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Load {
    /// Nothing is shed.
    #[default]
    Normal,
    /// Sheddable requests are shed.
    Elevated,
    /// Sheddable requests are, and sheddable-plus ones.
    High,
    /// All but critical-plus requests are.
    Extreme,
    /// All requests are.
    Exhausted,
}

/// Where a [`Load`] is known from. The highest one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Signal {
    /// Tasks wait for the runtime: [`Pressure::watch_lag`].
    Lag,
    /// Memory runs out: [`Pressure::watch_memory`].
    Memory,
    /// What the application knows.
    Other,
}

impl Load {
    const ALL: [Self; 5] = [
        Self::Normal,
        Self::Elevated,
        Self::High,
        Self::Extreme,
        Self::Exhausted,
    ];

    /// Whether requests of this criticality are refused.
    pub const fn sheds(self, criticality: Criticality) -> bool {
        let from = match criticality {
            Criticality::Sheddable => Self::Elevated,
            Criticality::SheddablePlus => Self::High,
            Criticality::Critical => Self::Extreme,
            Criticality::CriticalPlus => Self::Exhausted,
        };
        self as u8 >= from as u8
    }

    fn of(level: u8) -> Self {
        let known = Self::ALL.into_iter().find(|load| *load as u8 == level);
        known.unwrap_or_default()
    }
}

impl Signal {
    const ALL: [Self; 3] = [Self::Lag, Self::Memory, Self::Other];
}

impl Pressure {
    /// What the signals together say.
    pub fn load(&self) -> Load {
        let levels = self.0.load(Ordering::Relaxed).to_le_bytes();
        Load::of(levels.into_iter().max().unwrap_or(0))
    }

    #[inline]
    pub(crate) fn is_normal(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// What one signal says.
    pub fn load_by(&self, signal: Signal) -> Load {
        let [lag, memory, other, _] = self.0.load(Ordering::Relaxed).to_le_bytes();
        Load::of(match signal {
            Signal::Lag => lag,
            Signal::Memory => memory,
            Signal::Other => other,
        })
    }

    /// Sets what one signal says, until it is set again.
    pub fn set(&self, signal: Signal, load: Load) {
        Cell(&self.0).set(signal, load);
    }

    /// Watches how long tasks wait until the current runtime runs them: each interval it sleeps, and looks how late it
    /// is woken. A signal rises by a step when each look for a while was too late, and falls likewise.
    ///
    /// Spawn it on the runtime that serves, and once: there is one lag, and of two that watch it the one that looked last
    /// would be believed. Where requests are served by several runtimes, look at each with a [`Pressure`] of its own, and
    /// [set](Pressure::set) the highest. It ends when all clones of this are dropped, which those of the bulkhead are.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with its time driver enabled.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves the signal as it was last: set it to [`Load::Normal`].
    pub fn watch_lag(&self, thresholds: LagThresholds) -> impl Future<Output = ()> + Send + use<> {
        let pressure = Arc::downgrade(&self.0);
        let mut ladder = thresholds.ladder();
        async move {
            let mut due = Instant::now() + LagThresholds::INTERVAL;
            loop {
                sleep_until(due).await;
                let now = Instant::now();
                let Some(pressure) = pressure.upgrade() else {
                    return;
                };
                let lag = now.saturating_duration_since(due);
                Cell(&pressure).set(Signal::Lag, ladder.step(lag.as_secs_f64()));
                due = now + LagThresholds::INTERVAL;
            }
        }
    }

    /// Watches the memory that is in use, as a part of what there is: see [`MemoryThresholds`] for what that is.
    ///
    /// It reads a few files of the kernel twice a second, in place: they are no disk. It ends when all clones of this are
    /// dropped, and at once where the kernel does not tell (not Linux). A look that fails later, for want of a file descriptor,
    /// leaves the signal as it is until the next one.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with its time driver enabled.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves the signal as it was last: set it to [`Load::Normal`].
    pub fn watch_memory(
        &self,
        thresholds: MemoryThresholds,
    ) -> impl Future<Output = ()> + Send + use<> {
        const INTERVAL: Duration = Duration::from_millis(500);
        let pressure = Arc::downgrade(&self.0);
        let mut ladder = thresholds.ladder();
        async move {
            let mut used = thresholds.used();
            if used.is_none() {
                return;
            }
            while let Some(pressure) = pressure.upgrade() {
                // A later look may fail, of all moments in those with too many connections to open a file.
                if let Some(used) = used {
                    Cell(&pressure).set(Signal::Memory, ladder.step(used));
                }
                drop(pressure);
                sleep(INTERVAL).await;
                used = thresholds.used();
            }
        }
    }
}

/// The levels of all signals, a byte each.
struct Cell<'a>(&'a AtomicU32);

impl Cell<'_> {
    fn set(&self, signal: Signal, load: Load) {
        let changed = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
                let [mut lag, mut memory, mut other, _] = word.to_le_bytes();
                *match signal {
                    Signal::Lag => &mut lag,
                    Signal::Memory => &mut memory,
                    Signal::Other => &mut other,
                } = load as u8;
                let changed = u32::from_le_bytes([lag, memory, other, 0]);
                (changed != word).then_some(changed)
            });
        if changed.is_ok() {
            telemetry::pressure_changed(signal, load);
        }
    }
}

impl fmt::Debug for Pressure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for signal in Signal::ALL {
            map.entry(&signal, &self.load_by(signal));
        }
        map.finish()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::num::{NonZeroU32, NonZeroU64};
    use std::task::{Context, Waker};

    use super::*;
    use crate::{LaneConfig, Lanes};

    #[test]
    fn the_highest_signal_counts() {
        let pressure = Pressure::default();
        assert_eq!(pressure.load(), Load::Normal);
        pressure.set(Signal::Lag, Load::Elevated);
        pressure.set(Signal::Memory, Load::Extreme);
        assert_eq!(pressure.load(), Load::Extreme);
        pressure.set(Signal::Memory, Load::Normal);
        assert_eq!(pressure.load(), Load::Elevated);
        assert_eq!(pressure.load_by(Signal::Lag), Load::Elevated);
        pressure.set(Signal::Lag, Load::Normal);
        assert_eq!(pressure.load(), Load::Normal);
    }

    #[test]
    fn what_is_more_critical_is_shed_later() {
        use Criticality::{Critical, CriticalPlus, Sheddable, SheddablePlus};
        let shed = |load: Load| {
            [Sheddable, SheddablePlus, Critical, CriticalPlus]
                .into_iter()
                .filter(|criticality| load.sheds(*criticality))
                .count()
        };
        assert_eq!(Load::ALL.map(shed), [0, 1, 2, 3, 4]);
    }

    #[tokio::test(start_paused = true)]
    async fn watching_ends_with_what_it_is_for() {
        let pressure = Pressure::default();
        let lag = tokio::spawn(pressure.watch_lag(LagThresholds::new()));
        let memory = tokio::spawn(pressure.watch_memory(MemoryThresholds::new()));
        sleep(Duration::from_secs(2)).await;
        assert!(!lag.is_finished());
        drop(pressure);
        lag.await.unwrap();
        memory.await.unwrap();
    }

    /// Story: a thread kept what its last permit had of the lanes, and so did the task that watched their pressure.
    #[tokio::test(start_paused = true)]
    async fn watching_ends_with_the_lanes_whatever_a_thread_keeps_of_them() {
        let lanes = Lanes::new(NonZeroU32::MIN, [LaneConfig::new("core")]).unwrap();
        let lag = tokio::spawn(lanes.pressure().watch_lag(LagThresholds::new()));
        drop(lanes.try_admit(lanes.find("core").unwrap()));
        drop(lanes);
        lag.await.unwrap();
    }

    /// Story: in a moment without a file descriptor, under the load that it was there for, the watch ended, and what it had
    /// said last was believed for ever.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_look_at_the_memory_that_fails_is_left_out() {
        let test = "pressure::tests::a_look_at_the_memory_that_fails_is_left_out";
        gw_testkit::with_few_descriptors(test, async {
            tokio::time::pause();
            let pressure = Pressure::default();
            let all = MemoryThresholds::new().process_limit(NonZeroU64::MIN);
            let watch = tokio::spawn(pressure.watch_memory(all));
            sleep(Duration::from_secs(1)).await;
            assert_eq!(pressure.load_by(Signal::Memory), Load::Extreme);
            let files: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/").ok()).collect();
            assert!(!files.is_empty());
            sleep(Duration::from_secs(1)).await;
            pressure.set(Signal::Memory, Load::Normal);
            sleep(Duration::from_secs(1)).await;
            assert_eq!(pressure.load(), Load::Normal);
            drop(files);
            sleep(Duration::from_secs(1)).await;
            assert_eq!(pressure.load(), Load::Extreme);
            watch.abort();
        });
    }

    #[tokio::test(start_paused = true)]
    async fn lag_that_stays_raises_the_signal() {
        let pressure = Pressure::default();
        let watch = pressure.watch_lag(LagThresholds::new());
        let mut watch = std::pin::pin!(watch);
        // Whoever is polled late is behind: the clock moves, and nobody polls meanwhile.
        let mut look = async |late: Duration| {
            let mut cx = Context::from_waker(Waker::noop());
            assert!(watch.as_mut().poll(&mut cx).is_pending());
            tokio::time::advance(LagThresholds::INTERVAL + late).await;
            assert!(watch.as_mut().poll(&mut cx).is_pending());
            pressure.load()
        };
        for _ in 0..LagThresholds::PATIENCE - 1 {
            assert_eq!(look(Duration::from_millis(90)).await, Load::Normal);
        }
        assert_eq!(look(Duration::from_millis(60)).await, Load::High);
        for _ in 0..2 * LagThresholds::PATIENCE {
            look(Duration::ZERO).await;
        }
        assert_eq!(pressure.load(), Load::Normal);
    }
}
