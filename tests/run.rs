//! `kinesink run`: drain, restart, resharding, signals.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::harness::{
    Process, Services, eventually, http, kinesink, lines, numbered, objects, output, pause, pipeline_toml, text,
};

fn start(services: &Services, name: &str, more: &str) -> (Process, std::path::PathBuf) {
    let folder = services.path("objects");
    let file = services.path(&format!("{name}.toml"));
    std::fs::write(&file, pipeline_toml(name, name, &folder, more)).unwrap();
    let mut command = services.kinesink();
    command.arg("run").arg(&file);
    (Process::start(command, &services.path("run.log")), folder)
}

#[test]
fn a_drain_flushes_checkpoints_and_releases_and_a_restart_doubles_nothing() {
    let services = Services::start();
    services.create_stream("drain", 2);
    services.put("drain", &numbered(0, 1_000));
    let (process, folder) = start(&services, "drain", "");
    eventually("all records land", || (lines(&folder).len() == 1_000).then_some(()));
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "{log}");
    assert_eq!(services.owners("drain").len(), 0, "the leases are released");
    assert!(log.contains("delivery=\"effectively once\""), "the tier is told at start: {log}");

    services.put("drain", &numbered(1_000, 1_050));
    let (process, _) = start(&services, "drain", "");
    eventually("the rest lands", || (lines(&folder).len() == 1_050).then_some(()));
    process.signal("-INT");
    assert_eq!(process.wait().code(), Some(0), "SIGINT drains as SIGTERM does");
    assert_eq!(services.owners("drain").len(), 0, "the leases are released");
    assert!(lines(&folder).values().all(|count| *count == 1), "a drained restart reads nothing again");
}

/// The address that the log says the metrics are served at.
fn metrics_address(process: &Process) -> String {
    eventually("the metrics are served", || {
        let log = process.log();
        let (_, rest) = log.split_once("bound=")?;
        rest.split_once('\n').map(|(address, _)| address.to_owned())
    })
}

#[test]
fn a_drain_flushes_an_open_window_that_would_have_waited_for_an_hour() {
    let services = Services::start();
    services.create_stream("flush", 2);
    services.put("flush", &numbered(0, 50));
    let (file, folder) = (services.path("flush.toml"), services.path("objects"));
    let text = pipeline_toml("flush", "flush", &folder, "[metrics]\nlisten = \"127.0.0.1:0\"\n");
    std::fs::write(&file, text.replace("age = \"200ms\"", "age = \"1h\"")).unwrap();
    let start = || {
        let mut command = services.kinesink();
        command.arg("run").arg(&file);
        Process::start(command, &services.path("run.log"))
    };
    let process = start();
    let address = metrics_address(&process);
    eventually("every record is read", || {
        http(&address, "GET", "/metrics", "").contains("\nkinesink_records_in_total 50\n").then_some(())
    });
    assert!(objects(&folder).is_empty(), "the windows are open");
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "{log}");
    assert_eq!(lines(&folder), numbered(0, 50).into_iter().map(|line| (line, 1)).collect());
    let last = |shard: &String| {
        let of_shard = services.read_stream("flush").into_iter().filter(|(id, _, _)| id == shard);
        of_shard.map(|(_, sequence, _)| sequence).next_back()
    };
    for (shard, checkpoint) in services.checkpoints("flush") {
        assert_eq!(Some(checkpoint), last(&shard), "the checkpoint of {shard}");
    }
}

#[test]
fn what_a_jq_program_makes_counts_toward_the_bytes_of_a_window() {
    let services = Services::start();
    services.create_stream("grown", 1);
    services.put("grown", &numbered(0, 100));
    let (file, folder) = (services.path("grown.toml"), services.path("objects"));
    let text = pipeline_toml("grown", "grown", &folder, "[transform]\njq = '. + {more: (\"x\" * 100000)}'\n");
    std::fs::write(&file, text.replace("age = \"200ms\"", "age = \"5s\"")).unwrap();
    let mut command = services.kinesink();
    command.arg("run").arg(&file);
    let process = Process::start(command, &services.path("run.log"));
    eventually("all records land", || (lines(&folder).len() == 100).then_some(()));
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "{log}");
    for (path, lines) in objects(&folder) {
        let bytes: usize = lines.iter().map(Vec::len).sum();
        assert!(bytes < 1_200_000, "{} has {bytes} bytes, and a window 1 MiB", path.display());
    }
}

