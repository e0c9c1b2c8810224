use std::collections::HashMap;
use std::sync::Arc;

use fastrand::Rng;
use gw_core::Mode;

use super::config::Settings;
use super::judge::{FINE, Usual};
use super::log2;
use super::member::Member;
use super::record::{LAST, Record, UNHEALTHY};
use super::snapshot::Reason;

/// Who is in the set and who is out. Behind a lock that nobody needs who only asks or counts: it is taken when an interval
/// ends, when an endpoint has failed so often in a row that it goes, and by operators.
#[derive(Debug)]
pub(super) struct Roster {
    pub(super) settings: Settings,
    pub(super) mode: Mode,
    pub(super) members: Vec<Member>,
    rng: Rng,
    panicking: bool,
    /// For values that are sorted. Has room for all members, so that the end of an interval does not allocate.
    scratch: Vec<u64>,
    suspects: Vec<Suspect>,
}

/// What there is to tell once the lock is free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Ejected {
        endpoint: Arc<str>,
        reason: Reason,
        nanos: u64,
    },
    Back {
        endpoint: Arc<str>,
    },
    Panic(bool),
}

/// How many there are of what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Census {
    pub(super) members: usize,
    pub(super) forced_out: usize,
    /// Ejected or unhealthy, and not forced out.
    pub(super) out: usize,
    /// Ejected, and neither unhealthy nor forced out.
    pub(super) ejected: usize,
}

#[derive(Debug, Clone, Copy)]
struct Suspect {
    excess: u64,
    place: usize,
    reason: Reason,
}

