//! The decision on one request, out of what is leased and known here, and what Redis answers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gw_core::Mode;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::account::SharedBill;
use super::breaker::Breaker;
use super::courier::Courier;
use super::held::Held;
use super::item::{Item, Items, questions};
use super::key::Digester;
use super::lease::{Asked, Grant};
use super::limiter::SharedCharge;
use super::link::Link;
use super::permit::Permit;
use super::receipt::Receipt;
use super::script::{Answer, Answers, Place, Seen};
use super::settings::OnFailure;
use super::table::{Entry, Table};
use super::telemetry::{Source, StoreTally};
use crate::decision::{Decision, Ruling};
use crate::limiter::{Bill, Charge, Limiter};
use crate::verdict::Verdict;

/// What all clones of a limiter share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Holds the policies, and decides where Redis cannot.
    pub(super) limiter: Arc<Limiter>,
    /// For people.
    pub(super) label: Arc<str>,
    pub(super) digester: Digester,
    pub(super) link: Link,
    pub(super) breaker: Mutex<Breaker>,
    pub(super) timeout: Duration,
    pub(super) on_failure: OnFailure,
    pub(super) leases: Option<Holdings>,
    /// Whether a task gives back what is not spent.
    pub(super) tended: AtomicBool,
    /// Whether nothing is leased any more.
    pub(super) closed: AtomicBool,
    pub(super) courier: Courier,
    pub(super) tally: StoreTally,
}

/// The leases of this instance.
#[derive(Debug)]
pub(super) struct Holdings {
    pub(super) table: Table,
    /// The most cells of one lease.
    pub(super) most: u32,
    /// Held while cells are given back.
    pub(super) returning: tokio::sync::Mutex<()>,
}

/// A decision, and if that was asked for, what the request may be charged later. No bills: none of the policies applies,
/// or it is refused.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) decision: Decision,
    /// When it was made, on the limiter's clock, if any policy had a say.
    pub(super) now: u64,
    pub(super) bills: Vec<SharedBill>,
}

/// A request that is decided, or that Redis has to be asked about.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "it is moved once, and a box for the large one would be for each request"
)]
pub(super) enum Begun {
    Decided(Outcome),
    Asking(Box<Asking>),
}

/// A question that is about to be asked. Dropping it, at any time, gives back what it holds.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) items: Items,
    pub(super) held: Held,
    pub(super) leave: Permit,
    /// Whether bills are wanted.
    pub(super) billed: bool,
}

impl Asking {
    /// Asks and decides.
    pub(super) async fn finish(self) -> Outcome {
        let Self {
            mut items,
            held,
            leave,
            billed,
        } = self;
        let shared = Arc::clone(&leave.shared);
        let questions = questions(&items);
        let sent = shared.now();
        let answers = leave.ask(shared.link.ask(&questions)).await;
        let Some(answers) = answers else {
            drop(held);
            return shared.decide_by_rule(&items, billed);
        };
        shared.hear(&mut items, &answers, sent);
        if items.iter().any(Item::refuses) {
            drop(held);
        } else {
            held.keep(|digest| {
                let mut charged = items.iter().filter(|item| item.is_allowed());
                charged.any(|item| item.charge.digest == digest)
            });
        }
        // What is not spent is back by now.
        if let Some(holdings) = shared.holdings() {
            holdings.read(&mut items, shared.now());
        }
        shared.conclude(&items, Source::Store, billed)
    }
}

impl Shared {
    pub(super) fn now(&self) -> u64 {
        self.limiter.nanos(Instant::now())
    }

