use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use gw_core::at_hand::AtHand;

use super::Inner;

thread_local! {
    static AT_HAND: AtHand<Inner> = const { AtHand::new() };
}

/// A permit's reference to its lanes. The thread on which it is dropped keeps it for its next permit.
#[derive(Clone)]
pub(super) struct Lent(Option<Arc<Inner>>);

impl Lent {
    #[inline]
    pub(super) fn new(lanes: &Arc<Inner>) -> Self {
        Self(Some(AtHand::take(&AT_HAND, lanes)))
    }
}

impl Deref for Lent {
    type Target = Inner;

    #[inline]
    fn deref(&self) -> &Inner {
        match &self.0 {
            Some(lanes) => lanes,
            None => unreachable!("it is given back when it is dropped, not before"),
        }
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent").finish_non_exhaustive()
    }
}

impl Drop for Lent {
    #[inline]
    fn drop(&mut self) {
        if let Some(lanes) = self.0.take() {
            AtHand::give_back(&AT_HAND, lanes);
        }
    }
}
