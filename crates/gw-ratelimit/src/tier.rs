use std::num::NonZeroU8;
use std::sync::Arc;

/// Which tier of a policy: its number, in the order in which tiers were added.
///
/// It means something only to the policy whose it is, see [`Tiers::named`] and [`Limiter::tier`](crate::Limiter::tier).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tier(NonZeroU8);

impl Tier {
    /// The most tiers of one policy.
    pub const MOST: usize = 255;

    /// The one that was added after so many others.
    pub(crate) fn nth(index: usize) -> Option<Self> {
        let number = u8::try_from(index).ok()?.checked_add(1)?;
        NonZeroU8::new(number).map(Self)
    }

    pub(crate) const fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// The tiers of one policy, for its resolver to choose from.
#[derive(Debug, Clone, Default)]
pub struct Tiers(Arc<[Arc<str>]>);

impl Tiers {
    pub(crate) fn new(names: impl IntoIterator<Item = Arc<str>>) -> Self {
        Self(names.into_iter().collect())
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.iter()
    }

    /// The tier of this name; `None` if there is none, which is the policy's own quota.
    pub fn named(&self, name: &str) -> Option<Tier> {
        Tier::nth(self.0.iter().position(|known| **known == *name)?)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn tiers_are_numbered_as_they_are_added() {
        let tiers = Tiers::new(["silver", "gold"].map(Arc::from));
        assert_eq!(tiers.named("gold").map(Tier::index), Some(1));
        assert_eq!(tiers.named("silver").map(Tier::index), Some(0));
        assert_eq!(tiers.named("Gold"), None);
        assert_eq!(Tier::nth(254).map(Tier::index), Some(254));
        assert_eq!(Tier::nth(255), None);
        assert_eq!(size_of::<Option<Tier>>(), 1);
    }
}
