//! References that stay with a thread from one request to the next.

use std::cell::Cell;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::thread::LocalKey;

/// A reference that a thread has at hand for its next request.
///
/// What all requests share is kept alive by a reference of each. If it is cloned and dropped with every request, all threads
/// write to one count, and each takes its memory away from the others. Here a thread keeps what its last request held, and
/// the next one that begins there writes to no count at all. Of requests that overlap on a thread so many save that as begin
/// just after one has ended, about half of them.
///
/// A thread keeps one reference: the last that was given back, until another one is or the thread ends. So what is shared may
/// outlive its last user for that long, and is dropped by some other request, or as the thread ends, where no runtime is entered
/// and a panic aborts the process. Threads may differ: what was taken on one can be given back on another.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use gw_core::at_hand::AtHand;
///
/// thread_local! {
///     static LIMITS: AtHand<Vec<u32>> = const { AtHand::new() };
/// }
///
/// let limits = Arc::new(vec![10, 100]);
/// AtHand::give_back(&LIMITS, AtHand::take(&LIMITS, &limits));
/// assert_eq!(Arc::strong_count(&limits), 2);
/// let taken = AtHand::take(&LIMITS, &limits);
/// assert_eq!(Arc::strong_count(&limits), 2);
/// # drop(taken);
/// ```
pub struct AtHand<T>(Cell<Option<Arc<T>>>);

impl<T: 'static> AtHand<T> {
    /// With nothing at hand.
    #[expect(clippy::new_without_default, reason = "it is for statics")]
    pub const fn new() -> Self {
        Self(Cell::new(None))
    }

    /// A reference to what `shared` refers to: the one at hand if it does so, else a new one.
    #[inline]
    pub fn take(hand: &'static LocalKey<Self>, shared: &Arc<T>) -> Arc<T> {
        // In a model nothing may be kept from one run to the next.
        if cfg!(loom) {
            return Arc::clone(shared);
        }
        // A thread that ends has nothing at hand any more.
        let taken = hand.try_with(|hand| match hand.0.take() {
            Some(taken) if Arc::ptr_eq(&taken, shared) => Some(taken),
            other => {
                hand.0.set(other);
                None
            }
        });
        match taken {
            Ok(Some(taken)) => taken,
            Ok(None) | Err(_) => Arc::clone(shared),
        }
    }

    /// Keeps `shared` at hand, and lets go of what was.
    #[inline]
    pub fn give_back(hand: &'static LocalKey<Self>, shared: Arc<T>) {
        if cfg!(loom) {
            return;
        }
        // Let go of here, when nothing is borrowed: dropping it may run foreign code.
        if let Ok(Some(other)) = hand.try_with(|hand| hand.0.replace(Some(shared))) {
            let_go(other);
        }
    }
}

/// What threads keep references to.
pub trait Kept: Sized + 'static {
    /// Where a thread has one at hand.
    fn hand() -> &'static LocalKey<AtHand<Self>>;
}

/// A reference that was [taken](AtHand::take), and is [given back](AtHand::give_back) when it is dropped.
pub struct Lent<T: Kept>(Option<Arc<T>>);

impl<T: Kept> Lent<T> {
    /// Refers to what `shared` does.
    #[inline]
    pub fn new(shared: &Arc<T>) -> Self {
        Self(Some(AtHand::take(T::hand(), shared)))
    }
}

impl<T: Kept> Clone for Lent<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Kept> Deref for Lent<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        match &self.0 {
            Some(shared) => shared,
            None => unreachable!("it is given back when it is dropped, and not before"),
        }
    }
}

impl<T: Kept> Drop for Lent<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(shared) = self.0.take() {
            AtHand::give_back(T::hand(), shared);
        }
    }
}

impl<T: Kept + fmt::Debug> fmt::Debug for Lent<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Apart, and the rest is small where requests pass.
#[inline(never)]
fn let_go<T>(shared: Arc<T>) {
    drop(shared);
}

impl<T> fmt::Debug for AtHand<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AtHand").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::thread;

    use super::*;

    thread_local! {
        static HAND: AtHand<u32> = const { AtHand::new() };
        static DROPS: AtHand<GivesBack> = const { AtHand::new() };
    }

    #[test]
    fn what_was_given_back_is_what_is_taken_next() {
        let shared = Arc::new(1);
        let first = AtHand::take(&HAND, &shared);
        assert_eq!(Arc::strong_count(&shared), 2);
        AtHand::give_back(&HAND, first);
        let again = AtHand::take(&HAND, &shared);
        assert_eq!(Arc::strong_count(&shared), 2);
        let beside = AtHand::take(&HAND, &shared);
        assert_eq!(Arc::strong_count(&shared), 3);
        drop((again, beside));
        assert_eq!(Arc::strong_count(&shared), 1);
    }

    #[test]
    fn one_is_kept_and_no_more() {
        let (one, other) = (Arc::new(1), Arc::new(1));
        let (first, second) = (AtHand::take(&HAND, &one), AtHand::take(&HAND, &one));
        AtHand::give_back(&HAND, first);
        AtHand::give_back(&HAND, second);
        assert_eq!(Arc::strong_count(&one), 2);
        let taken = AtHand::take(&HAND, &other);
        assert!(Arc::ptr_eq(&taken, &other));
        assert_eq!(Arc::strong_count(&one), 2, "it stays until it is replaced");
        AtHand::give_back(&HAND, taken);
        assert_eq!((Arc::strong_count(&one), Arc::strong_count(&other)), (1, 2));
    }

    #[test]
    fn it_is_let_go_of_when_the_thread_ends() {
        let shared = Arc::new(1);
        let theirs = Arc::clone(&shared);
        let keeps = thread::spawn(move || AtHand::give_back(&HAND, theirs));
        keeps.join().unwrap();
        assert_eq!(Arc::strong_count(&shared), 1);
    }

    /// Takes and gives back while it is dropped itself, as it does when a thread ends, too.
    struct GivesBack(Option<Arc<Self>>);

    impl Drop for GivesBack {
        fn drop(&mut self) {
            if let Some(shared) = &self.0 {
                AtHand::give_back(&DROPS, AtHand::take(&DROPS, shared));
            }
        }
    }

    #[test]
    fn what_is_let_go_of_may_itself_use_it() {
        let last = Arc::new(GivesBack(None));
        let theirs = Arc::clone(&last);
        let keeps = thread::spawn(move || {
            let outer = |inner: &Arc<GivesBack>| Arc::new(GivesBack(Some(Arc::clone(inner))));
            AtHand::give_back(&DROPS, outer(&theirs));
            AtHand::give_back(&DROPS, outer(&theirs));
        });
        keeps.join().unwrap();
        assert_eq!(Arc::strong_count(&last), 1);
    }
}
