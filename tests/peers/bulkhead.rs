//! One place among a bounded number: taken and given back, without HTTP.

pub mod layers;

use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Arc;

use gw_bulkhead::{LaneConfig, LaneId, Lanes};
use gw_tests::bench::Result;
use tokio::sync::Semaphore;

use crate::contended::on_two;
use crate::subject::Subject;

const PLACES: NonZeroU32 = NonZeroU32::new(512).unwrap();

const OURS: &str = "gw";
const SEMAPHORE: &str = "tokio's semaphore, owned permit";

/// By one thread.
///
/// # Errors
///
/// If lanes cannot be built.
pub fn place(_: u64) -> Result<Vec<Subject>> {
    let alone = |name, take: Taker| Subject::new(name, move || take.take(0));
    let borrowing = Gw::full_guarantee()?;
    Ok(vec![
        alone("nothing", Taker::Nothing),
        alone(OURS, Taker::Gw(Gw::new()?)),
        alone("gw, borrowed", Taker::Gw(borrowing)),
        alone(SEMAPHORE, Taker::semaphore()).beside(OURS),
    ])
}

/// By two threads at once.
///
/// # Errors
///
/// If lanes cannot be built.
pub fn two_threads(_: u64) -> Result<Vec<Subject>> {
    let both = |name, take: Taker, lanes: [usize; 2]| {
        let many = move |times| {
            on_two(times, |thread, times| {
                let [first, second] = lanes;
                let lane = if thread == 0 { first } else { second };
                (0..times).map(|_| u64::from(take.take(lane))).sum()
            })
        };
        Subject::of_many(name, many).by_threads()
    };
    Ok(vec![
        both("nothing", Taker::Nothing, [0, 0]),
        both(OURS, Taker::Gw(Gw::new()?), [0, 0]),
        both("gw, a lane each", Taker::Gw(Gw::new()?), [0, 1]),
        both("gw, borrowed", Taker::Gw(Gw::full_guarantee()?), [0, 0]),
        both(SEMAPHORE, Taker::semaphore(), [0, 0]).beside(OURS),
    ])
}

/// What places are taken from.
enum Taker {
    /// The floor: whatever it takes to come here.
    Nothing,
    Gw(Gw),
    Semaphore(Arc<Semaphore>),
}

struct Gw {
    lanes: Lanes,
    ids: [LaneId; 2],
    _held: Vec<gw_bulkhead::Permit>,
}

impl Gw {
    fn new() -> Result<Self> {
        let configs = ["one", "two"].map(|name| LaneConfig::new(name).guaranteed(0.4));
        let lanes = Lanes::new(PLACES, configs)?;
        let find = |name| lanes.find(name).ok_or("no such lane");
        let ids = [find("one")?, find("two")?];
        Ok(Self {
            lanes,
            ids,
            _held: Vec::new(),
        })
    }

    /// Of the first lane's own places none is left.
    fn full_guarantee() -> Result<Self> {
        let mut gw = Self::new()?;
        let [lane, _] = gw.ids;
        let own = PLACES.get() * 2 / 5 + 1;
        gw._held = (0..own).filter_map(|_| gw.lanes.try_admit(lane)).collect();
        Ok(gw)
    }
}

impl Taker {
    fn semaphore() -> Self {
        Self::Semaphore(Arc::new(Semaphore::new(512)))
    }

    /// Whether there was a place, which is given back.
    fn take(&self, lane: usize) -> bool {
        match self {
            Self::Nothing => black_box(lane) == lane,
            Self::Gw(Gw { lanes, ids, .. }) => ids
                .get(lane)
                .is_some_and(|id| black_box(lanes.try_admit(*id)).is_some()),
            Self::Semaphore(semaphore) => {
                black_box(Arc::clone(semaphore).try_acquire_owned()).is_ok()
            }
        }
    }
}
