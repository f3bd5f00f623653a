//! Which leases to take, exactly as KCL 2.x chooses them, so that a fleet with Java workers balances. Pure.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use kinesink_core::ShardId;
use tokio::time::Instant;

use super::row::LeaseRow;
use super::view::View;

/// What one round takes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Choice<'a> {
    /// Leases that nobody renews.
    pub(crate) free: Vec<&'a LeaseRow>,
    /// Leases of the most loaded worker, which is alive.
    pub(crate) stolen: Vec<&'a LeaseRow>,
}

/// How much a worker takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appetite {
    /// KCL's `maxLeasesForWorker`.
    pub(crate) leases_max: usize,
    /// KCL's `maxLeasesToStealAtOneTime`.
    pub(crate) steals_max: usize,
}

/// One round of a worker `me` that holds `held`.
pub(crate) fn choose<'a>(
    view: &'a View,
    me: &str,
    held: &BTreeSet<ShardId>,
    appetite: Appetite,
    now: Instant,
    rng: &mut Rng,
) -> Choice<'a> {
    let Appetite { leases_max, steals_max } = appetite;
    let leases = view.leases();
    let counts = owned(view, me, now);
    let mine = counts.get(me).copied().unwrap_or(0);
    let mut very_old: Vec<_> = leases.iter().filter(|lease| view.is_very_old(lease, now)).collect();
    if !very_old.is_empty() {
        rng.shuffle(&mut very_old);
        very_old.truncate(leases_max.saturating_sub(mine));
        very_old.retain(|lease| !held.contains(&lease.shard));
        return Choice { free: very_old, stolen: Vec::new() };
    }
    let target = share(leases.len(), counts.len()).min(leases_max);
    let needed = target.saturating_sub(mine);
    let mut available: Vec<_> = leases.iter().filter(|lease| view.is_available(lease, now)).collect();
    if needed == 0 || !available.is_empty() {
        rng.shuffle(&mut available);
        available.truncate(needed);
        available.retain(|lease| !held.contains(&lease.shard));
        return Choice { free: available, stolen: Vec::new() };
    }
    let mut stolen = steal(leases, &counts, target, needed, rng);
    stolen.truncate(steals_max);
    Choice { free: Vec::new(), stolen }
}

/// Leases of each live owner, `me` among them.
fn owned<'a>(view: &'a View, me: &'a str, now: Instant) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::from([(me, 0)]);
    for owner in view.leases().iter().filter_map(|lease| view.live_owner(lease, now)) {
        *counts.entry(owner).or_default() += 1;
    }
    counts
}

/// What each of so many workers should hold.
pub(super) fn share(leases: usize, workers: usize) -> usize {
    if workers >= leases { 1 } else { leases.div_ceil(workers) }
}