impl Roster {
    pub(super) fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            mode: Mode::Enforce,
            members: Vec::new(),
            rng: Rng::with_seed(seed),
            panicking: false,
            scratch: Vec::new(),
            suspects: Vec::new(),
        }
    }

    /// From now on these are the set; what is known of those that stay is kept. The records are in the order of `names`,
    /// where one that stands there twice is one endpoint.
    pub(super) fn replace(&mut self, names: Vec<Arc<str>>) -> Vec<Arc<Record>> {
        let mut old: HashMap<_, _> = std::mem::take(&mut self.members)
            .into_iter()
            .map(|member| (Arc::clone(&member.name), member))
            .collect();
        let mut places: HashMap<Arc<str>, usize> = HashMap::with_capacity(names.len());
        let mut records = Vec::with_capacity(names.len());
        for name in names {
            let place = *places.entry(Arc::clone(&name)).or_insert_with(|| {
                let known = old.remove(&name).unwrap_or_else(|| Member::new(name));
                self.members.push(known);
                self.members.len() - 1
            });
            records.extend(self.members.get(place).map(|m| Arc::clone(&m.record)));
        }
        self.scratch.reserve(self.members.len());
        self.suspects.reserve(2 * self.members.len());
        records
    }

    pub(super) fn reconfigure(&mut self, settings: Settings) {
        self.settings = settings;
        for member in &mut self.members {
            member.fits_its_row(settings.consecutive);
        }
    }

    pub(super) fn find(&mut self, name: &str) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| &*member.name == name)
    }

    pub(super) fn census(&self, now: u64) -> Census {
        let mut census = Census {
            members: self.members.len(),
            ..Census::default()
        };
        for member in &self.members {
            if member.forced_out {
                census.forced_out += 1;
            } else if !member.is_in(now) {
                census.out += 1;
                census.ejected += usize::from(!member.unhealthy);
            }
        }
        census
    }

    /// The endpoint has failed so often in a row that it goes.
    pub(super) fn trip(&mut self, record: &Arc<Record>, now: u64, changes: &mut Vec<Change>) {
        self.settle(now, changes);
        // One that has left the set in the meantime is nobody's concern.
        let same = |member: &Member| Arc::ptr_eq(&member.record, record);
        let Some(place) = self.members.iter().position(same) else {
            return;
        };
        let consecutive = self.settings.consecutive;
        if let Some(member) = self.members.get_mut(place)
            && !member.is_in(now)
        {
            // It went while this failure was being counted.
            member.goes_with_the_next(consecutive);
        } else if self.room(now) > 0 {
            self.eject(place, Reason::Consecutive, now, changes);
        }
    }

    /// Compares the endpoints at the end of an interval, `elapsed` intervals after the last one ended. Returns the latency that
    /// was usual, in nanoseconds, if that is known.
    pub(super) fn end_interval(
        &mut self,
        now: u64,
        elapsed: u64,
        changes: &mut Vec<Change>,
    ) -> Option<u64> {
        self.settle(now, changes);
        self.members.iter_mut().for_each(Member::end_interval);
        if self.mode == Mode::Off {
            return None;
        }
        let usual = self.find_suspects(now);
        let interval = self.settings.interval;
        let began = now.saturating_sub(elapsed.saturating_mul(interval));
        for member in &mut self.members {
            if !member.stands_out && member.is_in(now) {
                // Whole intervals in which it was in.
                let calm = now.saturating_sub(member.in_since.max(began)) / interval;
                let calm = u32::try_from(calm).unwrap_or(u32::MAX);
                member.multiplier = member.multiplier.saturating_sub(calm);
            }
        }
        // The worst first, since not all of them may be ejected.
        self.suspects
            .sort_unstable_by_key(|suspect| std::cmp::Reverse(suspect.excess));
        let mut room = self.room(now);
        let mut next = 0;
        while room > 0
            && let Some(Suspect { place, reason, .. }) = self.suspects.get(next).copied()
        {
            room -= usize::from(self.eject(place, reason, now, changes));
            next += 1;
        }
        usual.map(|usual| log2::to_nanos(usual.center() / FINE))
    }

    /// Returns what latency is usual.
    fn find_suspects(&mut self, now: u64) -> Option<Usual> {
        let (rules, values) = (&self.settings.rules, &mut self.scratch);
        let judged = || self.members.iter().filter(|member| member.is_in(now));
        values.clear();
        values.extend(judged().filter_map(|member| rules.failure_rate(&member.last)));
        let rates = rules.usual_failure_rate(values);
        values.clear();
        values.extend(judged().filter_map(|member| rules.latency(&member.last)));
        let latencies = rules.usual_latency(values);

        self.suspects.clear();
        for (place, member) in self.members.iter_mut().enumerate() {
            member.stands_out = false;
            if !member.is_in(now) {
                continue;
            }
            let sample = &member.last;
            let fails = rates.and_then(|usual| rules.fails_more(sample, usual));
            let slow = latencies.and_then(|usual| rules.is_slower(sample, usual));
            if let Some(excess) = fails.max(slow) {
                member.stands_out = true;
                member.suspicion = (member.suspicion + 1).min(Member::CONVINCED);
                if member.suspicion == Member::CONVINCED {
                    let reason = if fails >= slow {
                        Reason::FailureRate
                    } else {
                        Reason::Latency
                    };
                    self.suspects.push(Suspect {
                        excess,
                        place,
                        reason,
                    });
                }
            } else if rates.is_some() && rules.failure_rate(sample).is_some() {
                // With too few requests, its own or the others', it is neither cleared nor charged.
                member.suspicion = 0;
            }
            if member.record.streak() >= self.settings.consecutive {
                // It went on failing when nothing more could be ejected.
                member.stands_out = true;
                self.suspects.push(Suspect {
                    excess: u64::MAX,
                    place,
                    reason: Reason::Consecutive,
                });
            }
        }
        latencies
    }

    /// How many more may be ejected.
    fn room(&self, now: u64) -> usize {
        let census = self.census(now);
        let most = self.settings.most_out(census.members - census.forced_out);
        most.saturating_sub(census.out)
    }

    /// Ejects the endpoint if it is in; the caller has seen that there is room. Returns whether it did.
    fn eject(&mut self, place: usize, reason: Reason, now: u64, changes: &mut Vec<Change>) -> bool {
        let settings = &self.settings;
        let Some(member) = self.members.get_mut(place) else {
            return false;
        };
        if self.mode == Mode::Off || !member.is_in(now) {
            return false;
        }
        let longest = settings.longest_after();
        member.multiplier = member.multiplier.saturating_add(1).min(longest);
        let time = settings.ejection(member.multiplier);
        let nanos = time.saturating_add(self.rng.u64(0..=time / 10));
        let until = now.saturating_add(nanos).min(LAST);
        member.eject(until, reason, settings.consecutive);
        member.publish(now);
        changes.push(Change::Ejected {
            endpoint: Arc::clone(&member.name),
            reason,
            nanos,
        });
        true
    }

    /// Notices which ejections have ended. Those who ask look at the clock themselves; this is for what is told.
    pub(super) fn settle(&mut self, now: u64, changes: &mut Vec<Change>) {
        for member in &mut self.members {
            if member.ejection.is_some() && !member.is_ejected(now) {
                member.ejection = None;
                let endpoint = Arc::clone(&member.name);
                changes.push(Change::Back { endpoint });
            }
        }
    }

    /// Until when all are usable because too few would be, if nothing else changes. Until then ejections only end, so the
    /// share of usable ones only grows.
    pub(super) fn panic_until(&mut self, now: u64, changes: &mut Vec<Change>) -> u64 {
        let census = self.census(now);
        let least = self
            .settings
            .least_usable(census.members - census.forced_out);
        let usable = census.members - census.forced_out - census.out;
        let missing = least.saturating_sub(usable);
        let panicking = missing > 0 && self.mode == Mode::Enforce;
        if panicking != self.panicking {
            self.panicking = panicking;
            changes.push(Change::Panic(panicking));
        }
        if self.mode != Mode::Enforce {
            // Nobody is left out but by force.
            return UNHEALTHY;
        }
        let Some(last) = missing.checked_sub(1) else {
            return 0;
        };
        // As many have to come back as are missing.
        self.scratch.clear();
        let out = self
            .members
            .iter()
            .filter(|m| !m.forced_out && !m.unhealthy);
        let ends = out.filter_map(|member| Some(member.ejection?.until));
        self.scratch.extend(ends.filter(|until| *until > now));
        self.scratch.sort_unstable();
        self.scratch.get(last).copied().unwrap_or(UNHEALTHY)
    }
}
