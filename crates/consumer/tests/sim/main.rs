//! The shipped consumer in a simulated world. One seed is one run; two runs of a seed are the same to the last write.
//!
//! ```text
//! for each quantum of virtual time:
//!     every process that is not paused runs for it, on a clock of its own          (process, pipeline)
//!     the services run for it: requests arrive late, twice, never                  (network, store, the emulator)
//!     now and then something is killed, paused, cut off, resharded                 (run, scenario, world)
//!     the witness judges each record, each write                                   (witness)
//! then nothing goes wrong any more, and everything has to come to rest
//! ```
//!
//! `docs/simulation.md` says what a seed draws, and how to run more of them than all tests together do.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper of tests fails as a test does")]

mod clock;
mod expression;
mod fleet;
mod java;
mod network;
mod pipeline;
mod process;
mod run;
mod scenario;
mod store;
mod witness;
mod world;

use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[cfg(feature = "planted-faults")]
use kinesink_consumer::{Fault, plant};

use crate::fleet::Fleet;
use crate::run::{Outcome, simulate};
use crate::scenario::FAILOVER;

/// How many seeds are run beside all other tests, without optimization: a seed takes seconds.
const SEEDS_OF_A_DEBUG_BUILD: u64 = 8;

/// Runs seeds on all cores, until one fails; the first that did.
fn first_failure(seeds: Range<u64>, simulate: impl Fn(u64) -> Outcome + Sync) -> Option<Outcome> {
    let (next, failed) = (AtomicU64::new(seeds.start), Mutex::new(None::<Outcome>));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while failed.lock().unwrap().is_none() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = simulate(seed);
                    if outcome.failure.is_some() {
                        let mut failed = failed.lock().unwrap();
                        if failed.as_ref().is_none_or(|other| other.seed > seed) {
                            *failed = Some(outcome);
                        }
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap()
}

/// How a failing seed is shown, from a run of its own with everything that was seen.
fn replayed(seed: u64) -> String {
    let outcome = simulate(seed, true);
    let shown = outcome.trace.len().saturating_sub(400);
    format!("{}\nseed {seed} fails {:?}", outcome.trace[shown..].join("\n"), outcome.failure)
}

/// What whoever runs the tests has set.
#[expect(clippy::disallowed_methods, reason = "which seeds to run is for whoever runs the tests")]
fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[expect(clippy::disallowed_methods, reason = "minutes of a machine, which no simulated clock knows")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

fn seeds() -> u64 {
    variable("KINESINK_SEEDS").unwrap_or(SEEDS_OF_A_DEBUG_BUILD)
}

fn assert_all_hold(seeds: Range<u64>) {
    if let Some(failed) = first_failure(seeds, |seed| simulate(seed, false)) {
        panic!("{}", replayed(failed.seed));
    }
}

/// `KINESINK_SEED` replays one seed; `KINESINK_SOAK_MINUTES` goes on after the last seed that passed.
#[test]
fn the_invariants_hold_for_every_seed() {
    if let Some(seed) = variable("KINESINK_SEED") {
        panic!("{}", replayed(seed));
    }
    let Some(minutes) = variable("KINESINK_SOAK_MINUTES") else { return assert_all_hold(0..seeds()) };
    let ends = now() + Duration::from_secs(minutes * 60);
    let soaked = Path::new(env!("CARGO_TARGET_TMPDIR")).join("seeds");
    while now() < ends {
        let text = std::fs::read_to_string(&soaked).unwrap_or_default();
        let first: u64 = text.trim().parse().unwrap_or(0);
        assert_all_hold(first..first + seeds());
        std::fs::write(&soaked, (first + seeds()).to_string()).unwrap();
        println!("seeds 0 to {} hold", first + seeds() - 1);
    }
}

#[test]
fn a_seed_runs_twice_in_the_same_way() {
    for seed in 0..seeds().div_ceil(50) {
        let (once, again) = (simulate(seed, false), simulate(seed, false));
        assert_eq!(once, again, "{}", first_difference(seed));
    }
}

/// Begins, joins and dies within what `docs/simulation.md` promises. `KINESINK_WORKERS` and `KINESINK_SHARDS` make it
/// larger.
#[test]
fn a_fleet_is_even_within_three_rounds_and_what_the_dead_had_runs_again_in_time() {
    let three_rounds = FAILOVER;
    let [workers, shards] = [("KINESINK_WORKERS", 16), ("KINESINK_SHARDS", 240)]
        .map(|(name, usual)| usize::try_from(variable(name).unwrap_or(usual)).unwrap());
    let [joining, dying] = [workers / 4, workers / 8];
    let mut fleet = Fleet::new(shards, 1);
    fleet.start(workers - joining);
    let began = fleet.run(three_rounds, Fleet::is_even);
    let first = fleet.moves();
    println!("{} workers begin: even after {began:?}, {first} moves", workers - joining);
    assert!(fleet.is_even() && first * 10 <= shards, "{first} moves after {began:?}: {fleet:?}");

    fleet.start(joining);
    let joined = fleet.run(three_rounds, Fleet::is_even);
    let (moves, needed) = (fleet.moves(), shards * joining / workers);
    println!("{joining} join: even after {joined:?}, {moves} moves for {needed}");
    assert!(fleet.is_even() && moves * 10 <= needed * 11, "{moves} moves, not {needed}, after {joined:?}: {fleet:?}");

    fleet.run(FAILOVER, |_| false);
    fleet.kill(dying);
    let again = fleet.run(FAILOVER + Duration::from_secs(2), Fleet::none_is_orphaned);
    assert!(fleet.none_is_orphaned(), "not all run {again:?} after {dying} died: {fleet:?}");
    let even = again + fleet.run(three_rounds, Fleet::is_even);
    let moves = fleet.moves();
    println!("{dying} die: all run after {again:?}, even after {even:?}, {moves} moves");
    assert!(fleet.is_even() && moves * 10 <= shards * dying / workers, "{moves} moves after {even:?}: {fleet:?}");
    assert_eq!(fleet.failure(), None);
}

/// Where two runs of a seed part.
fn first_difference(seed: u64) -> String {
    let (once, again) = (simulate(seed, true).trace, simulate(seed, true).trace);
    let parts = once.iter().zip(&again).take_while(|(once, again)| once == again).count();
    let around = |trace: &[String]| trace[parts.saturating_sub(60)..trace.len().min(parts + 4)].join("\n");
    format!("once:\n{}\nagain:\n{}", around(&once), around(&again))
}

/// Seeds that find what seed 0 does not, as far as they are known. They are looked at before all others.
#[cfg(feature = "planted-faults")]
const TELLING_SEEDS: [(Fault, u64); 14] = [
    (Fault::NoReadBack, 1),
    (Fault::ReadBackWithoutToken, 45),
    (Fault::ForgetsUnanswered, 6),
    (Fault::ExpiresLate, 3),
    (Fault::HeldSinceAnswer, 17),
    (Fault::WritesExpired, 3),
    (Fault::RunsOnWithoutLease, 2),
    (Fault::TakesEarly, 1),
    (Fault::ForgetsStart, 13),
    (Fault::LatestTwice, 13),
    (Fault::SkipsUnpaid, 165),
    (Fault::Unpaid, 11),
    (Fault::ForgetsPosition, 17),
    (Fault::DeletesEarly, 158),
];

/// Where few seeds are run, only faults that hardly any seed can miss.
#[cfg(feature = "planted-faults")]
#[test]
fn every_planted_fault_is_found() {
    let seeds = seeds();
    let quick: &[Fault] = &[Fault::CounterStands, Fault::KeepsLeases, Fault::DropsHashRange];
    let faults = if seeds > SEEDS_OF_A_DEBUG_BUILD { &Fault::ALL } else { quick };
    let mut missed = Vec::new();
    for fault in faults {
        let planted = |seed| {
            plant(Some(*fault));
            let outcome = simulate(seed, false);
            plant(None);
            outcome
        };
        let telling = TELLING_SEEDS.iter().find(|(found, seed)| found == fault && *seed < seeds);
        let known = telling.map(|(_, seed)| planted(*seed)).filter(|outcome| outcome.failure.is_some());
        match known.or_else(|| first_failure(0..seeds, planted)) {
            Some(Outcome { seed, failure, .. }) => println!("{fault:?}: seed {seed}: {}", failure.unwrap()),
            None => missed.push(fault),
        }
    }
    assert!(missed.is_empty(), "within {seeds} seeds nobody finds {missed:?}");
}
