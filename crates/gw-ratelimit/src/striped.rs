//! What each request reads and an operator changes now and then.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::sync::PoisonError;

use crate::sync::{Mutex, RwLock, RwLockReadGuard};

/// A value of which threads read copies of their own, so that they do not slow one another down.
///
/// A change locks all copies, so it waits for whoever is reading one. When it is made, all that was done under the old
/// value, for as long as a guard was held, has been done: what follows meets no late-comer. No foreign code may run under a guard,
/// or it could come back with a change and wait for itself.
pub(crate) struct Striped<T> {
    /// At least one, by type.
    first: Aligned<T>,
    rest: Box<[Aligned<T>]>,
    /// One change after the other, or two of them could meet copies in different orders.
    changing: Mutex<()>,
}

/// A lock to a cache line (two: processors fetch them in pairs).
#[repr(align(128))]
struct Aligned<T>(RwLock<T>);

impl<T: Clone> Striped<T> {
    /// At least so many copies; their number is a power of two, so that none has to divide to find its own.
    pub(crate) fn new(value: T, copies: usize) -> Self {
        let copies = copies.next_power_of_two();
        let copy = |value| Aligned(RwLock::new(value));
        Self {
            rest: (1..copies).map(|_| copy(value.clone())).collect(),
            first: copy(value),
            changing: Mutex::new(()),
        }
    }
}

impl<T> Striped<T> {
    /// The value; it does not change while the guard lives.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.copy(of_thread())
    }

    /// Changes the value, and does something more before anybody reads the new one. What the first closure gives for the first
    /// copy is given back, after the second has seen it.
    pub(crate) fn change<R>(&self, change: impl Fn(&mut T) -> R, then: impl FnOnce(&R)) -> R {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        // All at once, in one order. Nobody who holds one copy asks for another, so this comes to an end.
        let mut first = self.first.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut rest: Vec<_> = self
            .rest
            .iter()
            .map(|copy| copy.0.write().unwrap_or_else(PoisonError::into_inner))
            .collect();
        let changed = change(&mut first);
        for copy in &mut rest {
            change(copy);
        }
        then(&changed);
        changed
    }

    /// Does something while nobody reads. Does not allocate.
    pub(crate) fn alone<R>(&self, act: impl FnOnce() -> R) -> R {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let _first = self.first.0.write().unwrap_or_else(PoisonError::into_inner);
        Self::without(&self.rest, act)
    }

    /// Does something while nobody reads these copies: one deeper for each, which are few.
    fn without<R>(copies: &[Aligned<T>], act: impl FnOnce() -> R) -> R {
        let Some((copy, rest)) = copies.split_first() else {
            return act();
        };
        let _guard = copy.0.write().unwrap_or_else(PoisonError::into_inner);
        Self::without(rest, act)
    }

    fn copy(&self, thread: usize) -> RwLockReadGuard<'_, T> {
        // Below the number of copies; what stands for the first one is out of range.
        let index = (thread & self.rest.len()).wrapping_sub(1);
        let copy = self.rest.get(index).unwrap_or(&self.first);
        copy.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: fmt::Debug> fmt::Debug for Striped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.0.fmt(f)
    }
}

/// The number of this thread: the least that no other thread had when it asked first. It has it alone, until it ends; but
/// for threads that are ending, which all have [`ENDING`].
#[inline]
pub(crate) fn of_thread() -> usize {
    match NUMBER.get() {
        UNKNOWN => ask(),
        number => number,
    }
}

const UNKNOWN: usize = usize::MAX;
/// Above all others.
const ENDING: usize = usize::MAX - 1;

thread_local! {
    // Apart from what gives it back: nothing has to be done when a thread ends for this to be read.
    static NUMBER: Cell<usize> = const { Cell::new(UNKNOWN) };
    static HOLDER: Holder = Holder(NUMBERS.lock().unwrap_or_else(PoisonError::into_inner).take());
}

static NUMBERS: std::sync::Mutex<Numbers> = std::sync::Mutex::new(Numbers {
    next: 0,
    free: BinaryHeap::new(),
});

/// Those that threads had which have ended, the least first. There are no more of them than there were threads at once.
struct Numbers {
    next: usize,
    free: BinaryHeap<Reverse<usize>>,
}

/// A thread's number, which goes back when the thread ends.
struct Holder(usize);

#[cold]
fn ask() -> usize {
    let number = HOLDER.try_with(|holder| holder.0).unwrap_or(ENDING);
    NUMBER.set(number);
    number
}