#[test]
fn a_missing_stream_is_created_also_while_the_service_throttles() {
    let services = Services::start();
    services.fault(
        r#"[{"operation":"CreateStream","times":1,"kind":{"error":{"code":"LimitExceededException"}}},
            {"operation":"DescribeStreamSummary","times":2,"kind":{"error":{"code":"LimitExceededException"}}}]"#,
    );
    let (file, folder) = (services.path("created.toml"), services.path("objects"));
    std::fs::write(&file, pipeline_toml("created", "created", &folder, "")).unwrap();
    let mut command = services.kinesink();
    command.arg("run").arg(&file).arg("--create");
    let process = Process::start(command, &services.path("run.log"));
    eventually("the leases are held", || (services.owners("created").len() == 4).then_some(()));
    services.put("created", &numbered(0, 100));
    eventually("all records land", || (lines(&folder).len() == 100).then_some(()));
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("LimitExceededException") && log.contains("trying again"), "{log}");
}

#[test]
fn a_signal_ends_a_start_that_waits_for_its_stream() {
    let services = Services::start_slow();
    let (file, folder) = (services.path("slow.toml"), services.path("objects"));
    std::fs::write(&file, pipeline_toml("slow", "slow", &folder, "")).unwrap();
    let mut command = services.kinesink();
    command.arg("run").arg(&file).arg("--create");
    let process = Process::start(command, &services.path("run.log"));
    eventually("the stream is being created", || process.log().contains("stream created").then_some(()));
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "{log}");
    assert!(objects(&folder).is_empty() && services.owners("slow").is_empty(), "something was started");
}

#[test]
fn run_local_makes_the_stream_that_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("fresh.toml"), pipeline_toml("fresh", "fresh", &path("objects"), "")).unwrap();
    std::fs::write(path("records"), numbered(0, 100).join(&b'\n')).unwrap();
    let mut command = kinesink();
    command.arg("run").arg(path("fresh.toml")).arg("--local").arg(path("local"));
    let process = Process::start(command, &path("log"));
    eventually("its shards are taken", || (process.log().matches("lease taken").count() == 4).then_some(()));
    let log = process.log();
    let (_, address) = log.split_once("kinesis=\"").unwrap();
    let address = address.split_once('"').unwrap().0;
    let mut put = kinesink();
    put.envs([("AWS_ENDPOINT_URL_KINESIS", address), ("AWS_REGION", "us-east-1")]);
    put.envs([("AWS_ACCESS_KEY_ID", "local"), ("AWS_SECRET_ACCESS_KEY", "local")]);
    let put = output(put.args(["put", "fresh"]).arg(path("records")));
    assert_eq!(put.status.code(), Some(0), "{}", text(&put.stderr));
    eventually("all records land", || (lines(&path("objects")).len() == 100).then_some(()));
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "{log}");
}

#[test]
fn json_logs_are_an_object_a_line_with_stream_shard_and_sink() {
    let services = Services::start();
    services.create_stream("logged", 1);
    services.put("logged", &numbered(0, 10));
    let (file, folder) = (services.path("logged.toml"), services.path("objects"));
    std::fs::write(&file, pipeline_toml("logged", "logged", &folder, "")).unwrap();
    let mut command = services.kinesink();
    command.args(["--log", "json", "--log-level", "debug", "run"]).arg(&file);
    let process = Process::start(command, &services.path("run.log"));
    eventually("all records land", || (lines(&folder).len() == 10).then_some(()));
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "{log}");
    let events: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let written = events.iter().find(|event| event["message"] == "object written").expect(&log);
    let field = |name: &str| {
        let spans = written["spans"].as_array().unwrap();
        spans.iter().find_map(|span| span[name].as_str().map(str::to_owned))
    };
    assert_eq!(field("stream").as_deref(), Some("logged"));
    assert_eq!(field("shard").as_deref(), Some("shardId-000000000000"));
    assert_eq!(field("sink").as_deref(), Some("s3"));
}

