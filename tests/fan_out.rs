//! `fetch = "fan-out"`: the real binary over SubscribeToShard.

use std::collections::BTreeSet;
use std::path::Path;

use crate::harness::{Process, Services, eventually, lines, numbered, pipeline_toml};

const NAME: &str = "fanned";
/// The middle of the first of two equal shards.
const QUARTER: &str = "85070591730234615865843651857942052864";

fn start(services: &Services, folder: &Path, fetch: &str) -> Process {
    let file = services.path("fanned.toml");
    let text = pipeline_toml(NAME, NAME, folder, "");
    std::fs::write(&file, text.replacen("idle = \"200ms\"", &format!("fetch = \"{fetch}\""), 1)).unwrap();
    let mut command = services.kinesink();
    command.arg("run").arg(&file);
    Process::start(command, &services.path("run.log"))
}

fn landed(folder: &Path) -> BTreeSet<Vec<u8>> {
    lines(folder).into_keys().collect()
}

fn all_land(folder: &Path, count: usize) {
    let expected: BTreeSet<Vec<u8>> = numbered(0, count).into_iter().collect();
    eventually("all records land", || landed(folder).is_superset(&expected).then_some(()));
}

#[test]
fn a_split_a_kill_a_merge_and_a_change_to_polling_lose_nothing() {
    let services = Services::start();
    services.create_stream(NAME, 2);
    let folder = services.path("objects");
    let process = start(&services, &folder, "fan-out");
    services.put(NAME, &numbered(0, 1_000));
    let split = services.kinesis.split_shard().stream_name(NAME).shard_to_split("shardId-000000000000");
    services.block_on(split.new_starting_hash_key(QUARTER).send()).unwrap();
    services.put(NAME, &numbered(1_000, 2_000));
    eventually("the first land", || (lines(&folder).len() > 100).then_some(()));
    // kill -9: what was fetched and not written comes again.
    process.kill();
    services.put(NAME, &numbered(2_000, 3_000));

    let process = start(&services, &folder, "fan-out");
    // Shard 0 became 2 and 3; 3 and 1 are neighbours.
    let merge = services.kinesis.merge_shards().stream_name(NAME).shard_to_merge("shardId-000000000003");
    services.block_on(merge.adjacent_shard_to_merge("shardId-000000000001").send()).unwrap();
    services.put(NAME, &numbered(3_000, 4_000));
    all_land(&folder, 4_000);
    // Pushed, and not only what was there.
    services.put(NAME, &numbered(4_000, 4_500));
    all_land(&folder, 4_500);
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "{log}");
    let checkpoints = services.checkpoints(NAME);
    for parent in 0..4 {
        if parent != 2 {
            assert_eq!(checkpoints[&format!("shardId-{parent:012}")], "SHARD_END");
        }
    }

    let before = lines(&folder);
    services.put(NAME, &numbered(4_500, 5_000));
    let process = start(&services, &folder, "polling");
    all_land(&folder, 5_000);
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "{log}");
    services.put(NAME, &numbered(5_000, 5_500));
    let process = start(&services, &folder, "fan-out");
    all_land(&folder, 5_500);
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "{log}");
    let after = lines(&folder);
    assert_eq!(after.len(), 5_500);
    for (line, count) in after {
        let expected = before.get(&line).copied().unwrap_or(1);
        assert_eq!(count, expected, "a drain and a change of the fetch doubled {}", String::from_utf8_lossy(&line));
    }
    let stream = services.kinesis.describe_stream_summary().stream_name(NAME).send();
    let arn = services.block_on(stream).unwrap().stream_description_summary.unwrap().stream_arn;
    let consumers = services.block_on(services.kinesis.list_stream_consumers().stream_arn(arn).send()).unwrap();
    let names: Vec<_> = consumers.consumers().iter().map(|consumer| consumer.consumer_name().to_owned()).collect();
    assert_eq!(names, [NAME]);
}