impl Numbers {
    fn take(&mut self) -> usize {
        if let Some(Reverse(number)) = self.free.pop() {
            return number;
        }
        let number = self.next;
        self.next += 1;
        number
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        NUMBER.set(ENDING);
        let mut numbers = NUMBERS.lock().unwrap_or_else(PoisonError::into_inner);
        numbers.free.push(Reverse(self.0));
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::collections::HashSet;
    use std::sync::{Barrier, mpsc};
    use std::thread;

    use super::*;

    #[test]
    fn all_copies_change() {
        for copies in 1..5 {
            let striped = Striped::new(1, copies);
            let before = striped.change(|value| std::mem::replace(value, 2), |_| {});
            assert_eq!(before, 1);
            for thread in 0..10 {
                assert_eq!(*striped.copy(thread), 2);
            }
        }
    }

    #[test]
    fn a_number_is_one_threads_alone() {
        let numbers = Mutex::new(HashSet::new());
        let together = Barrier::new(9);
        thread::scope(|scope| {
            for _ in 0..9 {
                scope.spawn(|| {
                    let number = of_thread();
                    assert!(numbers.lock().unwrap().insert(number));
                    together.wait();
                    assert_eq!(of_thread(), number);
                });
            }
        });
        // As many threads at once, ever, as there are numbers: those that have ended leave theirs.
        for _ in 0..1_000 {
            let number = thread::spawn(of_thread).join().unwrap();
            assert!(number < 900, "{number}");
        }
    }

    /// What counts by number must be able to do so while a thread ends.
    #[test]
    fn a_thread_that_ends_shares_its_number() {
        struct Late(mpsc::Sender<usize>);
        impl Drop for Late {
            fn drop(&mut self) {
                self.0.send(of_thread()).unwrap();
            }
        }
        thread_local! {
            static LATE: Cell<Option<Late>> = const { Cell::new(None) };
        }
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            // Made first, so it is dropped last.
            LATE.set(Some(Late(sender)));
            assert!(of_thread() < ENDING);
        });
        assert_eq!(receiver.recv().unwrap(), ENDING);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;
    use crate::gcra::{Gcra, take_back};
    use crate::quota::Quota;
    use crate::verdict::Verdict;

    const NOW: u64 = 100;
    const SECOND: u64 = 1_000_000_000;

    fn gcra(burst: u32) -> Gcra {
        Gcra::new(Quota::per_second(1).burst(burst)).unwrap()
    }

    /// The TAT of one key, each step on it under the store's lock.
    type Tat = Mutex<u64>;

    /// As the limiter does: what is charged, and taken back, under one guard.
    fn pay(terms: &Striped<Gcra>, tat: &Tat, thread: usize, take_it_back: bool) {
        let gcra = terms.copy(thread);
        let after = {
            let mut tat = tat.lock().unwrap();
            let Verdict::Allow { state: after } = gcra.decide(*tat, NOW, 1) else {
                return;
            };
            *tat = after;
            after
        };
        if take_it_back {
            let mut tat = tat.lock().unwrap();
            *tat = take_back(*tat, after, gcra.cost(1), NOW);
        }
    }

    /// As the limiter does: a smaller burst, then all debts cut to it.
    fn shrink(terms: &Striped<Gcra>, tat: &Tat) {
        terms.change(|terms| *terms = gcra(2), |()| {});
        let mut tat = tat.lock().unwrap();
        *tat = (*tat).min(NOW + gcra(2).tolerance());
    }

    /// The debt that is left, in each interleaving.
    fn model(debt: u64, take_it_back: bool, expected: u64) {
        loom::model(move || {
            let terms = Arc::new(Striped::new(gcra(10), 2));
            let tat = Arc::new(Tat::new(NOW + debt));
            let other = {
                let (terms, tat) = (Arc::clone(&terms), Arc::clone(&tat));
                thread::spawn(move || pay(&terms, &tat, 1, take_it_back))
            };
            shrink(&terms, &tat);
            other.join().unwrap();
            let left = *tat.lock().unwrap() - NOW;
            assert_eq!(left, expected);
        });
    }

    /// Story: the charge was made, the debts were cut, and what was taken back then came off the debt that the cut had
    /// left: the client was forgiven a second that it owed under any terms.
    #[test]
    fn loom_what_is_taken_back_is_not_taken_off_a_cut_debt() {
        model(5 * SECOND, true, 2 * SECOND);
    }

    /// Story: a request that had read the old terms charged under them after the cut, and locked its client out for longer
    /// than the new quota can mean.
    #[test]
    fn loom_no_charge_under_old_terms_comes_after_the_cut() {
        model(5 * SECOND, false, 2 * SECOND);
        // Without a debt that is cut, the charge is there, before the change or after it.
        model(0, false, SECOND);
    }
}