#[test]
fn resharding_while_running_loses_nothing_and_keeps_parents_before_children() {
    let services = Services::start();
    services.create_stream("reshard", 2);
    let (process, folder) = start(&services, "reshard", "");
    services.put("reshard", &numbered(0, 2_000));
    let shards = |services: &Services| {
        let reply = services.block_on(services.kinesis.list_shards().stream_name("reshard").send()).unwrap();
        reply.shards().to_vec()
    };
    let middle = "85070591730234615865843651857942052864";
    let split = services.kinesis.split_shard().stream_name("reshard").shard_to_split(shards(&services)[0].shard_id());
    services.block_on(split.new_starting_hash_key(middle).send()).unwrap();
    services.put("reshard", &numbered(2_000, 4_000));
    eventually("the stream is active", || {
        let request = services.kinesis.describe_stream_summary().stream_name("reshard").send();
        let reply = services.block_on(request).unwrap();
        (reply.stream_description_summary().unwrap().stream_status().as_str() == "ACTIVE").then_some(())
    });
    let open: Vec<_> = shards(&services)
        .into_iter()
        .filter(|shard| shard.sequence_number_range().unwrap().ending_sequence_number().is_none())
        .collect();
    let by_range = |start: &str| {
        let found = open.iter().find(|shard| shard.hash_key_range().unwrap().starting_hash_key() == start);
        found.map(|shard| shard.shard_id().to_owned())
    };
    let (left, right) = (by_range("0").unwrap(), by_range(middle).unwrap());
    let merge =
        services.kinesis.merge_shards().stream_name("reshard").shard_to_merge(left).adjacent_shard_to_merge(right);
    services.block_on(merge.send()).unwrap();
    services.put("reshard", &numbered(4_000, 6_000));

    eventually("all records land", || (lines(&folder).len() == 6_000).then_some(()));
    let ended = eventually("every parent ends", || {
        let checkpoints = services.checkpoints("reshard");
        let ended: BTreeSet<_> =
            checkpoints.iter().filter(|(_, at)| *at == "SHARD_END").map(|(id, _)| id.clone()).collect();
        (ended.len() == 3).then_some(ended)
    });
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "{log}");

    // A parent's objects were all written before any object of its children.
    let written = |shard: &str| {
        let times = objects(&folder).into_iter().filter(|(path, _)| path.to_string_lossy().contains(shard));
        times.map(|(path, _)| path.metadata().unwrap().modified().unwrap()).collect::<Vec<_>>()
    };
    for shard in shards(&services) {
        for parent in [shard.parent_shard_id(), shard.adjacent_parent_shard_id()].into_iter().flatten() {
            assert!(ended.contains(parent), "{parent} has children and has not ended");
            let (last, first) = (written(parent).into_iter().max(), written(shard.shard_id()).into_iter().min());
            if let (Some(last), Some(first)) = (last, first) {
                assert!(last <= first, "{} was written before its parent {parent} ended", shard.shard_id());
            }
        }
    }
}

