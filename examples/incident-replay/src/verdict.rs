//! What the replay must show, as a pure judgement on its numbers.

use std::time::Duration;

/// The numbers that decide.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    /// The healthy run: requests sent and answered, both routes together.
    pub(crate) healthy_sent: u64,
    pub(crate) healthy_ok: u64,
    /// Logins during the flood, unprotected.
    pub(crate) unprotected_sent: u64,
    pub(crate) unprotected_ok: u64,
    /// All logins of the judged phase.
    pub(crate) protected_sent: u64,
    pub(crate) protected_ok: u64,
    /// The 99th percentile of logins before and during the flood, same phase.
    pub(crate) protected_idle: Duration,
    pub(crate) protected_flood: Duration,
    /// Log requests relative to the healthy run.
    pub(crate) unprotected_amplification: f64,
    pub(crate) protected_amplification: f64,
    /// Whether all phases were offered the same.
    pub(crate) same_schedule: bool,
}

/// One thing that must hold, and whether it does.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Finding {
    pub(crate) holds: bool,
    pub(crate) text: String,
}

/// The objective for logins during the flood, relative to their idle time.
const SLOWDOWN: u32 = 2;

/// Judges: first what makes the replay a replay at all, then what the protected gateway owes.
pub(crate) fn judge(facts: &Facts) -> Vec<Finding> {
    let share = |ok: u64, sent: u64| 100.0 * ok as f64 / sent.max(1) as f64;
    let finding = |holds, text| Finding { holds, text };
    let limit = facts.protected_idle * SLOWDOWN;
    vec![
        finding(
            facts.same_schedule,
            "all phases were offered the same schedule".to_owned(),
        ),
        finding(
            facts.healthy_sent > 0 && facts.healthy_ok == facts.healthy_sent,
            format!(
                "with a healthy sink everything is answered: {} of {}",
                facts.healthy_ok, facts.healthy_sent
            ),
        ),
        finding(
            facts.unprotected_ok * 2 <= facts.unprotected_sent,
            format!(
                "unprotected, logins collapse: {:.0} % answered in the flood, at most 50 % or the replay shows nothing",
                share(facts.unprotected_ok, facts.unprotected_sent)
            ),
        ),
        finding(
            facts.unprotected_amplification > 1.0,
            format!(
                "unprotected, the loop grows: amplification {:.2}, above 1 or the replay shows nothing",
                facts.unprotected_amplification
            ),
        ),
        finding(
            facts.protected_sent > 0 && facts.protected_ok == facts.protected_sent,
            format!(
                "protected, every login is answered: {} of {}",
                facts.protected_ok, facts.protected_sent
            ),
        ),
        finding(
            facts.protected_flood <= limit,
            format!(
                "protected, login p99 in the flood is {:.1} ms, at most {SLOWDOWN} x {:.1} ms idle",
                millis(facts.protected_flood),
                millis(facts.protected_idle)
            ),
        ),
        finding(
            facts.protected_amplification <= 1.0,
            format!(
                "protected, nothing is amplified: {:.2}, at most 1",
                facts.protected_amplification
            ),
        ),
    ]
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Facts = Facts {
        healthy_sent: 100,
        healthy_ok: 100,
        unprotected_sent: 100,
        unprotected_ok: 10,
        protected_sent: 100,
        protected_ok: 100,
        protected_idle: Duration::from_millis(16),
        protected_flood: Duration::from_millis(18),
        unprotected_amplification: 2.5,
        protected_amplification: 1.0,
        same_schedule: true,
    };

    fn missed(facts: Facts) -> Vec<usize> {
        let findings = judge(&facts).into_iter().enumerate();
        findings
            .filter(|(_, finding)| !finding.holds)
            .map(|(index, _)| index)
            .collect()
    }

    #[test]
    fn the_good_case_holds_at_its_limits_too() {
        assert!(missed(GOOD).is_empty());
        let at_the_limits = Facts {
            unprotected_ok: 50,
            protected_flood: Duration::from_millis(32),
            ..GOOD
        };
        assert!(missed(at_the_limits).is_empty());
    }

    #[test]
    fn each_miss_is_found_alone() {
        let cases = [
            Facts {
                same_schedule: false,
                ..GOOD
            },
            Facts {
                healthy_ok: 99,
                ..GOOD
            },
            Facts {
                unprotected_ok: 51,
                ..GOOD
            },
            Facts {
                unprotected_amplification: 1.0,
                ..GOOD
            },
            Facts {
                protected_ok: 99,
                ..GOOD
            },
            Facts {
                protected_flood: Duration::from_millis(33),
                ..GOOD
            },
            Facts {
                protected_amplification: 1.01,
                ..GOOD
            },
        ];
        for (index, facts) in cases.into_iter().enumerate() {
            assert_eq!(missed(facts), [index]);
        }
    }

    #[test]
    fn a_run_without_requests_shows_nothing() {
        let empty = Facts {
            healthy_sent: 0,
            healthy_ok: 0,
            protected_sent: 0,
            protected_ok: 0,
            unprotected_amplification: f64::NAN,
            protected_amplification: f64::NAN,
            ..GOOD
        };
        assert_eq!(missed(empty), [1, 3, 4, 6]);
    }
}
