//! Services that go wrong under the real binary: nothing is lost, and it says what it does.

use std::collections::BTreeSet;
use std::path::Path;

use crate::harness::{Process, Services, eventually, lines, numbered, pipeline_toml};

fn start(services: &Services, name: &str, folder: &Path) -> Process {
    let file = services.path(&format!("{name}.toml"));
    std::fs::write(&file, pipeline_toml(name, name, folder, "")).unwrap();
    let mut command = services.kinesink();
    // What usually happens once an hour is no news.
    command.args(["--log-level", "info,kinesink_consumer=debug", "run"]).arg(&file);
    Process::start(command, &services.path("run.log"))
}

fn all_land(folder: &Path, records: usize) {
    let expected: BTreeSet<Vec<u8>> = numbered(0, records).into_iter().collect();
    eventually("every record lands", || {
        let landed: BTreeSet<Vec<u8>> = lines(folder).into_keys().collect();
        (landed == expected).then_some(())
    });
}

#[test]
fn throttles_expired_iterators_and_cut_connections_lose_nothing() {
    let services = Services::start();
    services.create_stream("faults", 2);
    let folder = services.path("objects");
    let process = start(&services, "faults", &folder);
    services.put("faults", &numbered(0, 500));
    all_land(&folder, 500);
    let mut put = 500;
    let fetched_again = || process.log().matches("fetching again").count();
    for fault in [
        r#"[{"operation":"GetRecords","times":5,"kind":{"error":{"code":"ProvisionedThroughputExceededException"}}}]"#,
        r#"[{"operation":"GetRecords","times":2,"kind":{"error":{"code":"ExpiredIteratorException"}}}]"#,
        r#"[{"operation":"GetRecords","times":3,"kind":{"error":{"code":"InternalFailure"}}}]"#,
        r#"[{"operation":"GetRecords","times":3,"kind":"cut"}]"#,
        r#"[{"operation":"GetRecords","times":3,"kind":"truncate"}]"#,
        r#"[{"operation":"GetRecords","times":1,"kind":{"error":{"code":"ExpiredIteratorException"}}},
            {"operation":"GetShardIterator","times":2,"kind":{"error":{"code":"ProvisionedThroughputExceededException"}}}]"#,
    ] {
        let before = fetched_again();
        services.fault(fault);
        services.put("faults", &numbered(put, put + 500));
        put += 500;
        all_land(&folder, put);
        eventually("it says that it fetches again", || (fetched_again() > before).then_some(()));
    }
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "{log}");
    for said in ["ProvisionedThroughputExceededException", "ExpiredIteratorException", "InternalFailure"] {
        assert!(log.contains(&format!("of stream faults: {said}")), "{said}: {log}");
    }
    assert!(lines(&folder).values().all(|count| *count == 1), "without a crash nothing is delivered twice");
}
