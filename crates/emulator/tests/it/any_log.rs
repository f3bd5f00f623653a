//! What holds of any file that is found in the place of a log. The fuzz target of the same name is this file, too.

use std::path::Path;
use std::sync::Arc;

use kinesink_emulator::{Emulator, Error, Limits, ManualClock};

use crate::any_request::{Encoding, send};

const FILE: &str = "kinesis.log";
/// What is asked of so many streams and shards, however many there are.
const ASKED_MAX: usize = 10;

/// A first byte of 0 is followed by a file. Any other is a format, and what follows are its entries, a line each: an
/// event, and behind a tab its records' bytes. Their heads are made here, as no input would hit on a checksum.
pub(crate) fn check(input: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match input {
        [] => {}
        [0, file @ ..] => runtime.block_on(is_read_or_refused(file)),
        [format, entries @ ..] => runtime.block_on(is_read_or_refused(&log(*format, entries))),
    }
}

fn log(format: u8, entries: &[u8]) -> Vec<u8> {
    // 1 and the digit 1 are the same format.
    let format = format % 16;
    let mut file = b"kinesink-kinesis".to_vec();
    file.extend([format, 0, 5]);
    file.extend(b"0.1.0");
    for entry in entries.split(|byte| *byte == b'\n').filter(|entry| !entry.is_empty()) {
        let tab = entry.iter().position(|byte| *byte == b'\t').unwrap_or(entry.len());
        let (event, json) = (&entry[..tab], entry.get(tab + 1..).unwrap_or_default());
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap().to_le_bytes();
        let mut head = [length(event), length(json), crc32fast::hash(&[event, json].concat()).to_le_bytes()].concat();
        if format != 1 {
            head.extend(crc32fast::hash(&head).to_le_bytes());
        }
        file.extend([&head, event, json].concat());
    }
    file
}

/// It opens, answers, and opens with the same answers another time; or it is refused for a reason and left as it is.
async fn is_read_or_refused(file: &[u8]) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE);
    std::fs::write(&path, file).unwrap();
    let first = match open(directory.path()) {
        Ok(emulator) => answers(&emulator).await,
        Err(error) => {
            let is_refused =
                matches!(error, Error::Damaged { .. } | Error::DamagedEntry { .. } | Error::NewerFormat { .. });
            assert!(is_refused, "{error}: {error:?}");
            assert_eq!(std::fs::read(&path).unwrap(), file, "a file that is refused is left as it is");
            return;
        }
    };
    let again = open(directory.path()).unwrap();
    assert_eq!(answers(&again).await, first);
}

fn open(directory: &Path) -> Result<Emulator, Error> {
    let clock = Arc::new(ManualClock::new("2026-03-01T12:00:00Z".parse().unwrap()));
    Emulator::builder().clock(clock).limits(Limits::none()).directory(directory).build()
}

/// What it says about its streams. It may refuse, but it has no error of its own.
async fn answers(emulator: &Emulator) -> Vec<String> {
    let mut answers = Vec::new();
    let mut ask = async |operation: &str, request: serde_json::Value| {
        let (status, reply) = send(emulator, operation, Encoding::Json, request.to_string().into()).await;
        assert!(status == 200 || status == 400, "{operation} of {request}: {status}");
        answers.push(format!("{operation} {status} {}", String::from_utf8_lossy(&reply)));
        serde_json::from_slice::<serde_json::Value>(&reply).unwrap_or_default()
    };
    let streams = ask("ListStreams", serde_json::json!({"Limit": ASKED_MAX})).await;
    for stream in streams["StreamNames"].as_array().into_iter().flatten() {
        let named = serde_json::json!({"StreamName": stream});
        for operation in ["DescribeStream", "DescribeStreamSummary", "ListTagsForStream"] {
            ask(operation, named.clone()).await;
        }
        let list = serde_json::json!({"StreamName": stream, "MaxResults": ASKED_MAX});
        let shards = ask("ListShards", list).await;
        for shard in shards["Shards"].as_array().into_iter().flatten() {
            let start = serde_json::json!({
                "StreamName": stream, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON",
            });
            let iterator = ask("GetShardIterator", start).await;
            ask("GetRecords", iterator).await;
        }
    }
    answers
}
