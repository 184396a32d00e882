use crate::Limits;

/// What is known when deletions are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Whether the host was listed to its proven end without a fault.
    pub listing_complete: bool,
    /// Records that the listing met.
    pub host_records: u64,
    /// Records that the listing was expected to meet: those of the last complete one, less those that the host's log told
    /// to be gone since. 0 where nothing is known.
    pub expected_records: u64,
    /// Records that the target may hold.
    pub held_records: u64,
    /// Records to delete now.
    pub candidates: u64,
    /// Deletions of all sources in the last 24 hours.
    pub deleted_lately: u64,
    /// Deletions that other runs were allowed and have not published yet.
    pub reserved: u64,
    /// Deletions that an operator approved for this run.
    pub approved: u64,
}

/// Whether deletions may go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They may.
    Allowed,
    /// They may not, and why.
    Refused(String),
}

/// Absence must be proven, and even then a mass deletion wants approval (L8, DESIGN §8).
pub fn may_delete(evidence: &Evidence, limits: &Limits) -> Verdict {
    let Evidence { candidates, host_records, held_records, .. } = *evidence;
    if candidates == 0 {
        return Verdict::Allowed;
    }
    if !evidence.listing_complete {
        return Verdict::Refused("the host's listing is not proven complete".into());
    }
    let total = candidates.saturating_add(evidence.deleted_lately).saturating_add(evidence.reserved);
    if evidence.approved >= candidates {
        return Verdict::Allowed;
    }
    if host_records == 0 {
        return Verdict::Refused(format!("the host namespace is empty; {candidates} records would be deleted"));
    }
    let fallen = evidence.expected_records.saturating_sub(host_records);
    let share = share_of(fallen, evidence.expected_records);
    if fallen > limits.delete_count_min && share > limits.delete_ratio_max {
        return Verdict::Refused(format!(
            "the host has {host_records} records where its last complete listing lets expect {}, {:.1} % less; \
             delete_ratio_max allows {:.1} %; {candidates} records would be deleted",
            evidence.expected_records,
            share * 100.0,
            limits.delete_ratio_max * 100.0
        ));
    }
    if total <= limits.delete_count_min {
        return Verdict::Allowed;
    }
    let ratio = share_of(total, held_records);
    if ratio > limits.delete_ratio_max {
        let beside = match evidence.reserved {
            0 => String::new(),
            reserved => format!(", {reserved} that another run is making"),
        };
        return Verdict::Refused(format!(
            "{candidates} deletions now{beside} and {} in the last 24 hours are {:.1} % of {held_records} records; \
             delete_ratio_max allows {:.1} %",
            evidence.deleted_lately,
            ratio * 100.0,
            limits.delete_ratio_max * 100.0
        ));
    }
    Verdict::Allowed
}

/// Counted in f64 on purpose: a ratio of counts, not a datum.
#[allow(clippy::cast_precision_loss)]
fn share_of(part: u64, all: u64) -> f64 {
    part as f64 / all.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn never_without_a_complete_listing_or_from_an_empty_host(
            candidates in 1u64.., host_records: u64, held_records: u64, listing_complete: bool, deleted_lately: u64, reserved: u64
        ) {
            let expected_records = held_records;
            let evidence = Evidence {
                listing_complete, host_records, expected_records, held_records, candidates, deleted_lately, reserved, approved: 0
            };
            if !listing_complete || host_records == 0 {
                prop_assert_ne!(may_delete(&evidence, &Limits::default()), Verdict::Allowed);
            }
        }
    }

    #[test]
    fn the_ratio_counts_all_of_the_last_day() {
        let limits = Limits::default();
        let evidence = Evidence {
            listing_complete: true,
            host_records: 9_400,
            expected_records: 10_000,
            held_records: 10_000,
            candidates: 600,
            deleted_lately: 0,
            reserved: 0,
            approved: 0,
        };
        assert_eq!(may_delete(&evidence, &limits), Verdict::Allowed);
        let later = Evidence { deleted_lately: 500, ..evidence };
        assert!(matches!(may_delete(&later, &limits), Verdict::Refused(why) if why.contains("11.0 %")));
        let beside = Evidence { reserved: 500, ..evidence };
        assert!(matches!(may_delete(&beside, &limits), Verdict::Refused(why) if why.contains("500 that another run")));
        assert_eq!(may_delete(&Evidence { approved: 600, ..later }, &limits), Verdict::Allowed);
        assert_ne!(may_delete(&Evidence { approved: 599, ..later }, &limits), Verdict::Allowed);
    }

    #[test]
    fn a_host_that_has_lost_many_records_is_not_believed() {
        let limits = Limits::default();
        let evidence = Evidence {
            listing_complete: true,
            host_records: 8_900,
            expected_records: 10_000,
            held_records: 10_000,
            candidates: 1,
            deleted_lately: 0,
            reserved: 0,
            approved: 0,
        };
        assert!(matches!(may_delete(&evidence, &limits), Verdict::Refused(why) if why.contains("11.0 % less")));
        assert_eq!(may_delete(&Evidence { approved: 1, ..evidence }, &limits), Verdict::Allowed);
        assert_eq!(may_delete(&Evidence { host_records: 9_000, ..evidence }, &limits), Verdict::Allowed);
        assert_eq!(may_delete(&Evidence { expected_records: 0, ..evidence }, &limits), Verdict::Allowed);
        let small = Evidence { host_records: 10, expected_records: 110, held_records: 110, ..evidence };
        assert_eq!(may_delete(&small, &limits), Verdict::Allowed, "as many as delete_count_min need no approval");
        assert_ne!(may_delete(&Evidence { host_records: 9, ..small }, &limits), Verdict::Allowed);
    }
}
