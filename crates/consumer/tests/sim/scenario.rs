//! What a seed decides before anything runs.

use std::time::Duration;

use fastrand::Rng;
use kinesink_consumer::Start;
use kinesink_emulator::Limits;

use crate::clock::wall;
use crate::network::Weather;
use crate::pipeline::Habits;
use crate::process::Settings;

pub(crate) const FAILOVER: Duration = Duration::from_secs(10);
/// A record of the usual size, at most.
pub(crate) const SMALL_BYTES: usize = 40;

pub(crate) struct Scenario {
    pub(crate) workers: usize,
    pub(crate) shards: i32,
    pub(crate) settings: Settings,
    pub(crate) weather: Weather,
    pub(crate) transitions: Duration,
    pub(crate) limits: Limits,
    /// How many processes use enhanced fan-out, from 0 to 1.
    pub(crate) fan_out: f64,
    pub(crate) java: bool,
    /// Whether it goes on until leases of finished shards are deleted.
    pub(crate) lingers: bool,
    pub(crate) record_bytes_max: usize,
    /// From here on nothing goes wrong.
    pub(crate) calm_at: Duration,
    /// A disturbance every so many milliseconds at most.
    pub(crate) disturbed_ms: u64,
}

impl Scenario {
    pub(crate) fn draw(seed: u64, rng: &mut Rng) -> Self {
        let share = |rng: &mut Rng, max: f64| if rng.bool() { rng.f64() * max } else { 0.0 };
        let weather = Weather {
            lost: share(rng, 0.03),
            answer_lost: share(rng, 0.05),
            twice: share(rng, 0.03),
            throttled: share(rng, 0.08),
            slow: share(rng, 0.04),
        };
        let mut habits = Habits {
            window_records_max: rng.usize(1..8),
            window_age_ms: rng.u64(200..4_000),
            sink_ms_max: rng.u64(1..3_000),
            prepared: share(rng, 0.5),
            failing: share(rng, 0.1),
        };
        let java = rng.u8(0..8) == 0;
        let start = match rng.u8(0..4) {
            0 if !java => Start::Latest,
            1 => Start::AtTimestamp(wall(Duration::from_secs(5))),
            _ => Start::TrimHorizon,
        };
        let is_tight = rng.u8(0..4) == 0;
        if is_tight {
            // Much is held at once, and what comes next is larger than what came before.
            habits.window_records_max *= 8;
        }
        let settings = Settings {
            seed,
            failover: FAILOVER,
            start,
            idle: Duration::from_millis(rng.u64(500..3_000)),
            shard_sync: Duration::from_secs(rng.u64(5..60)),
            budget_bytes: if is_tight { 512 * 1024 } else { 64 * 1024 * 1024 },
            habits,
        };
        Self {
            workers: rng.usize(1..=4),
            shards: rng.i32(1..=5),
            settings,
            weather,
            transitions: Duration::from_millis(if rng.bool() { rng.u64(0..8_000) } else { 0 }),
            limits: if rng.bool() { Limits::default() } else { Limits::none() },
            fan_out: [0.0, 0.0, 0.5, 1.0][rng.usize(0..4)],
            java,
            lingers: rng.u8(0..24) == 0,
            record_bytes_max: if is_tight { 3_000 } else { SMALL_BYTES },
            calm_at: Duration::from_secs(rng.u64(30..70)),
            disturbed_ms: rng.u64(2_000..12_000),
        }
    }
}
