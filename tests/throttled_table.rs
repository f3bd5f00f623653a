//! A proxy of the lease table's service that refuses calls on demand, and the real binary behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{Process, Services, eventually, lines, numbered, pipeline_toml};
use crate::proxy::{self, Answer};
use crate::replay::{moment, record, write_file};

/// What DynamoDB answers when a table has no capacity left.
const THROTTLE: Answer = Answer {
    status: "400 Bad Request",
    kind: "application/x-amz-json-1.0",
    text: r#"{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":"slow down"}"#,
};

/// Stands before a DynamoDB for as long as the test runs.
struct Throttled {
    url: String,
    /// So many calls are still to be refused, of every operation.
    refusals: Arc<AtomicUsize>,
}

impl Throttled {
    fn start(upstream: &str) -> Self {
        let refusals = Arc::new(AtomicUsize::new(0));
        let left = Arc::clone(&refusals);
        let url = proxy::start(upstream, move |_| {
            let refuse = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
            refuse.then_some(THROTTLE)
        });
        Self { url, refusals }
    }

    /// Refuses the next calls and waits until they were made.
    fn refuse(&self, calls: usize) {
        self.refusals.store(calls, Ordering::SeqCst);
        eventually("the calls are refused", || (self.refusals.load(Ordering::SeqCst) == 0).then_some(()));
    }
}

#[test]
fn a_throttled_lease_table_delays_checkpoints_and_loses_and_doubles_nothing() {
    let services = Services::start();
    services.create_stream("table", 1);
    let table = Throttled::start(services.endpoint("DYNAMODB"));
    let (file, folder) = (services.path("table.toml"), services.path("objects"));
    // A lease that outlives the throttling, so that what is seen is a write that is tried again.
    let toml = pipeline_toml("table", "table", &folder, "").replace("failover = \"3s\"", "failover = \"30s\"");
    std::fs::write(&file, toml).unwrap();
    let mut command = services.kinesink();
    command.env("AWS_ENDPOINT_URL_DYNAMODB", &table.url).arg("run").arg(&file);

    // The first calls of a start: the table is looked for, made and read.
    table.refusals.store(4, Ordering::SeqCst);
    let process = Process::start(command, &services.path("run.log"));
    services.put("table", &numbered(0, 500));
    let all_checkpointed = |count: usize| {
        eventually("every record lands and the checkpoint is at the last", || {
            let last = services.read_stream("table").pop().unwrap().1;
            let at_last = services.checkpoints("table").values().eq([&last]);
            (lines(&folder).len() == count && at_last).then_some(())
        });
    };
    all_checkpointed(500);
    assert_eq!(table.refusals.load(Ordering::SeqCst), 0, "the start was not throttled");

    services.put("table", &numbered(500, 1_000));
    table.refuse(6);
    all_checkpointed(1_000);
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("ProvisionedThroughputExceededException"), "it says why it waits: {log}");
    assert!(lines(&folder).values().all(|count| *count == 1), "without a crash nothing is delivered twice");
    assert!(services.owners("table").is_empty(), "the lease is released");
}

/// What an earlier call had read was taken for nothing then, and the call waited for ever for shards that had ended.
#[test]
fn a_time_range_that_was_read_ends_or_says_why_not_where_its_lease_table_cannot_be_read_at_once() {
    let services = Services::start();
    services.create_stream("letters", 2);
    let file = write_file(&services, &services.path("objects"), ".");
    let records: Vec<_> = (0..100).map(record).collect();
    services.put("letters", &records);
    let table = Throttled::start(services.endpoint("DYNAMODB"));
    let (to, again) = (moment(&services), services.path("again"));
    let into = format!("file://{}", again.display());
    let replay = |refusals: usize| {
        table.refusals.store(refusals, Ordering::SeqCst);
        let mut command = services.kinesink();
        command.env("AWS_ENDPOINT_URL_DYNAMODB", &table.url).arg("replay").arg(&file);
        command.args(["--from", "2020-01-01T00:00:00Z", "--to", &to, "--into", &into]);
        let log = services.path(&format!("replay-{refusals}.log"));
        let code = Process::start(command, &log).wait().code();
        (code, std::fs::read_to_string(log).unwrap())
    };
    let (code, log) = replay(0);
    assert_eq!(code, Some(0), "{log}");
    let landed = lines(&again);
    assert!(landed == records.into_iter().map(|line| (line, 1)).collect());
    let (code, log) = replay(1);
    assert_eq!(code, Some(3), "{log}");
    assert!(log.contains("cannot read lease table letters-replay-") && log.contains("slow down"), "{log}");
    let (code, log) = replay(0);
    assert_eq!(code, Some(0), "{log}");
    assert!(lines(&again) == landed, "it had come to its end");
}
