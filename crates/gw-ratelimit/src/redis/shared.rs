//! The decision on one request, out of what is leased and known here, and what Redis answers.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::breaker::Breaker;
use super::held::Held;
use super::key::Digester;
use super::lease::Grant;
use super::limiter::SharedCharge;
use super::link::Link;
use super::permit::Permit;
use super::script::{Answer, Answers, Question};
use super::settings::OnFailure;
use super::table::{Entry, Table};
use super::telemetry::{Source, StoreTally};
use crate::algorithm::Algorithm;
use crate::config::Mode;
use crate::decision::{Applied, Decision, Ruling, Standing};
use crate::gcra::Gcra;
use crate::limiter::{Charge, Limiter};
use crate::verdict::Verdict;

/// What all clones of a limiter share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Holds the policies, and decides where Redis cannot.
    pub(super) limiter: Arc<Limiter>,
    pub(super) name: Arc<str>,
    pub(super) digester: Digester,
    pub(super) link: Link,
    pub(super) breaker: Mutex<Breaker>,
    pub(super) timeout: Duration,
    pub(super) on_failure: OnFailure,
    pub(super) leases: Option<Holdings>,
    /// Whether a task gives back what is not spent.
    pub(super) tended: AtomicBool,
    pub(super) tally: StoreTally,
}

/// The leases of this instance.
#[derive(Debug)]
pub(super) struct Holdings {
    pub(super) table: Table,
    /// The most cells of one lease.
    pub(super) most: u32,
}

/// One policy of a request that is being decided.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    pub(super) charge: SharedCharge,
    pub(super) applied: Applied,
    pub(super) gcra: Gcra,
    /// What it pays: more than the charge says, if the key has strikes here.
    pub(super) cost: u32,
    /// What was decided here, if it was. Else what is asked, and for how many cells.
    pub(super) known: Option<Verdict>,
    pub(super) lacking: u32,
    pub(super) extra: u32,
}

pub(super) type Items = SmallVec<[Item; 4]>;

/// A request that is decided, or that Redis has to be asked about.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "it is moved once, and a box for the large one would be for each request"
)]
pub(super) enum Begun {
    Decided(Decision),
    Asking(Box<Asking>),
}

/// A question that is about to be asked. Dropping it, at any time, gives back what it holds.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) items: Items,
    pub(super) held: Held,
    pub(super) leave: Permit,
}

