//! The records that benchmarks read.

use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;

use crate::harness::{Services, client};

pub(crate) const STREAM: &str = "bench";

/// So much of a PutRecords leaves room for its keys under the service's 5 MiB.
const CALL_BYTES: usize = 4_000_000;
const CALL_RECORDS: usize = 500;

impl Services {
    /// Fills the stream: partition key and data of each record by its number, all of one size.
    pub(crate) async fn fill(&self, shards: i32, records: usize, of: &impl Fn(usize) -> (String, String)) {
        let (key, first) = of(0);
        self.create_stream(STREAM, shards, (&key, &first)).await;
        let client = client(&self.kinesis);
        let per_call = (CALL_BYTES / first.len()).min(CALL_RECORDS);
        // The first record made the stream known.
        for start in (1..records).step_by(per_call) {
            let entries = (start..records.min(start + per_call)).map(of).map(|(key, data)| {
                PutRecordsRequestEntry::builder().data(Blob::new(data)).partition_key(key).build().unwrap()
            });
            let put = client.put_records().stream_name(STREAM).set_records(Some(entries.collect()));
            assert_eq!(put.send().await.unwrap().failed_record_count(), Some(0));
        }
    }
}

/// An object of these fields, filled up to its size with text that compresses about as logs do.
pub(crate) fn record(fields: &str, number: usize, bytes: usize) -> String {
    let mut data = format!("{{{fields},\"pad\":\"");
    while data.len() + 2 < bytes {
        data.push_str(&format!("{:x} ", (number * 2_654_435_761 + data.len() * 40_503) % 0xffff));
    }
    data.truncate(bytes - 2);
    data.push_str("\"}");
    data
}
