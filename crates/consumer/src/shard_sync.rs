//! Which leases a stream's shards need.

use std::collections::BTreeMap;
use std::fmt;

use kinesink_core::{Checkpoint, ShardId};

use crate::Start;
use crate::fetch::Child;
use crate::lease::{HashRange, LeaseRow, Scan};
use crate::planted::{Fault, planted};
use crate::shard_list::ShardInfo;

/// Why a listing cannot be acted upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// The shards leave a hole, or overlap: the stream was resharded while it was listed.
    Ranges,
    /// A parent is still open beside its child.
    OpenParent(ShardId),
    /// Somebody else has created leases since the scan.
    Overtaken,
    /// A lease is finished and its shard is open. A listing may be behind for a moment.
    Reopened(ShardId),
    /// A lease stands before its shard's first record: both numbers are of different streams.
    Renumbered(String),
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ranges => f.write_str("the shards do not cover all hash keys once; look at it with list-shards"),
            Self::OpenParent(shard) => write!(f, "the parent of shard {shard} is open; look at it with list-shards"),
            Self::Overtaken => f.write_str("another worker has created leases meanwhile"),
            Self::Reopened(shard) => write!(f, "shard {shard} is finished in the table and open in the stream"),
            Self::Renumbered(which) => f.write_str(which),
        }
    }
}

/// The leases of a new application: one for each listed shard, whose ranges must cover every hash key once.
///
/// # Errors
/// They do not; list again.
pub(crate) fn for_new_application(shards: &[ShardInfo], start: &Start) -> Result<Vec<LeaseRow>, Misfit> {
    let mut ranges: Vec<_> = shards.iter().map(|shard| shard.hash_range).collect();
    ranges.sort();
    let touch = |pair: &[HashRange]| matches!(pair, [a, b] if a.last.checked_add(1) == Some(b.first));
    let ends = ranges.first().zip(ranges.last()).map(|(first, last)| (first.first, last.last));
    if ends != Some((0, u128::MAX)) || !ranges.windows(2).all(touch) {
        return Err(Misfit::Ranges);
    }
    Ok(in_creation_order(shards.iter().map(|shard| (shard, start.checkpoint()))))
}

/// The leases that a table which is not empty still lacks: each on the first level of the shard tree that has to be
/// read. What is below is created when its parents end.
///
/// A row that cannot be read is a lease that nobody knows the state of: what leads to its shard or follows it is left to
/// whoever mends it.
///
/// # Errors
/// The listing contradicts itself or the table; list again.
pub(crate) fn for_known_application(
    shards: &[ShardInfo],
    found: &Scan,
    start: &Start,
) -> Result<Vec<LeaseRow>, Misfit> {
    let listed: BTreeMap<_, _> = shards.iter().map(|shard| (&shard.id, shard)).collect();
    if let Some(renumbered) = found.leases.iter().find_map(|lease| renumbered(lease, listed.get(&lease.shard)?)) {
        return Err(renumbered);
    }
    let parent_is_open = |shard: &&ShardInfo| shard.parents.iter().any(|id| listed.get(id).is_some_and(|p| p.open));
    if let Some(child) = shards.iter().find(parent_is_open) {
        return Err(Misfit::OpenParent(child.id.clone()));
    }
    let is_open = |lease: &&LeaseRow| listed.get(&lease.shard).is_some_and(|shard| shard.open);
    if let Some(reopened) = found.leases.iter().filter(|lease| lease.is_finished()).find(is_open) {
        return Err(Misfit::Reopened(reopened.shard.clone()));
    }
    let unreadable: Vec<ShardId> = found.unreadable.iter().filter_map(|row| row.row().parse().ok()).collect();
    let leases = found.leases.iter().map(|lease| (&lease.shard, lease.checkpoint));
    let leased = leases.chain(unreadable.iter().map(|shard| (shard, Checkpoint::TrimHorizon))).collect();
    let unread = |lease: &&LeaseRow| !lease.is_finished() && !listed.contains_key(&lease.shard);
    let trimmed = found.leases.iter().filter(unread).collect();
    let (covered, planned) = (BTreeMap::new(), BTreeMap::new());
    let mut sync = Sync { listed: &listed, leased: &leased, trimmed, start, covered, planned };
    for shard in shards.iter().filter(|shard| shard.open && !leased.contains_key(&shard.id)) {
        if !sync.is_covered(&shard.id).0 || planted(Fault::SyncsCovered) {
            sync.planned.insert(shard.id.clone(), start.checkpoint());
        }
    }
    let planned = sync.planned.iter().filter_map(|(id, checkpoint)| Some((*listed.get(id)?, *checkpoint)));
    Ok(in_creation_order(planned))
}

