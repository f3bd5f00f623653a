//! The shipped taker in a fleet of 64 on a table of 4,000 leases, event by event: scans take their time and see the
//! table as it was when they began, writes come one after the other and are conditional as in the table. Smaller fleets
//! are run with more seeds.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use fastrand::Rng;
use kinesink_core::{Checkpoint, ShardId};
use tokio::time::{Instant, sleep_until};

use super::taker::{Plan, Taker};
use crate::lease::assignment::Appetite;
use crate::lease::{LeaseRow, Scan, Wish};
use crate::worker::{EPSILON, WRITES_AT_ONCE};

const FAILOVER: Duration = Duration::from_secs(10);
/// Workers and leases.
const LARGE: (usize, usize) = (64, 4_000);
const MIDDLE: (usize, usize) = (16, 400);
const MIDDLE_SEEDS: u64 = 8;
const ANY: Appetite = Appetite { leases_max: usize::MAX, steals_max: 1 };
/// Within this time a fleet is to be even: a round is a third of the failover.
const THREE_ROUNDS: Duration = FAILOVER;
/// Within this time the leases of the dead run again.
const RESTARTED: Duration = Duration::from_secs(12);
/// Two pages of a megabyte.
const SCAN_TAKES: Duration = Duration::from_millis(150);
/// That many as are sent at once.
const WRITES_TAKE: Duration = Duration::from_millis(40);
const DRAIN_TAKES: Duration = Duration::from_millis(200);
/// Members start within so much of each other.
const START_WITHIN: Duration = Duration::from_millis(1_500);

struct Member {
    taker: Taker,
    rng: Rng,
    held: BTreeSet<ShardId>,
    gifts: BTreeMap<ShardId, Instant>,
    is_alive: bool,
    is_leaving: bool,
}

#[derive(Debug)]
enum Write {
    Take(LeaseRow),
    Wish(LeaseRow, Wish),
    Refuse(LeaseRow),
    Release(ShardId),
}

#[derive(Debug)]
enum Event {
    Round,
    /// The scan that began before shows these rows.
    Scanned(Vec<LeaseRow>),
    Write(Box<Write>),
    /// All writes of a look are done.
    Acted(Instant),
    Renew,
    Renewed(Vec<ShardId>),
    /// The shard is drained, and its lease goes to the worker.
    Give(ShardId, String),
}

struct Fleet {
    rows: BTreeMap<ShardId, LeaseRow>,
    members: Vec<Member>,
    events: BinaryHeap<Reverse<(Instant, usize, usize)>>,
    /// What happens, by its number.
    bodies: BTreeMap<usize, Event>,
    numbered: usize,
    /// Leases that were drained for another worker.
    moved: usize,
}

fn id(member: usize) -> String {
    format!("worker-{member:02}")
}

impl Fleet {
    /// Nobody runs yet; the leases are of the first `owners`, evenly, or of nobody.
    fn new((workers, leases): (usize, usize), owners: usize, seed: u64) -> Self {
        let row = |index: usize| {
            let shard: ShardId = format!("shardId-{index:012}").parse().unwrap();
            let mut row = LeaseRow::new(shard.clone(), Checkpoint::TrimHorizon, Vec::new(), None);
            row.owner = (owners > 0).then(|| id(index % owners));
            row.mark = row.owner.clone();
            (shard, row)
        };
        let rows: BTreeMap<_, _> = (0..leases).map(row).collect();
        let member = |index| {
            let held = rows.values().filter(|row| row.owner == Some(id(index))).map(|row| row.shard.clone()).collect();
            let mut taker = Taker::new(FAILOVER, Rng::with_seed(seed + index as u64), None);
            if owners > 0 {
                taker.begin();
            }
            let rng = Rng::with_seed(seed + 1_000 + index as u64);
            Member { taker, rng, held, gifts: BTreeMap::new(), is_alive: false, is_leaving: false }
        };
        let members = (0..workers).map(member).collect();
        Self { rows, members, events: BinaryHeap::new(), bodies: BTreeMap::new(), numbered: 0, moved: 0 }
    }

    fn at(&mut self, at: Instant, member: usize, event: Event) {
        self.events.push(Reverse((at, self.numbered, member)));
        self.bodies.insert(self.numbered, event);
        self.numbered += 1;
    }

    fn start(&mut self, member: usize) {
        let mut within = |max: Duration| Instant::now() + max.mul_f64(self.members[member].rng.f64());
        let (scan, renew) = (within(START_WITHIN), within(FAILOVER / 3));
        self.members[member].is_alive = true;
        self.at(scan, member, Event::Round);
        self.at(renew, member, Event::Renew);
    }

    /// Everything until `end`, or until `is_done` after an event.
    async fn run(&mut self, end: Instant, mut is_done: impl FnMut(&Self) -> bool) {
        while let Some(Reverse((at, number, member))) = self.events.peek().copied() {
            if at > end {
                break;
            }
            self.events.pop();
            let event = self.bodies.remove(&number).unwrap();
            sleep_until(at).await;
            if self.members[member].is_alive {
                self.happens(member, event);
                if is_done(self) {
                    return;
                }
            }
        }
        sleep_until(end).await;
    }

