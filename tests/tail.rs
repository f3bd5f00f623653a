//! `tail`: follows a stream, through resharding and expired iterators.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use crate::harness::{Services, eventually, http, numbered, pause, text};

/// A `tail` whose standard output is a file.
struct Tail {
    child: Child,
    printed: PathBuf,
}

impl Tail {
    fn start(services: &Services, stream: &str, more: &[&str]) -> Self {
        let printed = services.path("printed");
        let mut command = services.kinesink();
        command.args(["tail", stream]).args(more).stdout(File::create(&printed).unwrap());
        Self { child: command.spawn().unwrap(), printed }
    }

    /// The lines so far, in order.
    fn lines(&self) -> Vec<Vec<u8>> {
        let text = std::fs::read(&self.printed).unwrap();
        let whole = text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
        whole.map(|line| line.trim_ascii_end().to_vec()).collect()
    }

    fn wait_for(&self, records: usize) {
        eventually("tail prints what was put", || (self.lines().len() >= records).then_some(()));
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Every iterator is older than the service lets it become.
fn expire_iterators(services: &Services) {
    let reply = http(services.endpoint("KINESIS"), "POST", "/_kinesink/clock", r#"{"jump_ms":400000}"#);
    assert!(reply.starts_with("HTTP/1.1 2"), "{reply}");
}

fn sorted(mut lines: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    lines.sort();
    lines
}

#[test]
fn an_expired_iterator_is_asked_for_again_where_it_stood() {
    let services = Services::start();
    services.create_stream("expired", 2);
    services.put("expired", &numbered(0, 300));
    let mut tail = Tail::start(&services, "expired", &["--from", "trim-horizon", "--records", "900"]);
    for round in 1..=2 {
        tail.wait_for(300 * round);
        expire_iterators(&services);
        services.put("expired", &numbered(300 * round, 300 * (round + 1)));
    }
    let status = eventually("tail ends after the last of them", || tail.child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    assert_eq!(sorted(tail.lines()), sorted(numbered(0, 900)), "each once");
}

#[test]
fn tail_begins_at_the_newest_record_and_follows_a_shard_to_its_children() {
    let services = Services::start();
    services.create_stream("newest", 1);
    services.put("newest", &numbered(0, 10));
    let tail = Tail::start(&services, "newest", &[]);
    // It says nothing once it is ready, so records are put until it prints one.
    let mut put = 10;
    eventually("tail prints what arrives", || {
        services.put("newest", &numbered(put, put + 1));
        put += 1;
        pause(std::time::Duration::from_millis(200));
        (!tail.lines().is_empty()).then_some(())
    });
    let first = tail.lines()[0].clone();
    let begun = numbered(0, put).iter().position(|line| *line == first).unwrap();
    assert!(begun >= 10, "it printed what was there before it began");

    let middle = "170141183460469231731687303715884105728";
    let split = services.kinesis.split_shard().stream_name("newest").shard_to_split("shardId-000000000000");
    services.block_on(split.new_starting_hash_key(middle).send()).unwrap();
    eventually("the children take records", || {
        let request = services.kinesis.describe_stream_summary().stream_name("newest").send();
        let reply = services.block_on(request).unwrap();
        (reply.stream_description_summary().unwrap().stream_status().as_str() == "ACTIVE").then_some(())
    });
    services.put("newest", &numbered(put, put + 100));
    tail.wait_for(put + 100 - begun);
    assert_eq!(sorted(tail.lines()), sorted(numbered(begun, put + 100)), "each once, of parent and children");
}

#[test]
fn an_iterator_after_the_newest_record_that_expires_misses_nothing() {
    let services = Services::start();
    services.create_stream("quiet", 1);
    services.fault(r#"[{"operation":"GetRecords","times":1,"kind":"expire"}]"#);
    let mut tail = Tail::start(&services, "quiet", &["--records", "1"]);
    eventually("its first iterator has expired", || {
        (!http(services.endpoint("KINESIS"), "GET", "/_kinesink/faults", "").contains("GetRecords")).then_some(())
    });
    services.put("quiet", &numbered(0, 1));
    let status = eventually("tail prints it", || tail.child.try_wait().unwrap());
    assert_eq!((status.code(), tail.lines()), (Some(0), numbered(0, 1)));
}

#[test]
fn a_missing_stream_is_named() {
    let services = Services::start();
    let tail = services.kinesink().args(["tail", "nowhere"]).stdout(Stdio::null()).output().unwrap();
    assert_eq!(tail.status.code(), Some(3));
    assert!(text(&tail.stderr).contains("stream nowhere"), "{}", text(&tail.stderr));
}

#[test]
fn tail_ends_when_its_reader_has_gone_though_nothing_arrives() {
    let services = Services::start();
    services.create_stream("left", 1);
    let mut tail = services.kinesink().args(["tail", "left"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(tail.stdout.take());
    let status = eventually("tail ends", || tail.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}
