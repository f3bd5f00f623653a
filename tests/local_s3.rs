//! A pipeline whose sink is a bucket, on the local services.

use crate::harness::{Process, Services, eventually, kinesink, lines, numbered, pipeline_toml};

#[test]
fn a_pipeline_to_a_bucket_runs_on_the_local_s3_which_makes_the_bucket() {
    let directory = tempfile::tempdir().unwrap();
    let records = numbered(0, 500);
    let (services, process) = Services::start_in(directory.path());
    services.create_stream("orders", 2);
    services.put("orders", &records);
    process.kill();

    let file = directory.path().join("orders.toml");
    let pipeline = pipeline_toml("orders-to-s3", "orders", "/".as_ref(), "");
    std::fs::write(&file, pipeline.replace("file:///", "s3://orders-bucket/events")).unwrap();
    let mut run = kinesink();
    run.arg("run").arg(&file).arg("--local").arg(directory.path().join("local"));
    let running = Process::start(run, &directory.path().join("run.log"));
    let bucket = directory.path().join("local/s3/orders-bucket/events");
    let landed = eventually("all records are in the bucket", || {
        let landed = lines(&bucket);
        (landed.len() == records.len()).then_some(landed)
    });
    assert!(landed.values().all(|times| *times == 1), "each once");
    assert!(records.iter().all(|record| landed.contains_key(record)));
    let (code, log) = running.terminate();
    assert_eq!(code, 0, "{log}");
}