impl Asking {
    /// Asks and decides.
    pub(super) async fn finish(self) -> Decision {
        let Self {
            mut items,
            held,
            leave,
        } = self;
        let shared = Arc::clone(&leave.shared);
        let questions = questions(&items);
        let sent = shared.now();
        let answers = leave.ask(shared.link.ask(&questions)).await;
        let Some(answers) = answers else {
            drop(held);
            return shared.decide_by_rule(&items);
        };
        shared.hear(&mut items, &answers, sent);
        if !items.iter().any(Item::refuses) {
            held.keep();
        }
        shared.conclude(&items, Source::Store)
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

    pub(super) const fn holdings(&self) -> Option<&Holdings> {
        self.leases.as_ref()
    }

    /// The policies that are asked: all that apply and are not off.
    pub(super) fn items(&self, charges: &[SharedCharge]) -> Items {
        let now = self.now();
        let item = |charge: &SharedCharge| {
            let (applied, cost) = self.limiter.apply(&charge.local, now)?;
            // No other was built, nor can be changed to.
            let Algorithm::Gcra(gcra) = applied.algorithm else {
                return None;
            };
            Some(Item {
                charge: *charge,
                applied,
                gcra,
                cost,
                known: None,
                lacking: cost,
                extra: 0,
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
    ) -> bool {
        let now = self.now();
        for item in &mut *items {
            let decide = |entry: &mut Entry| entry.lease.decide(&item.gcra, item.cost, now);
            match holdings.table.known(item.charge.digest, decide) {
                Some(Verdict::Allow { .. }) => {}
                None if item.cost <= item.gcra.burst() => {}
                None => item.known = Some(Verdict::DenyForever { state: now }),
                Some(denied) => item.known = Some(denied),
            }
        }
        let refused = items.iter().any(Item::refuses);
        let mut asking = false;
        for item in &mut *items {
            if item.known.is_some() {
                continue;
            }
            let (digest, gcra, cost) = (item.charge.digest, item.gcra, item.cost);
            if refused {
                // Nothing is charged, and nothing asked.
                let known = holdings
                    .table
                    .known(digest, |entry| entry.lease.balance(now));
                let tat = known.unwrap_or(now);
                item.known = Some(Verdict::Allow { state: tat });
                continue;
            }
            let taken = holdings
                .table
                .place((digest, item.applied.policy.0), now, |entry| {
                    let spent = entry.lease.spend(&gcra, cost, now);
                    let lacking = cost - spent.cells();
                    if lacking == 0 {
                        let tat = entry.lease.balance(now);
                        return (spent, lacking, 0, Some(tat));
                    }
                    let extra = if entry.fetching {
                        0
                    } else {
                        entry.lease.extra(&gcra, holdings.most, now)
                    };
                    entry.fetching |= extra > 0;
                    (spent, lacking, extra, None)
                });
            // Without a place there, it is asked for what it costs and no more.
            let Some((spent, lacking, extra, balance)) = taken else {
                asking |= cost > 0;
                if cost == 0 {
                    item.known = Some(Verdict::Allow { state: now });
                }
                continue;
            };
            held.spent(digest, spent);
            if extra > 0 {
                held.fetching(digest);
            }
            item.known = balance.map(|tat| Verdict::Allow { state: tat });
            (item.lacking, item.extra) = (lacking, extra);
            asking |= item.known.is_none();
        }
        if !asking && !refused {
            held.spend();
        }
        !asking
    }

    /// Takes note of what Redis answered.
    pub(super) fn hear(self: &Arc<Self>, items: &mut Items, answers: &Answers, sent: u64) {
        let now = self.now();
        let asked = items.iter_mut().filter(|item| item.known.is_none());
        for (item, answer) in asked.zip(&answers.of_policies) {
            let (mut tat, mut pause) = (now.saturating_add(answer.debt), 0);
            if let Some(holdings) = &self.leases {
                let grant = Grant {
                    debt: answer.debt,
                    leased: answer.leased,
                    clock: answers.clock,
                    limited: answer.ruling != Ruling::Allowed,
                };
                let (gcra, extra) = (item.gcra, item.extra);
                let known = holdings.table.known(item.charge.digest, |entry| {
                    entry.lease.told(&gcra, grant, extra, sent, now);
                    (entry.lease.balance(now), entry.lease.pause(now))
                });
                (tat, pause) = known.unwrap_or((tat, pause));
            }
            if answer.leased > 0 {
                self.tend();
            }
            item.known = Some(item.verdict(answer, tat, pause));
        }
    }

    /// The decision, once it is known what each policy says.
    pub(super) fn conclude(&self, items: &Items, source: Source) -> Decision {
        let now = self.now();
        let mut decision = Decision::default();
        for item in items {
            // All are known by now.
            let verdict = item.known.unwrap_or(Verdict::Allow { state: now });
            decision.push(Standing::new(item.applied, verdict, now));
        }
        if decision.is_allowed() && self.on_failure == OnFailure::LocalFallback {
            let charged = items.iter().filter(|item| item.is_allowed());
            let charged = charged.map(|item| (item.charge.local, item.cost));
            self.limiter.follow(charged, now);
        }
        let charges: SmallVec<[Charge; 4]> = items.iter().map(|item| item.charge.local).collect();
        self.limiter.conclude(&charges, &mut decision, now);
        self.tally.decided(source);
        decision
    }

    /// The decision while Redis does not answer.
    pub(super) fn decide_by_rule(&self, items: &Items) -> Decision {
        self.tally.decided(Source::Failure(self.on_failure));
        let mut decision = Decision::default();
        match self.on_failure {
            OnFailure::LocalFallback => {
                let charges: SmallVec<[Charge; 4]> =
                    items.iter().map(|item| item.charge.local).collect();
                self.limiter
                    .decide(&charges, self.now(), &mut decision, None);
            }
            OnFailure::Open => {}
            OnFailure::Closed => {
                if items.iter().any(|item| item.applied.mode == Mode::Enforce) {
                    decision.refuse();
                }
            }
        }
        decision
    }
}

impl Item {
    fn question(&self) -> Question {
        Question {
            policy: self.applied.policy.index(),
            digest: self.charge.digest,
            gcra: self.gcra,
            cost: self.lacking,
            extra: self.extra,
            enforced: self.applied.mode == Mode::Enforce,
        }
    }

    fn verdict(&self, answer: &Answer, tat: u64, pause: u64) -> Verdict {
        match answer.ruling {
            Ruling::Allowed => Verdict::Allow { state: tat },
            Ruling::Limited => {
                let after = answer.debt.saturating_add(self.gcra.cost(self.lacking));
                // Redis may count in coarser units than these.
                let wait = after.saturating_sub(self.gcra.tolerance()).max(1);
                // Nor is it asked again before that.
                let wait = wait.max(pause);
                Verdict::Deny { state: tat, wait }
            }
            Ruling::TooCostly => Verdict::DenyForever { state: tat },
        }
    }

    fn is_allowed(&self) -> bool {
        matches!(self.known, Some(Verdict::Allow { .. }))
    }

    fn refuses(&self) -> bool {
        self.applied.mode == Mode::Enforce && self.known.is_some() && !self.is_allowed()
    }
}

/// What is not known here.
pub(super) fn questions(items: &Items) -> SmallVec<[Question; 4]> {
    let unknown = items.iter().filter(|item| item.known.is_none());
    unknown.map(Item::question).collect()
}