    fn happens(&mut self, member: usize, event: Event) {
        let now = Instant::now();
        match event {
            Event::Round | Event::Scanned(_) if self.members[member].is_leaving => {}
            Event::Round if self.members[member].taker.looks() => {
                let rows = self.rows.values().cloned().collect();
                self.at(now + SCAN_TAKES, member, Event::Scanned(rows));
            }
            Event::Round => self.act(member, false),
            Event::Scanned(leases) => {
                self.members[member].taker.note(Scan { leases, unreadable: Vec::new() }, &id(member));
                self.act(member, true);
            }
            Event::Write(write) => self.write(member, *write),
            Event::Acted(until) => {
                self.members[member].taker.look_again_after(Some(until));
                let next = self.members[member].taker.next_round(&id(member));
                self.at(next, member, Event::Round);
            }
            Event::Renew => {
                let held: Vec<_> = self.members[member].held.iter().cloned().collect();
                for (batch, shards) in (1..).zip(held.chunks(WRITES_AT_ONCE)) {
                    self.at(now + WRITES_TAKE * batch, member, Event::Renewed(shards.to_vec()));
                }
                self.at(now + FAILOVER / 3 - EPSILON, member, Event::Renew);
            }
            Event::Renewed(shards) => {
                for shard in shards.iter().filter(|shard| self.members[member].held.contains(*shard)) {
                    self.rows.get_mut(shard).unwrap().counter += 1;
                }
            }
            Event::Give(shard, to) => {
                let row = self.rows.get_mut(&shard).unwrap();
                assert_eq!(row.owner, Some(id(member)), "given away without being held");
                (row.owner, row.mark, row.wish) = (Some(to.clone()), Some(to), None);
                row.counter += 1;
                self.members[member].held.remove(&shard);
                self.members[member].gifts.remove(&shard);
                self.moved += 1;
            }
        }
    }

    /// One write, conditional as in the table.
    fn write(&mut self, member: usize, write: Write) {
        let shard = match &write {
            Write::Take(lease) | Write::Wish(lease, _) | Write::Refuse(lease) => &lease.shard,
            Write::Release(shard) => shard,
        };
        let (row, Member { taker, held, .. }) = (self.rows.get_mut(shard).unwrap(), &mut self.members[member]);
        match write {
            Write::Take(observed) if row.counter == observed.counter => {
                row.counter += 1;
                (row.owner, row.mark, row.wish) = (Some(id(member)), Some(id(member)), None);
                held.insert(observed.shard);
            }
            Write::Wish(observed, wish) if (&row.owner, &row.wish) == (&observed.owner, &observed.wish) => {
                row.wish = Some(wish);
            }
            Write::Take(_) | Write::Wish(..) => taker.overtaken(),
            Write::Refuse(observed) => drop(row.wish.take_if(|wish| Some(&*wish) == observed.wish.as_ref())),
            Write::Release(shard) => {
                (row.owner, row.mark) = (None, None);
                row.counter += 1;
                held.remove(&shard);
            }
        }
    }

    /// What `Drive::round` does.
    fn act(&mut self, member: usize, looked: bool) {
        let (me, now) = (id(member), Instant::now());
        let Member { taker, rng, held, gifts, .. } = &mut self.members[member];
        let plan = taker.plan(&me, ANY, held, gifts, looked);
        let Plan { adopt, take, steal, wish, give, keep, refuse } = plan;
        assert!(steal.is_empty() && keep.is_empty(), "nothing is stolen among ourselves");
        taker.expected.extend(wish.iter().map(|lease| lease.shard.clone()));
        let takes = adopt.into_iter().chain(take).map(Write::Take);
        let mut wished = |lease| Write::Wish(lease, Wish { number: rng.u64(..), by: me.clone() });
        let wishes: Vec<_> = wish.into_iter().map(&mut wished).collect();
        let writes: Vec<_> = refuse.into_iter().map(Write::Refuse).chain(takes).chain(wishes).collect();
        let given: Vec<_> = give.into_iter().filter(|(shard, _)| !gifts.contains_key(shard)).collect();
        gifts.extend(given.iter().map(|(shard, _)| (shard.clone(), now)));
        for (shard, to) in given {
            self.at(now + DRAIN_TAKES, member, Event::Give(shard, to));
        }
        let (mut at, until) = (now, now + self.members[member].taker.scan_period());
        for write in writes {
            if at < until {
                at += WRITES_TAKE / u32::try_from(WRITES_AT_ONCE).unwrap();
                self.at(at, member, Event::Write(write.into()));
            }
        }
        self.at(at, member, Event::Acted(until));
    }