#[test]
fn a_poisoned_shard_halts_loudly_and_the_others_go_on() {
    let services = Services::start();
    services.create_stream("poison", 2);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let more = format!("[transform]\njq = '.'\n\n[metrics]\nlisten = \"127.0.0.1:{port}\"\n");
    // Keys "0" and "1" of two calls; a record that is not JSON stands between good ones of its shard.
    services.put("poison", &numbered(0, 50));
    services.put("poison", &[b"not json".to_vec()]);
    services.put("poison", &numbered(50, 100));
    let halted = services.read_stream("poison").into_iter().find(|(_, _, data)| data == b"not json").unwrap();
    let (process, folder) = start(&services, "poison", &more);

    let before: BTreeSet<Vec<u8>> = {
        let all = services.read_stream("poison");
        let ok = all.into_iter().filter(|(shard, sequence, data)| {
            data != b"not json" && (*shard != halted.0 || (sequence.len(), sequence) < (halted.1.len(), &halted.1))
        });
        ok.map(|(_, _, data)| data).collect()
    };
    eventually("everything before the poison lands", || {
        let landed: BTreeSet<Vec<u8>> = lines(&folder).into_keys().collect();
        landed.is_superset(&before).then_some(())
    });
    let address = format!("127.0.0.1:{port}");
    eventually("/healthz fails", || http(&address, "GET", "/healthz", "").starts_with("HTTP/1.1 503").then_some(()));
    assert!(http(&address, "GET", "/healthz", "").contains(&halted.0));
    let metrics = http(&address, "GET", "/metrics", "");
    assert!(
        metrics.lines().any(|line| line.contains("shard_halted{") && line.contains(&halted.0) && line.ends_with(" 1")),
        "{metrics}"
    );
    assert!(http(&address, "GET", "/readyz", "").starts_with("HTTP/1.1 200"));
    assert_eq!(services.owners("poison").len(), 2, "a halted shard keeps its lease");

    pause(Duration::from_millis(300));
    let landed: BTreeSet<Vec<u8>> = lines(&folder).into_keys().collect();
    assert_eq!(landed, before, "nothing after the poison, of its shard, was delivered");
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "one shard was healthy: {log}");
    assert!(log.contains(&halted.1) && log.contains("dead_letter"), "position and remedy are logged: {log}");

    // With a dead-letter destination the same record is no obstacle.
    let dead = services.path("dead");
    let (process, _) =
        start(&services, "poison", &format!("{more}\n[dead_letter]\nurl = \"file://{}\"\n", dead.display()));
    eventually("everything lands", || (lines(&folder).len() == 100).then_some(()));
    let letters = eventually("the dead letter lands", || lines(&dead).into_keys().next());
    let letter: serde_json::Value = serde_json::from_slice(&letters).unwrap();
    assert_eq!(letter["stage"], "transform");
    assert_eq!((letter["shard"].as_str(), letter["sequence"].as_str()), (Some(&*halted.0), Some(&*halted.1)));
    assert_eq!(letter["data"], "bm90IGpzb24=");
    assert_eq!(process.terminate().0, 0);
}

#[test]
fn when_every_held_shard_is_halted_the_drain_ends_with_5() {
    let services = Services::start();
    services.create_stream("refused", 1);
    services.put("refused", &[b"not json".to_vec()]);
    let (process, _) = start(&services, "refused", "[transform]\njq = '.'\n");
    eventually("the halt is logged", || process.log().contains("the shard is halted").then_some(()));
    let (code, log) = process.terminate();
    assert_eq!(code, 5, "{log}");
}

#[test]
fn empty_stream_empty_record_large_record_and_many_keys_are_fine() {
    let services = Services::start();
    services.create_stream("sizes", 3);
    let (process, folder) = start(&services, "sizes", "");
    pause(Duration::from_millis(500));
    assert!(objects(&folder).is_empty(), "an empty stream makes no object");
    let large = vec![b'x'; 1_048_576 - 8];
    services.put("sizes", &[Vec::new(), large.clone()]);
    services.put("sizes", &numbered(0, 10_000));
    eventually("all records land", || (lines(&folder).len() == 10_002).then_some(()));
    let landed = lines(&folder);
    assert_eq!((landed.get(&Vec::new()), landed.get(&large)), (Some(&1), Some(&1)));
    assert_eq!(process.terminate().0, 0);
}

