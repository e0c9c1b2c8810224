use ::redis::Cmd;

use crate::algorithm::Algorithm;
use crate::window::Window;

/// What a policy counts with, in numbers of which all that is made is exact in a Lua number, which has 53 bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// In nanoseconds; all else of a rate is in units. 0 for a sliding window.
    pub(super) unit: u64,
    /// What a cell costs, or the length of a window in microseconds.
    pub(super) interval: u64,
    /// What the burst costs, or the limit.
    most: u64,
}

impl Terms {
    pub(super) fn of(algorithm: &Algorithm) -> Self {
        match algorithm {
            Algorithm::Gcra(gcra) => {
                let unit = gcra.unit_of_stores();
                // Whole ones where limits are shared: see `Memory`.
                let interval = gcra.interval() / unit;
                Self {
                    unit,
                    interval,
                    most: interval.saturating_mul(gcra.burst().into()),
                }
            }
            Algorithm::Window(window) => Self {
                unit: 0,
                // Whole ones where limits are shared: see `Memory`.
                interval: window.length() / Window::MICROSECOND,
                most: window.limit().into(),
            },
        }
    }

    pub(super) fn write(&self, call: &mut Cmd) {
        call.arg(self.unit).arg(self.interval).arg(self.most);
    }

    /// What so many cells cost; above the burst if they are more than it.
    pub(super) fn cost(&self, algorithm: &Algorithm, cells: u32) -> u64 {
        if cells > algorithm.burst() {
            return self.most + 1;
        }
        match self.unit {
            0 => cells.into(),
            _ => self.interval.saturating_mul(cells.into()),
        }
    }
}
