use loom::sync::Arc;
use loom::thread;

use super::*;
use crate::gcra::take_back;
use crate::quota::Quota;

const SECOND: u64 = 1_000_000_000;
const NOW: u64 = 7 * TICK;

#[derive(Clone)]
struct Shared(Arc<(Set, Mutex<()>)>);

impl Shared {
    fn new() -> Self {
        Self(Arc::new((Set::new(), Mutex::new(()))))
    }

    fn set(&self) -> &Set {
        &self.0.0
    }

    /// The TAT that the charge led to, if it was allowed.
    fn charge(&self, fingerprint: u16, burst: u32) -> Option<u64> {
        let gcra = gcra(burst);
        match self.set().charge(fingerprint, &gcra, 1, NOW, &self.0.1).0 {
            Verdict::Allow { state } => Some(state),
            _ => None,
        }
    }

    fn take_back(&self, fingerprint: u16, after: u64) {
        let change = |tat| take_back(tat, after, SECOND, NOW);
        self.set().lower(fingerprint, &self.0.1, change);
    }

    /// No key is in two slots: the fingerprints, in order.
    fn keys(&self) -> Vec<u64> {
        let words = self.set().0.iter();
        let mut keys: Vec<u64> = words
            .map(|slot| slot.load(Ordering::Relaxed) >> TAT_BITS)
            .filter(|fingerprint| *fingerprint != 0)
            .collect();
        keys.sort_unstable();
        assert!(keys.windows(2).all(|pair| pair[0] != pair[1]), "{keys:?}");
        keys
    }
}

fn gcra(burst: u32) -> Gcra {
    Gcra::new(Quota::per_second(1).burst(burst)).unwrap()
}

fn spawn<T: 'static>(
    shared: &Shared,
    act: impl FnOnce(Shared) -> T + 'static,
) -> thread::JoinHandle<T> {
    let shared = shared.clone();
    thread::spawn(move || act(shared))
}

/// The same newcomer from three threads: one slot, and one burst.
#[test]
fn loom_a_newcomer_gets_one_slot() {
    loom::model(|| {
        let shared = Shared::new();
        let others = [(); 2].map(|()| spawn(&shared, |set| set.charge(1, 2)));
        let mine = shared.charge(1, 2);
        let theirs = others.map(|other| other.join().unwrap());
        let passed = theirs.into_iter().chain([mine]).flatten().count();
        assert_eq!(passed, 2);
        assert_eq!(shared.keys(), [1]);
        assert_eq!(shared.set().peek(1), NOW + 2 * SECOND);
    });
}

/// Two newcomers want the same free slot, and each gets one; or the last one that is left, and the second begins with
/// the debt of the first.
#[test]
fn loom_newcomers_do_not_overwrite_each_other() {
    loom::model(|| {
        let shared = Shared::new();
        let other = spawn(&shared, |set| set.charge(1, 1));
        assert!(shared.charge(2, 1).is_some());
        assert!(other.join().unwrap().is_some());
        assert_eq!(shared.keys(), [1, 2]);
    });
    loom::model(|| {
        let shared = Shared::new();
        for key in [3, 3, 4, 4] {
            assert!(shared.charge(key, 9).is_some());
        }
        let other = spawn(&shared, |set| set.charge(1, 1));
        let mine = shared.charge(2, 1);
        let theirs = other.join().unwrap();
        // A burst of one has no room for another's debt.
        assert_eq!(mine.is_some() as u32 + theirs.is_some() as u32, 1);
        assert_eq!(shared.keys().len(), 3);
    });
}

/// A key is charged while another takes its slot: the charge is in the slot, or made anew from what the set owes.
#[test]
fn loom_no_charge_is_lost_to_a_newcomer() {
    loom::model(|| {
        let shared = Shared::new();
        for key in [1, 2, 2, 4, 4] {
            assert!(shared.charge(key, 4).is_some());
        }
        let newcomer = spawn(&shared, |set| set.charge(3, 4));
        assert!(shared.charge(1, 4).is_some());
        assert!(newcomer.join().unwrap().is_some());
        shared.keys();
        // Whatever came first, two cells of the first key were charged, and it owes no less.
        assert!(shared.set().peek(1) >= NOW + 2 * SECOND);
    });
}