/// A position that is older than the shard. Numbers grow with time, from one stream of a name to the next as well.
fn renumbered(lease: &LeaseRow, shard: &ShardInfo) -> Option<Misfit> {
    let stands_at = match lease.checkpoint {
        Checkpoint::At(position) => position.sequence,
        Checkpoint::ShardEnd => lease.ended_after?,
        Checkpoint::AtTimestamp | Checkpoint::TrimHorizon | Checkpoint::Latest => return None,
    };
    let ShardInfo { id, first, .. } = shard;
    let which = || format!("the lease of shard {id} stands at {stands_at}, and the shard begins at {first}");
    (stands_at < *first).then(|| Misfit::Renumbered(which()))
}

/// Whether the stream has forgotten a shard. A listing may be older than a new shard; once it shows a later one, or one
/// that follows it, the shard has been there before.
pub(crate) fn is_trimmed(listed: &[ShardInfo], shard: &ShardId) -> bool {
    let later = |other: &ShardInfo| other.parents.contains(shard) || number(&other.id) > number(shard);
    listed.iter().all(|other| other.id != *shard) && listed.iter().any(later)
}

/// Shards are numbered as they are created.
fn number(shard: &ShardId) -> Option<u64> {
    shard.as_str().rsplit('-').next()?.parse().ok()
}

/// Where reading goes on after a trimmed shard: at the oldest shards that are left of its range. Those with a listed
/// parent get their leases from its end.
pub(crate) fn after_trimmed(listed: &[ShardInfo], lease: &LeaseRow) -> Vec<Child> {
    let is_listed = |id: &ShardId| listed.iter().any(|shard| shard.id == *id);
    let follows = |shard: &&ShardInfo| follows(shard, lease) && !shard.parents.iter().any(is_listed);
    let child = |shard: &ShardInfo| Child {
        id: shard.id.clone(),
        // The other parents are gone as well: nobody has to wait for them.
        parents: vec![lease.shard.clone()],
        hash_range: Some(shard.hash_range),
    };
    listed.iter().filter(follows).map(child).collect()
}

/// Whether a shard came out of that of the lease, be it by shards that nothing is known of any more.
fn follows(shard: &ShardInfo, lease: &LeaseRow) -> bool {
    let overlaps = |range: HashRange| range.first <= shard.hash_range.last && shard.hash_range.first <= range.last;
    let below = number(&shard.id) > number(&lease.shard) && lease.hash_range.is_some_and(overlaps);
    below || shard.parents.contains(&lease.shard)
}

fn in_creation_order<'a>(shards: impl Iterator<Item = (&'a ShardInfo, Checkpoint)>) -> Vec<LeaseRow> {
    let mut shards: Vec<_> = shards.collect();
    shards.sort_by(|(a, _), (b, _)| (a.first, &a.id).cmp(&(b.first, &b.id)));
    let lease = |(shard, checkpoint): (&ShardInfo, Checkpoint)| {
        LeaseRow::new(shard.id.clone(), checkpoint, shard.parents.clone(), Some(shard.hash_range))
    };
    shards.into_iter().map(lease).collect()
}

