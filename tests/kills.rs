//! kill -9 at seeded times under load: every record once, never a hole.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use crate::harness::{PATIENCE, Process, Services, eventually, lines, numbered, objects, pause, pipeline_toml, staged};

const KILLS: usize = 40;
/// So many kills must have hit between an object and its checkpoint, or the test proved too little.
const HITS_MIN: usize = 5;
const RECORDS_PER_KILL: usize = 600;
const SEED: u64 = 20_131_231;

#[test]
fn forty_kills_leave_no_hole_and_double_nothing() {
    let services = Services::start();
    services.create_stream("kills", 4);
    let folder = services.path("objects");
    let file = services.path("kills.toml");
    // Small windows: a kill in the midst of the load is then as likely between an object and its checkpoint as not.
    let small_windows = pipeline_toml("kills", "kills", &folder, "").replace("records = 200", "records = 20");
    let log = services.path("run.log");
    // Each start finds a file with another compression: what was announced is finished as it was announced.
    let start = |number: usize| {
        let compression = ["none", "gzip", "zstd"][number % 3];
        let format = format!("format = \"ndjson\"\ncompression = {compression:?}");
        std::fs::write(&file, small_windows.replace("format = \"ndjson\"", &format)).unwrap();
        let mut command = services.kinesink();
        command.arg("run").arg(&file);
        Process::start(command, &log)
    };

    let mut random = Random(SEED);
    let mut hits = 0;
    let mut put = 0;
    for kill in 0..KILLS {
        let process = start(kill);
        // Load goes on while the pipeline starts, fetches, writes and checkpoints.
        services.put("kills", &numbered(put, put + RECORDS_PER_KILL));
        put += RECORDS_PER_KILL;
        let before = objects(&folder).len();
        if kill % 4 != 0 {
            // Three of four kills wait until something new has landed, so that they hit a working pipeline.
            eventually("an object lands", || (objects(&folder).len() > before).then_some(()));
        }
        pause(Duration::from_millis(random.below(120)));
        process.kill();
        hits += usize::from(is_ahead_of_its_checkpoint(&services, &folder));
    }
    println!("{hits} of {KILLS} kills left an object without its checkpoint (seed {SEED})");
    assert!(hits >= HITS_MIN, "only {hits} of {KILLS} kills hit between an object and its checkpoint");

    let process = start(KILLS);
    let expected: BTreeSet<Vec<u8>> = numbered(0, put).into_iter().collect();
    eventually(&format!("every record lands within {PATIENCE:?}"), || {
        let landed: BTreeSet<Vec<u8>> = lines(&folder).into_keys().collect();
        landed.is_superset(&expected).then_some(())
    });
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "{log}");

    let landed: BTreeSet<Vec<u8>> = lines(&folder).into_keys().collect();
    let in_stream: BTreeSet<Vec<u8>> = services.read_stream("kills").into_iter().map(|(_, _, data)| data).collect();
    assert_eq!(in_stream, expected, "the stream holds what was put");
    assert_eq!(landed, in_stream, "the objects hold what the stream holds, and nothing else");
    // The empty file by which a start sees that it may write stays if that start is killed in that very moment.
    let is_probe = |path: &PathBuf| path.display().to_string().contains("_kinesink_check_");
    let left: Vec<_> = staged(&folder).into_iter().filter(|path| !is_probe(path)).collect();
    assert_eq!(left, Vec::<PathBuf>::new(), "what killed writers left behind stays");
    let doubled = lines(&folder).into_values().filter(|count| *count > 1).count();
    assert_eq!(doubled, 0, "{doubled} records are in the objects more than once");
}

/// Whether some shard has an object whose last position the lease row does not have yet.
fn is_ahead_of_its_checkpoint(services: &Services, folder: &std::path::Path) -> bool {
    let checkpoints = services.checkpoints("kills");
    let in_stream = services.read_stream("kills");
    let names: Vec<_> = objects(folder).into_iter().collect();
    checkpoints.iter().any(|(shard, checkpoint)| {
        let of_shard = in_stream.iter().filter(|(id, _, _)| id == shard);
        let after = of_shard.filter(|(_, sequence, _)| is_after(sequence, checkpoint));
        let after: BTreeSet<&Vec<u8>> = after.map(|(_, _, data)| data).collect();
        names.iter().flat_map(|(_, lines)| lines).any(|line| after.contains(line))
    })
}

fn is_after(sequence: &str, checkpoint: &str) -> bool {
    let digits = checkpoint.bytes().all(|byte| byte.is_ascii_digit());
    !digits || (sequence.len(), sequence) > (checkpoint.len(), checkpoint)
}

/// A small generator of our own (Knuth's MMIX constants): the same kills at every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}