/// The same, where the key is charged as one that is known: if it has gone, nothing is charged.
#[test]
fn loom_no_known_key_is_charged_in_anothers_slot() {
    loom::model(|| {
        let shared = Shared::new();
        for key in [1, 2, 2, 4, 4] {
            assert!(shared.charge(key, 4).is_some());
        }
        let newcomer = spawn(&shared, |set| set.charge(3, 4));
        let known = shared.set().charge_own(1, &gcra(4), 1, NOW);
        let others = newcomer.join().unwrap().unwrap();
        shared.keys();
        // The newcomer began with what the other had just been charged as well, took another's place, or found that the
        // charge had not been made.
        let owed = if known.is_some() { 2 } else { 1 };
        assert!(shared.set().peek(1) >= NOW + owed * SECOND);
        assert_eq!(others, NOW + (owed + 1) * SECOND);
    });
}

/// What is taken back does not let a key that had to go come back with less than it owed.
#[test]
fn loom_taking_back_forgives_nobody() {
    loom::model(|| {
        let shared = Shared::new();
        for key in [1, 1, 4, 4, 4] {
            assert!(shared.charge(key, 9).is_some());
        }
        let after = [(); 3].map(|()| shared.charge(2, 9).unwrap());
        // The first key has to go, with a debt of two.
        let newcomer = spawn(&shared, |set| set.charge(3, 9));
        shared.take_back(2, after[2]);
        shared.take_back(2, after[1]);
        assert!(newcomer.join().unwrap().is_some());
        let keys = shared.keys();
        assert!(shared.set().peek(1) >= NOW + 2 * SECOND, "{keys:?}");
    });
}

/// Story: a thread that takes back saw the least debt of the others, which then grew; and a newcomer took that slot for
/// the least, and kept its debt for the set. What was taken back led below it.
#[test]
fn loom_taking_back_is_not_overtaken() {
    loom::model(|| {
        let shared = Shared::new();
        for key in [1, 2, 2, 2, 4, 4, 4, 4] {
            assert!(shared.charge(key, 9).is_some());
        }
        let again = spawn(&shared, |set| set.charge(1, 9));
        let newcomer = spawn(&shared, |set| set.charge(3, 9));
        let lock = &shared.0.1;
        shared.set().lower(2, lock, |tat| tat - 2 * SECOND);
        assert!(again.join().unwrap().is_some());
        assert!(newcomer.join().unwrap().is_some());
        shared.keys();
        assert!(shared.set().peek(1) >= NOW + 2 * SECOND);
    });
}

/// A charge that is taken back while the key is charged again: one of the two is left.
#[test]
fn loom_taking_back_leaves_the_others() {
    loom::model(|| {
        let shared = Shared::new();
        let after = shared.charge(1, 9).unwrap();
        let other = spawn(&shared, |set| set.charge(1, 9));
        shared.take_back(1, after);
        assert!(other.join().unwrap().is_some());
        assert_eq!(shared.set().peek(1), NOW + SECOND);
    });
}

/// Story: a thread has looked at the set and is about to put its key into the slot that it found; until it does, the
/// slot is charged, which sends another newcomer elsewhere, and the charge is taken back. So the slot looks untouched,
/// and the key would be in two.
#[test]
fn loom_a_slot_that_looks_untouched_is_not_taken_twice() {
    loom::model(|| {
        let shared = Shared::new();
        for key in [1, 2, 4] {
            assert!(shared.charge(key, 9).is_some());
        }
        let newcomer = spawn(&shared, |set| set.charge(3, 9));
        let after = shared.charge(1, 9);
        assert!(shared.charge(3, 9).is_some());
        if let Some(after) = after {
            shared.take_back(1, after);
        }
        assert!(newcomer.join().unwrap().is_some());
        shared.keys();
        assert!(shared.set().peek(3) >= NOW + 3 * SECOND);
    });
}