/// The recursion of KCL's shard sync. For each shard: whether a lease above or at it will lead to it (covered), and
/// whether reading has to start at it (marked).
struct Sync<'a> {
    listed: &'a BTreeMap<&'a ShardId, &'a ShardInfo>,
    leased: &'a BTreeMap<&'a ShardId, Checkpoint>,
    /// Leases of shards that the stream has forgotten and that were not read to their end.
    trimmed: Vec<&'a LeaseRow>,
    start: &'a Start,
    covered: BTreeMap<ShardId, (bool, bool)>,
    planned: BTreeMap<ShardId, Checkpoint>,
}

impl Sync<'_> {
    fn is_covered(&mut self, id: &ShardId) -> (bool, bool) {
        if let Some(known) = self.covered.get(id) {
            return *known;
        }
        let Some(shard) = self.listed.get(id).copied() else { return (false, false) };
        if self.leased.contains_key(id) {
            self.covered.insert(id.clone(), (true, false));
            return (true, false);
        }
        let gone = shard.parents.iter().filter(|parent| !self.listed.contains_key(parent));
        let gone: Vec<_> = gone.filter_map(|parent| self.leased.get(parent)).collect();
        if !gone.is_empty() {
            // The stream has forgotten a parent that we were reading: its end leads here. Once it is marked as ended
            // that has happened, or never will.
            if gone.iter().all(|checkpoint| **checkpoint == Checkpoint::ShardEnd) {
                self.planned.insert(id.clone(), Checkpoint::TrimHorizon);
            }
            self.covered.insert(id.clone(), (true, false));
            return (true, false);
        }
        let parents: Vec<_> = shard.parents.iter().filter(|parent| self.listed.contains_key(parent)).collect();
        if parents.is_empty() && self.trimmed.iter().any(|lease| follows(shard, lease)) {
            self.covered.insert(id.clone(), (true, false));
            return (true, false);
        }
        // Its row is older than its parents' ends: somebody has deleted it, or died before it was made.
        let has_ended = |parent: &&ShardId| self.leased.get(*parent) == Some(&Checkpoint::ShardEnd);
        if !parents.is_empty() && parents.iter().all(has_ended) {
            self.planned.insert(id.clone(), Checkpoint::TrimHorizon);
            self.covered.insert(id.clone(), (true, false));
            return (true, false);
        }
        let above: Vec<_> = parents.iter().map(|parent| (*parent, self.is_covered(parent))).collect();
        let covered = above.iter().any(|(_, (covered, marked))| *covered || *marked);
        if covered {
            for (parent, (parent_covered, marked)) in &above {
                if !self.leased.contains_key(*parent) {
                    self.plan_parent(parent, *parent_covered || *marked, *marked);
                }
            }
        }
        let marked = !covered && !matches!(self.start, Start::Latest);
        self.covered.insert(id.clone(), (covered, marked));
        (covered, marked)
    }

    fn plan_parent(&mut self, parent: &ShardId, covered: bool, marked: bool) {
        let planned = self.planned.contains_key(parent);
        if !planned && covered && !marked {
            return;
        }
        let from_the_oldest = covered && !matches!(self.start, Start::AtTimestamp(_));
        let checkpoint = if from_the_oldest { Checkpoint::TrimHorizon } else { self.start.checkpoint() };
        self.planned.insert(parent.clone(), checkpoint);
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn shard(number: u32, parents: &[u32], open: bool) -> ShardInfo {
        let id = |number: &u32| format!("shardId-{number:012}").parse().unwrap();
        ShardInfo {
            id: id(&number),
            parents: parents.iter().map(id).collect(),
            hash_range: HashRange { first: 0, last: 1 },
            first: number.to_string().parse().unwrap(),
            open,
        }
    }

    /// Merges 0+1 to 6, 2+3 to 7, 6+7 to 8; 5 splits into 9 and 10; 4 stays.
    fn tree() -> Vec<ShardInfo> {
        let mut shards: Vec<_> = (0..4).map(|number| shard(number, &[], false)).collect();
        shards.push(shard(4, &[], true));
        shards.push(shard(5, &[], false));
        shards.push(shard(6, &[0, 1], false));
        shards.push(shard(7, &[2, 3], false));
        shards.push(shard(8, &[6, 7], true));
        shards.push(shard(9, &[5], true));
        shards.push(shard(10, &[5], true));
        shards
    }

    fn lease(number: u32, checkpoint: Checkpoint) -> LeaseRow {
        LeaseRow::new(format!("shardId-{number:012}").parse().unwrap(), checkpoint, Vec::new(), None)
    }

    fn scan(leases: Vec<LeaseRow>) -> Scan {
        Scan { leases, unreadable: Vec::new() }
    }

    fn planned(shards: &[ShardInfo], leased: &[u32], start: &Start) -> Vec<u32> {
        let leases: Vec<_> = leased.iter().map(|number| lease(*number, Checkpoint::TrimHorizon)).collect();
        let leases = for_known_application(shards, &scan(leases), start).unwrap();
        leases.iter().map(|lease| lease.shard.as_str().trim_start_matches("shardId-").parse().unwrap()).collect()
    }

    #[test]
    fn the_worked_example_of_the_protocol() {
        let time = Start::AtTimestamp(Timestamp::UNIX_EPOCH);
        assert_eq!(planned(&tree(), &[4, 5, 7], &Start::Latest), [6]);
        assert_eq!(planned(&tree(), &[4, 5, 7], &Start::TrimHorizon), [0, 1]);
        assert_eq!(planned(&tree(), &[4, 5, 7], &time), [0, 1]);
    }

    #[test]
    fn a_child_of_a_leased_parent_gets_its_lease_from_the_parents_end() {
        let shards = [shard(0, &[], false), shard(1, &[0], true), shard(2, &[0], true)];
        assert_eq!(planned(&shards, &[0], &Start::Latest), Vec::<u32>::new());
        assert_eq!(planned(&shards, &[], &Start::Latest), [1, 2]);
    }

    #[test]
    fn what_follows_a_leased_shard_that_the_stream_has_forgotten_never_starts_at_latest() {
        let shards = [shard(1, &[0], false), shard(2, &[1], true)];
        let unread = lease(0, Checkpoint::TrimHorizon);
        assert_eq!(for_known_application(&shards, &scan(vec![unread]), &Start::Latest), Ok(Vec::new()));
        let ended = scan(vec![lease(0, Checkpoint::ShardEnd)]);
        let ended = for_known_application(&shards, &ended, &Start::Latest).unwrap();
        let first: Vec<_> = ended.iter().map(|lease| (lease.shard.as_str(), lease.checkpoint)).collect();
        assert_eq!(first, [("shardId-000000000001", Checkpoint::TrimHorizon)]);
    }

    /// 0 split into 1 and 2, which split too; what is left is of their children, and the lease of 0 stands in its midst.
    #[test]
    fn grandchildren_of_an_unread_shard_whose_children_left_the_stream_as_well_never_start_at_latest() {
        let shards = [shard(3, &[1], true), shard(4, &[2], true)];
        let range = HashRange { first: 0, last: 1 };
        let mut unread = lease(0, Checkpoint::TrimHorizon);
        unread.hash_range = Some(range);
        assert_eq!(for_known_application(&shards, &scan(vec![unread.clone()]), &Start::Latest), Ok(Vec::new()));
        let ids: Vec<_> = after_trimmed(&shards, &unread).into_iter().map(|child| child.id).collect();
        assert_eq!(ids, [shards[0].id.clone(), shards[1].id.clone()], "the end of the lease's shard leads to them");
        unread.hash_range = Some(HashRange { first: 2, last: 3 });
        assert_eq!(for_known_application(&shards, &scan(vec![unread]), &Start::Latest).unwrap().len(), 2);
    }

    #[test]
    fn a_child_without_a_lease_whose_parents_were_read_to_their_end_starts_at_trim_horizon() {
        let shards = [shard(0, &[], false), shard(1, &[0], true), shard(2, &[0], false), shard(3, &[2], true)];
        let ended = || lease(0, Checkpoint::ShardEnd);
        let planned = |leases| {
            let planned = for_known_application(&shards, &scan(leases), &Start::Latest).unwrap();
            planned.iter().map(|lease| (lease.shard.clone(), lease.checkpoint)).collect::<Vec<_>>()
        };
        let oldest = |number: usize| (shards[number].id.clone(), Checkpoint::TrimHorizon);
        assert_eq!(planned(vec![ended()]), [oldest(1), oldest(2)]);
        assert_eq!(planned(vec![ended(), lease(1, Checkpoint::Latest)]), [oldest(2)]);
        assert_eq!(planned(vec![ended(), lease(1, Checkpoint::Latest), lease(3, Checkpoint::Latest)]), []);
        let merged = [shard(0, &[], false), shard(1, &[], false), shard(2, &[0, 1], true)];
        let half = vec![ended(), lease(1, Checkpoint::TrimHorizon)];
        assert_eq!(
            for_known_application(&merged, &scan(half), &Start::Latest),
            Ok(Vec::new()),
            "the other's end leads to it"
        );
    }

    #[test]
    fn a_listing_with_an_open_parent_beside_its_child_is_not_trusted() {
        let shards = [shard(0, &[], true), shard(1, &[0], true)];
        let misfit = for_known_application(&shards, &scan(Vec::new()), &Start::Latest);
        assert_eq!(misfit, Err(Misfit::OpenParent("shardId-000000000001".parse().unwrap())));
    }

    #[test]
    fn ranges_that_leave_a_hole_are_not_trusted() {
        let mut shards = vec![shard(0, &[], true), shard(1, &[], true)];
        shards[0].hash_range = HashRange { first: 0, last: 9 };
        shards[1].hash_range = HashRange { first: 10, last: u128::MAX };
        assert_eq!(for_new_application(&shards, &Start::Latest).unwrap().len(), 2);
        shards[1].hash_range.first = 11;
        assert_eq!(for_new_application(&shards, &Start::Latest), Err(Misfit::Ranges));
        assert_eq!(for_new_application(&[], &Start::Latest), Err(Misfit::Ranges));
    }

    #[test]
    fn a_shard_is_trimmed_once_the_listing_shows_what_came_after_it() {
        let listed = [shard(3, &[2], false), shard(4, &[3], true)];
        let id = |number: u32| format!("shardId-{number:012}").parse().unwrap();
        assert!(is_trimmed(&listed, &id(2)) && is_trimmed(&listed, &id(1)));
        assert!(!is_trimmed(&listed, &id(3)), "it is listed");
        assert!(!is_trimmed(&listed, &id(5)), "the listing may be older than it");
        assert!(!is_trimmed(&[], &id(0)));
    }

    #[test]
    fn after_a_trimmed_shard_come_the_oldest_that_are_left_of_its_range() {
        let ranged = |number, parents: &[u32], first, last| {
            let mut shard = shard(number, parents, true);
            shard.hash_range = HashRange { first, last };
            shard
        };
        // 0 split into 1 and 2, of which 1 is trimmed too; 3 is a child of 1, 4 of 2; 5 has nothing to do with them.
        let listed =
            [ranged(2, &[0], 50, 99), ranged(3, &[1], 0, 49), ranged(4, &[2], 50, 99), ranged(5, &[], 100, 199)];
        let id = || "shardId-000000000000".parse().unwrap();
        let range = HashRange { first: 0, last: 99 };
        let lease = LeaseRow::new(id(), Checkpoint::TrimHorizon, Vec::new(), Some(range));
        let follow = after_trimmed(&listed, &lease);
        let ids: Vec<_> = follow.iter().map(|child| child.id.as_str()).collect();
        assert_eq!(ids, ["shardId-000000000002", "shardId-000000000003"]);
        assert!(follow.iter().all(|child| child.parents == [id()]));
        let unranged = LeaseRow::new(id(), Checkpoint::TrimHorizon, Vec::new(), None);
        assert_eq!(after_trimmed(&listed, &unranged).len(), 1, "only what names it as its parent");
    }
}