    pub(super) fn breaker(&self) -> MutexGuard<'_, Breaker> {
        // Nothing in there panics half way.
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing is leased any more. To be asked where the entry is locked: who closes looks at each entry after it has said
    /// so, and waits for what is being fetched for it by then.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    pub(super) const fn holdings(&self) -> Option<&Holdings> {
        self.leases.as_ref()
    }

    /// Whether this instance counts along, for when Redis does not answer.
    pub(super) fn follows(&self) -> bool {
        self.on_failure == OnFailure::LocalFallback
    }

    pub(super) fn place(&self, charge: &SharedCharge) -> Place {
        Place {
            policy: charge.local.key.policy(),
            digest: charge.digest,
        }
    }

    /// The policies that are asked: all that apply and are not off.
    pub(super) fn items(&self, charges: &[SharedCharge]) -> Items {
        let now = self.now();
        let item = |charge: &SharedCharge| {
            let (applied, cost) = self.limiter.apply(&charge.local, now)?;
            Some(Item {
                charge: *charge,
                applied,
                cost,
                known: None,
                read_at: None,
                lacking: cost,
                extra: 0,
                receipts: Default::default(),
            })
        };
        charges.iter().filter_map(item).collect()
    }

    /// Decides by what is known and leased here. `false` if Redis has to be asked for what is lacking; what is not is
    /// held then.
    pub(super) fn decide_here(
        &self,
        holdings: &Holdings,
        items: &mut Items,
        held: &mut Held,
        billed: bool,
    ) -> bool {
        let now = self.now();
        holdings.look(items, now);
        if items.iter().any(Item::refuses) {
            holdings.let_off(items, now);
            return true;
        }
        let mut asking = false;
        for item in items.iter_mut().filter(|item| item.known.is_none()) {
            let (digest, cost) = (item.charge.digest, item.cost);
            let Some(gcra) = item.rate().copied() else {
                asking = true;
                continue;
            };
            let taken = holdings
                .table
                .place((digest, item.applied.policy.0), now, |entry| {
                    let spent = entry.lease.spend(&gcra, cost, now);
                    let lacking = cost - spent.cells();
                    // What costs nothing is only told how things stand.
                    if lacking == 0 && (cost > 0 || entry.lease.is_fresh(now)) {
                        let tat = entry.lease.balance(now);
                        return (spent, lacking, 0, Some(tat));
                    }
                    let extra = if cost == 0 || entry.fetching || self.is_closed() {
                        0
                    } else {
                        entry.lease.extra(&gcra, holdings.most, now)
                    };
                    entry.fetching |= extra > 0;
                    (spent, lacking, extra, None)
                });
            // Without a place there, it is asked for what it costs and no more.
            let Some((spent, lacking, extra, balance)) = taken else {
                asking = true;
                continue;
            };
            if billed {
                let [first, spare] = spent.receipts(&gcra);
                let [one, other, _] = &mut item.receipts;
                (*one, *other) = (first, spare);
            }
            held.spent(digest, spent);
            if extra > 0 {
                held.fetching(digest);
            }
            item.known = balance.map(|tat| Verdict::Allow { state: tat });
            (item.lacking, item.extra) = (lacking, extra);
            asking |= item.known.is_none();
        }
        if !asking {
            held.spend();
        }
        !asking
    }

    /// Takes note of what Redis answered.
    pub(super) fn hear(self: &Arc<Self>, items: &mut Items, answers: &Answers, sent: u64) {
        let now = self.now();
        let asked = items.iter_mut().filter(|item| item.known.is_none());
        for (item, answer) in asked.zip(&answers.of_policies) {
            let pause = self.learn(item, answer, answers.clock, sent, now);
            if answer.seen.leased() > 0 {
                self.tend();
            }
            let [.., receipt] = &mut item.receipts;
            let algorithm = &item.applied.algorithm;
            *receipt = Receipt::of(algorithm, &answer.seen, answers.clock, item.lacking);
            item.hear(answer, now, pause.unwrap_or(0));
        }
    }

    /// Puts what Redis said of a key into its lease: for how long Redis is not asked again.
    fn learn(&self, item: &Item, answer: &Answer, clock: u64, sent: u64, now: u64) -> Option<u64> {
        let (holdings, gcra) = (self.holdings()?, item.rate()?);
        let Seen::Rate {
            debt,
            leased,
            origin,
        } = answer.seen
        else {
            return None;
        };
        let asked = Asked {
            cost: item.lacking,
            extra: item.extra,
            sent,
        };
        let grant = Grant {
            debt,
            leased,
            clock,
            limited: answer.ruling != Ruling::Allowed,
            origin,
        };
        holdings.table.known(item.charge.digest, |entry| {
            entry.lease.told(gcra, asked, grant, now);
            entry.lease.pause(now)
        })
    }

    /// The decision, once it is known what each policy says.
    pub(super) fn conclude(&self, items: &Items, source: Source, billed: bool) -> Outcome {
        let now = self.now();
        let mut outcome = Outcome {
            now,
            ..Outcome::default()
        };
        let decision = &mut outcome.decision;
        for item in items {
            decision.push(item.standing(now));
        }
        if decision.is_allowed() && (billed || self.follows()) {
            for item in items {
                let cost = if item.is_allowed() { item.cost } else { 0 };
                let bill = match self.follows() {
                    true => self.limiter.follow(&item.charge.local, cost, now),
                    false => Bill::empty(item.charge.local),
                };
                if billed {
                    let bill = SharedBill::new(item.charge, item.paid(), cost, bill);
                    outcome.bills.push(bill);
                }
            }
        }
        let charges: SmallVec<[Charge; 4]> = items.iter().map(|item| item.charge.local).collect();
        self.limiter.conclude(&charges, decision, now);
        self.tally.decided(source);
        outcome
    }

    /// The decision while Redis does not answer.
    pub(super) fn decide_by_rule(&self, items: &Items, billed: bool) -> Outcome {
        self.tally.decided(Source::Failure(self.on_failure));
        let mut outcome = Outcome::default();
        let decision = &mut outcome.decision;
        let mut bills = SmallVec::new();
        match self.on_failure {
            OnFailure::LocalFallback => {
                let charges: SmallVec<[Charge; 4]> =
                    items.iter().map(|item| item.charge.local).collect();
                let now = self.now();
                outcome.now = now;
                if billed {
                    let limiter = &self.limiter;
                    limiter.decide_with_bills(&charges, now, decision, &mut bills);
                } else {
                    self.limiter.decide(&charges, now, decision);
                }
            }
            OnFailure::Open => {}
            OnFailure::Closed => {
                if items.iter().any(|item| item.applied.mode == Mode::Enforce) {
                    decision.refuse();
                }
            }
        }
        if billed && decision.is_allowed() {
            // Nothing was charged in Redis. What comes later is, if it answers by then.
            for item in items {
                let local = &item.charge.local;
                let at = bills.iter().position(|bill: &Bill| bill.charge() == local);
                let bill = at.map_or_else(|| Bill::empty(*local), |at| bills.swap_remove(at));
                let paid = Default::default();
                outcome
                    .bills
                    .push(SharedBill::new(item.charge, paid, 0, bill));
            }
        }
        outcome
    }
}