    /// A member leaves: its shards end one by one, until then.
    fn leave(&mut self, member: usize, within: Duration) {
        let held: Vec<_> = self.members[member].held.iter().cloned().collect();
        for (index, shard) in (1..).zip(&held) {
            let at = Instant::now() + within * index / u32::try_from(held.len()).unwrap();
            self.at(at, member, Event::Write(Write::Release(shard.clone()).into()));
        }
        self.members[member].is_leaving = true;
    }

    /// What each that stays holds.
    fn loads(&self) -> Vec<usize> {
        let stay = self.members.iter().filter(|member| member.is_alive && !member.is_leaving);
        stay.map(|member| member.held.len()).collect()
    }

    fn all_run(&self) -> bool {
        self.members.iter().filter(|member| member.is_alive).map(|member| member.held.len()).sum::<usize>()
            == self.rows.len()
    }

    fn is_even(&self) -> bool {
        let loads = self.loads();
        self.all_run() && loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1
    }
}

/// So many workers are added at once to those that divide the leases, or to a new table.
async fn join(shape: (usize, usize), joining: usize, seed: u64) {
    let (owners, leases) = (shape.0 - joining, shape.1);
    let mut fleet = Fleet::new(shape, owners, seed);
    (0..owners).for_each(|member| fleet.start(member));
    fleet.run(Instant::now() + START_WITHIN * 2, |_| false).await;
    let began = Instant::now();
    (owners..shape.0).for_each(|member| fleet.start(member));
    fleet.run(began + THREE_ROUNDS, Fleet::is_even).await;
    let what = format!("{joining} join {owners}, seed {seed}");
    assert!(fleet.is_even(), "{what}: {:?} after three rounds", fleet.loads());
    fleet.run(Instant::now() + START_WITHIN * 2, |_| false).await;
    assert!(fleet.is_even(), "{what}: {:?} after it was even", fleet.loads());
    let needed = if owners == 0 { 0 } else { leases * joining / shape.0 };
    let allowed = needed + if owners == 0 { leases } else { needed } / 10;
    assert!(fleet.moved <= allowed, "{what}: {} moves, {needed} are needed", fleet.moved);
}

/// So many workers die at once, of a fleet that has long been as it is.
async fn die(shape: (usize, usize), dying: usize, seed: u64) {
    let mut fleet = Fleet::new(shape, shape.0, seed);
    (0..shape.0).for_each(|member| fleet.start(member));
    fleet.run(Instant::now() + FAILOVER * 2, |_| false).await;
    fleet.members.iter_mut().take(dying).for_each(|member| member.is_alive = false);
    let died = Instant::now();
    fleet.run(died + RESTARTED, Fleet::all_run).await;
    let what = format!("{dying} of {} die, seed {seed}", shape.0);
    assert!(fleet.all_run(), "{what}: {:?} after {RESTARTED:?}", fleet.loads());
    fleet.run(Instant::now() + THREE_ROUNDS, Fleet::is_even).await;
    assert!(fleet.is_even(), "{what}: {:?}", fleet.loads());
    assert!(fleet.moved * 10 <= shape.1 * dying / shape.0, "{what}: {} moves", fleet.moved);
}

#[tokio::test(start_paused = true)]
async fn one_that_joins_63_has_its_share_within_three_rounds_and_no_lease_moves_needlessly() {
    join(LARGE, 1, 1).await;
}

#[tokio::test(start_paused = true)]
async fn as_many_as_there_are_join_at_once_and_have_their_share_within_three_rounds() {
    join(LARGE, 32, 1).await;
}

#[tokio::test(start_paused = true)]
async fn workers_that_begin_at_once_on_a_new_table_divide_it_within_three_rounds() {
    join(LARGE, 64, 1).await;
}

#[tokio::test(start_paused = true)]
async fn what_four_of_64_held_runs_again_within_failover_and_two_seconds() {
    die(LARGE, 4, 1).await;
}

#[tokio::test(start_paused = true)]
async fn whatever_number_joins_or_dies_the_rest_divides_the_leases_in_time() {
    for seed in 0..MIDDLE_SEEDS {
        for joining in [1, 4, 8, 15, 16] {
            join(MIDDLE, joining, seed).await;
        }
        for dying in [1, 2, 5, 8] {
            die(MIDDLE, dying, seed).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_that_leaves_has_drained_runs_again_while_it_drains_the_rest() {
    for seed in 0..MIDDLE_SEEDS {
        let mut fleet = Fleet::new(MIDDLE, 16, seed);
        (0..16).for_each(|member| fleet.start(member));
        fleet.run(Instant::now() + FAILOVER, |_| false).await;
        let left = Instant::now();
        fleet.leave(0, FAILOVER * 6);
        while left.elapsed() < FAILOVER * 6 {
            fleet.run(Instant::now() + THREE_ROUNDS, |_| false).await;
            let lying = fleet.rows.values().filter(|row| row.owner.is_none()).count();
            // One every two seconds and a half, and a look every second and a half.
            assert!(lying <= 2, "seed {seed}: {lying} leases are nobody's after {:?}", left.elapsed());
        }
        assert!(fleet.moved <= 4, "seed {seed}: {} moves", fleet.moved);
    }
}