fn steal<'a>(
    leases: &'a [LeaseRow],
    counts: &BTreeMap<&str, usize>,
    target: usize,
    needed: usize,
    rng: &mut Rng,
) -> Vec<&'a LeaseRow> {
    let Some((loaded, count)) = counts.iter().max_by_key(|(_, count)| **count) else { return Vec::new() };
    let Some(surplus) = count.checked_sub(target) else { return Vec::new() };
    let number = match needed.min(surplus) {
        0 if needed > 1 => 1,
        number => number,
    };
    let mut victims: Vec<_> = leases.iter().filter(|lease| lease.owner.as_deref() == Some(loaded)).collect();
    rng.shuffle(&mut victims);
    victims.truncate(number);
    victims
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fastrand::Rng;
    use kinesink_core::Checkpoint;
    use proptest::prelude::*;

    use super::*;

    const FAILOVER: Duration = Duration::from_secs(10);

    /// A lease as a test makes it: its owner, and for how many seconds its counter has stood still.
    #[derive(Debug, Clone)]
    struct Made {
        owner: Option<usize>,
        still_s: u64,
        finished: bool,
    }

    fn id(index: usize) -> String {
        format!("shardId-{index:012}")
    }

    fn worker(index: usize) -> String {
        format!("worker{index}")
    }

    /// The view of a worker that has looked at everything from the moment that it last moved.
    fn view(made: &[Made], now: Instant) -> View {
        let mut view = View::new(FAILOVER);
        let row = |counter: u64, (index, made): (usize, &Made)| {
            let checkpoint = if made.finished { Checkpoint::ShardEnd } else { Checkpoint::TrimHorizon };
            let mut lease = LeaseRow::new(id(index).parse().unwrap(), checkpoint, Vec::new(), None);
            (lease.owner, lease.counter) = (made.owner.map(worker), counter);
            lease
        };
        // First seen with another counter, so that nothing counts as never moved.
        view.note(made.iter().enumerate().map(|made| row(0, made)).collect(), now - Duration::from_secs(100));
        for still_s in (0..=60).rev() {
            let moved = |(index, made): (usize, &Made)| row(u64::from(made.still_s >= still_s), (index, made));
            view.note(made.iter().enumerate().map(moved).collect(), now - Duration::from_secs(still_s));
        }
        view
    }

    /// What the protocol's text says, in its own order: how many leases are taken, and out of which.
    fn expected(made: &[Made], Appetite { leases_max, steals_max }: Appetite) -> (usize, Vec<usize>) {
        let available = |made: &Made| made.owner.is_none() || made.still_s > 10;
        let count = |who: usize| made.iter().filter(|made| made.owner == Some(who) && !available(made)).count();
        let mine = count(0);
        let very_old: Vec<_> = (0..made.len()).filter(|index| made[*index].still_s > 30).collect();
        if !very_old.is_empty() {
            return (very_old.len().min(leases_max.saturating_sub(mine)), very_old);
        }
        let workers = (1..5).filter(|who| count(*who) > 0).count() + 1;
        let mut target = (1..).find(|target| target * workers >= made.len()).unwrap();
        if workers >= made.len() {
            target = 1;
        }
        target = target.min(leases_max);
        if target <= mine {
            return (0, Vec::new());
        }
        let needed = target - mine;
        let free: Vec<_> = (0..made.len()).filter(|index| available(&made[*index])).collect();
        if !free.is_empty() {
            return (needed.min(free.len()), free);
        }
        let loaded = (1..5).map(count).max().unwrap();
        let steals = match loaded as i64 - target as i64 {
            ..0 => 0,
            0 => usize::from(needed > 1),
            _ => needed.min(loaded - target),
        };
        (
            steals.min(steals_max),
            (0..made.len()).filter(|index| made[*index].owner.is_some_and(|who| count(who) == loaded)).collect(),
        )
    }

    fn leases() -> impl Strategy<Value = Vec<Made>> {
        let owner = prop_oneof![1 => Just(None), 8 => (0_usize..5).prop_map(Some)];
        // Mostly alive, so that every step of the algorithm is reached.
        let still_s = prop_oneof![40 => 0_u64..10, 1 => 10_u64..12, 1 => 29_u64..32, 1 => 0_u64..60];
        let made = (owner, still_s, any::<bool>());
        prop::collection::vec(made.prop_map(|(owner, still_s, finished)| Made { owner, still_s, finished }), 0..14)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn as_many_are_taken_as_the_protocol_says_and_out_of_the_same(
            made in leases(), leases_max in prop_oneof![Just(usize::MAX), 1_usize..6], steals_max in 1_usize..4, seed: u64,
        ) {
            let now = Instant::now() + Duration::from_secs(1_000);
            let view = view(&made, now);
            let appetite = Appetite { leases_max, steals_max };
            let choice = choose(&view, "worker0", &BTreeSet::new(), appetite, now, &mut Rng::with_seed(seed));
            let (count, from) = expected(&made, appetite);
            let all: Vec<_> = choice.free.iter().chain(&choice.stolen).collect();
            prop_assert_eq!(all.len(), count, "{:?}", choice);
            let from: BTreeSet<_> = from.into_iter().map(id).collect();
            let taken: BTreeSet<_> = all.iter().map(|lease| lease.shard.to_string()).collect();
            prop_assert_eq!(taken.len(), count, "one was taken twice");
            prop_assert!(taken.is_subset(&from), "{:?} of {:?}", taken, from);
            prop_assert_eq!(&choice, &choose(&view, "worker0", &BTreeSet::new(), appetite, now, &mut Rng::with_seed(seed)));
        }
    }

    fn alive(owner: usize) -> Made {
        Made { owner: Some(owner), still_s: 0, finished: false }
    }

    fn chosen(made: &[Made], held: &[usize], seed: u64) -> (Vec<String>, Vec<String>) {
        let now = Instant::now() + Duration::from_secs(1_000);
        let view = view(made, now);
        let held = held.iter().map(|index| id(*index).parse().unwrap()).collect();
        let choice = choose(
            &view,
            "worker0",
            &held,
            Appetite { leases_max: usize::MAX, steals_max: 1 },
            now,
            &mut Rng::with_seed(seed),
        );
        let ids = |leases: Vec<&LeaseRow>| leases.iter().map(|lease| lease.shard.to_string()).collect();
        (ids(choice.free), ids(choice.stolen))
    }

    #[test]
    fn one_lease_a_round_is_stolen_from_the_most_loaded_and_another_each_time() {
        let made = [alive(1), alive(2), alive(2), alive(2), alive(2)];
        let stolen: BTreeSet<_> = (0..64).map(|seed| chosen(&made, &[], seed)).collect();
        let one = |index| (Vec::new(), vec![id(index)]);
        assert_eq!(stolen, BTreeSet::from([one(1), one(2), one(3), one(4)]));
    }

    #[test]
    fn what_is_held_is_not_taken_again() {
        let stale = Made { still_s: 11, ..alive(0) };
        assert_eq!(chosen(&[stale.clone(), stale], &[0, 1], 1), (Vec::new(), Vec::new()));
    }
}
