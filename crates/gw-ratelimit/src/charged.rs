//! What an admitted request pays later.

mod local;

use std::fmt;
use std::sync::Arc;

use http::Extensions;

pub(crate) use self::local::LocalAccount;
use crate::decision::{PolicyId, Standing};
use crate::limiter::Limiter;

/// Charges or pays back an admitted request while it is served, when it turns out what it costs.
///
/// A [`RateLimitLayer`](crate::RateLimitLayer) puts it into the extensions of requests that it lets pass, if one of its
/// policies takes [late charges](crate::Policy::late_charges). Clones speak of the same request, and may outlive it.
///
/// Where limits are shared (`SharedRateLimitLayer`), nothing here waits for the store: it is told a moment later. What
/// cannot be told it, because it does not answer or too much is waiting, is not charged or given back there; it is counted.
///
/// # Examples
///
/// ```
/// use gw_ratelimit::Charged;
/// use http::Request;
///
/// fn search(request: &Request<()>) {
///     let matches = 1_200;
///     if let Some(charged) = Charged::of(request.extensions()) {
///         charged.charge("searches", matches / 100);
///     }
/// }
/// ```
#[derive(Clone)]
pub struct Charged(Arc<dyn Account>);

/// What one request owes to the policies that may change it later.
pub(crate) trait Account: Send + Sync {
    /// Whose policies these are.
    fn limiter(&self) -> &Limiter;

    /// The policies by their place, and whether each can be found by its name or is the layer's alone.
    fn policy(&self, place: usize) -> Option<(PolicyId, bool)>;

    /// Charges cells: how many; `None` if the policy is off.
    fn charge(&self, place: usize, cells: u32) -> Option<u32>;

    /// Gives cells back: how many.
    fn refund(&self, place: usize, cells: u32) -> u32;

    /// How the request stands with the policy now, which was told `then`.
    fn standing(&self, place: usize, then: &Standing, now: u64) -> Option<Standing>;

    /// Whether anything was charged or given back since the request was admitted.
    fn has_changed(&self) -> bool;

    /// That of the same kind of layer further out.
    fn outer(&self) -> Option<&Charged>;
}

/// One policy's part in a [`Charged`].
#[derive(Clone)]
pub(crate) struct Seat {
    charged: Charged,
    place: usize,
}

impl Charged {
    /// What stands in a request's extensions.
    pub fn of(extensions: &Extensions) -> Option<&Self> {
        extensions.get()
    }

    /// Charges `cells` more to the policy of this name: how many were charged, or where limits are shared, will be.
    ///
    /// The request has been admitted, so nothing is refused; the client's next request is, while the debt lasts. A debt
    /// never gets beyond two bursts: what would go beyond is not charged. Where limits are shared, that is found out later,
    /// so fewer may be charged than this says. `None` if no policy of this name takes late charges for this request,
    /// because there is none, it does not apply or it is off by now.
    pub fn charge(&self, policy: &str, cells: u32) -> Option<u32> {
        self.seat(policy)?.charge(cells)
    }

    /// Gives back `cells` of what this request was charged under the policy of this name, when it was admitted or later:
    /// how many were given back.
    ///
    /// Never more than it was charged and has not got back yet. What of it the time has paid off already is counted as
    /// given back, and brings the client nothing; nor does what was charged to a key that was forgotten for want of room. Of
    /// more than four charges that others' came in between, the last four can be given back.
    /// After an operator has cut or freed debts of the policy, nothing is given back that was charged before; where limits
    /// are shared, that goes for the keys that were freed. With the local fallback, each side gives back what it charged, and it
    /// is the larger number of both that is returned. `None` if no policy of this name takes late charges for this request. A
    /// policy that is off by now gives back what it took.
    pub fn refund(&self, policy: &str, cells: u32) -> Option<u32> {
        Some(self.seat(policy)?.refund(cells))
    }

    pub(crate) fn new(account: impl Account + 'static) -> Self {
        Self(Arc::new(account))
    }

    /// The innermost layer's policy of this name, if it takes late charges for this request.
    pub(crate) fn seat(&self, policy: &str) -> Option<Seat> {
        let named = |charged: &Self| {
            let limiter = charged.0.limiter();
            let mut seats = charged.seats();
            let found = seats.find(|(id, open, _)| *open && limiter.name(*id) == Some(policy));
            found.map(|(_, _, seat)| seat)
        };
        self.layers().find_map(named)
    }

    /// Whether some layer's policy has this name, applying or not.
    pub(crate) fn knows(&self, policy: &str) -> bool {
        self.layers()
            .any(|charged| charged.0.limiter().policy(policy).is_some())
    }

    /// Whether anything was charged or given back since the request was admitted.
    pub(crate) fn has_changed(&self) -> bool {
        self.0.has_changed()
    }

    /// The policies in here, and whether they can be found by their names.
    pub(crate) fn seats(&self) -> impl Iterator<Item = (PolicyId, bool, Seat)> {
        (0..).map_while(|place| {
            let (policy, open) = self.0.policy(place)?;
            let charged = self.clone();
            Some((policy, open, Seat { charged, place }))
        })
    }

    /// This one, and those further out.
    fn layers(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |charged| charged.0.outer())
    }
}

impl Seat {
    pub(crate) fn charge(&self, cells: u32) -> Option<u32> {
        self.charged.0.charge(self.place, cells)
    }

    pub(crate) fn refund(&self, cells: u32) -> u32 {
        self.charged.0.refund(self.place, cells)
    }

    /// How the request stands with the policy now, which was told `then`.
    pub(crate) fn standing(&self, then: &Standing, now: u64) -> Option<Standing> {
        self.charged.0.standing(self.place, then, now)
    }
}

impl fmt::Debug for Charged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limiter = self.0.limiter();
        let names = self.seats().filter_map(|(policy, ..)| limiter.name(policy));
        f.debug_list().entries(names).finish()
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat").finish_non_exhaustive()
    }
}