impl Holdings {
    /// Writes down which items are refused, as far as that is known here. The others are paid out of leases, or asked for.
    fn look(&self, items: &mut Items, now: u64) {
        for item in items {
            let never = (item.cost > item.applied.algorithm.burst()).then(|| {
                let state = item.idle(now);
                Verdict::DenyForever { state }
            });
            let Some(gcra) = item.rate() else {
                item.known = never;
                continue;
            };
            let decide = |entry: &mut Entry| entry.lease.decide(gcra, item.cost, now);
            match self.table.known(item.charge.digest, decide) {
                Some(Verdict::Allow { .. }) => {}
                None => item.known = never,
                Some(denied) => item.known = Some(denied),
            }
        }
    }

    /// Sees how all keys stand that are known here.
    fn read(&self, items: &mut Items, now: u64) {
        for item in items {
            let balance = |entry: &mut Entry| entry.lease.balance(now);
            if let Some(tat) = self.table.known(item.charge.digest, balance) {
                item.stands_at(tat);
            }
        }
    }

    /// The request is refused: the other items cost nothing, and nothing is asked.
    fn let_off(&self, items: &mut Items, now: u64) {
        for item in items.iter_mut().filter(|item| item.known.is_none()) {
            let known = self
                .table
                .known(item.charge.digest, |entry| entry.lease.balance(now));
            let state = known.unwrap_or_else(|| item.idle(now));
            item.known = Some(Verdict::Allow { state });
        }
    }
}