#[test]
fn a_latest_start_killed_before_its_first_checkpoint_loses_nothing() {
    let services = Services::start();
    services.create_stream("latest", 1);
    services.put("latest", &numbered(0, 5));
    let folder = services.path("objects");
    let file = services.path("latest.toml");
    let slow = pipeline_toml("latest", "latest", &folder, "").replace("trim-horizon", "latest").replace("200ms", "30s");
    std::fs::write(&file, slow).unwrap();
    let mut command = services.kinesink();
    command.arg("run").arg(&file);
    let process = Process::start(command, &services.path("run.log"));
    eventually("the lease is held", || (services.owners("latest").len() == 1).then_some(()));
    pause(Duration::from_millis(300));
    services.put("latest", &numbered(5, 10));
    pause(Duration::from_millis(300));
    process.kill();
    assert_eq!(services.checkpoints("latest").values().next().unwrap(), "LATEST");
    services.put("latest", &numbered(10, 15));
    let text = std::fs::read_to_string(&file).unwrap().replace("30s", "200ms");
    std::fs::write(&file, text).unwrap();
    let mut command = services.kinesink();
    command.arg("run").arg(&file);
    let process = Process::start(command, &services.path("run.log"));
    let expected: BTreeSet<Vec<u8>> = numbered(5, 15).into_iter().collect();
    eventually("what came after the start lands", || {
        let landed: BTreeSet<Vec<u8>> = lines(&folder).into_keys().collect();
        landed.is_superset(&expected).then_some(())
    });
    assert_eq!(process.terminate().0, 0);
}

#[test]
fn aggregated_records_land_one_by_one() {
    let services = Services::start();
    let records = services.path("records.ndjson");
    let lines_of: Vec<u8> = numbered(0, 3_000).iter().flat_map(|line| [line.as_slice(), b"\n"].concat()).collect();
    std::fs::write(&records, lines_of).unwrap();
    let mut put = services.kinesink();
    put.args(["put", "packed", "--aggregate", "--create", "2", "--key", "n"]).arg(&records);
    assert_eq!(put.output().unwrap().status.code(), Some(0));
    assert!(services.read_stream("packed").len() < 100, "they were not aggregated");
    let (process, folder) = start(&services, "packed", "");
    let expected: BTreeSet<Vec<u8>> = numbered(0, 3_000).into_iter().collect();
    eventually("all user records land", || {
        let landed: BTreeSet<Vec<u8>> = lines(&folder).into_keys().collect();
        (landed == expected).then_some(())
    });
    assert_eq!(process.terminate().0, 0);
    assert!(lines(&folder).values().all(|count| *count == 1));
}

#[test]
fn local_state_survives_a_kill_of_the_run_that_it_serves() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let put = |from: usize, to: usize| {
        std::fs::write(path("records"), numbered(from, to).join(&b'\n')).unwrap();
        let mut command = kinesink();
        command.arg("local").arg(path("local")).args(["--", env!("CARGO_BIN_EXE_kinesink"), "put", "kept"]);
        let put = output(command.arg(path("records")).args(["--create", "2"]));
        assert_eq!(put.status.code(), Some(0), "{}", text(&put.stderr));
    };
    std::fs::write(path("kept.toml"), pipeline_toml("kept", "kept", &path("objects"), "")).unwrap();
    let start = || {
        let mut command = kinesink();
        command.arg("run").arg(path("kept.toml")).arg("--local").arg(path("local"));
        Process::start(command, &path("log"))
    };
    put(0, 500);
    let process = start();
    eventually("what was put lands", || (lines(&path("objects")).len() == 500).then_some(()));
    process.kill();
    put(500, 1_000);
    let process = start();
    eventually("the rest lands", || (lines(&path("objects")).len() == 1_000).then_some(()));
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "{log}");
    let landed: BTreeSet<Vec<u8>> = lines(&path("objects")).into_keys().collect();
    assert_eq!(landed, numbered(0, 1_000).into_iter().collect());
}
