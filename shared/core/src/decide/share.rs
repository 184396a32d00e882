//! Which consumer works on which lane: rendezvous hashing, capped so that no member gets more than its part.

/// The lanes that `member` owns among `members`. Every member computes the same shares from the same list, whatever its
/// order; each lane has exactly one owner, nobody owns more than `ceil(lanes / members)`, and a member that joins or
/// leaves moves few lanes of the others. A member that is not in the list owns none.
pub fn lanes_of(member: &str, members: &[String], lanes: u16) -> Vec<u16> {
    let mut members: Vec<(&str, u16)> = members.iter().map(|member| (member.as_str(), 0)).collect();
    members.sort_unstable();
    members.dedup();
    if members.is_empty() {
        return Vec::new();
    }
    let part = usize::from(lanes).div_ceil(members.len());
    let mut mine = Vec::new();
    for lane in 0..lanes {
        let free = members.iter_mut().filter(|(_, owned)| usize::from(*owned) < part);
        let Some((owner, owned)) = free.max_by_key(|(member, _)| score(member, lane)) else { break };
        *owned += 1;
        if *owner == member {
            mine.push(lane);
        }
    }
    mine
}

fn score(member: &str, lane: u16) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(member.as_bytes(), u64::from(lane))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn every_lane_has_one_owner_and_nobody_more_than_the_part(
            members in prop::collection::btree_set("[a-z]{1,6}", 1..12),
            lanes in 0u16..64,
        ) {
            let members: Vec<String> = members.into_iter().collect();
            let part = usize::from(lanes).div_ceil(members.len());
            let mut owned: Vec<u16> = Vec::new();
            let mut turned = members.clone();
            turned.reverse();
            for member in &members {
                let mine = lanes_of(member, &members, lanes);
                prop_assert!(mine.len() <= part);
                prop_assert_eq!(&mine, &lanes_of(member, &turned, lanes), "the order of the list does not matter");
                owned.extend(mine);
            }
            owned.sort_unstable();
            prop_assert_eq!(owned, (0..lanes).collect::<Vec<_>>());
        }
    }

    #[test]
    fn three_members_share_eight_lanes_and_two_take_over_from_the_third() {
        let members = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let mut shares: Vec<usize> = members.iter().map(|member| lanes_of(member, &members, 8).len()).collect();
        shares.sort_unstable();
        assert_eq!(shares, [2, 3, 3]);
        let left: BTreeSet<u16> = members[..2].iter().flat_map(|member| lanes_of(member, &members[..2], 8)).collect();
        assert_eq!(left.len(), 8);
        assert!(members[..2].iter().all(|member| lanes_of(member, &members[..2], 8).len() == 4));
        assert!(lanes_of("stranger", &members, 8).is_empty());
    }
}
