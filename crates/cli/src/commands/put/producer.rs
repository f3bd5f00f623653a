//! Records into PutRecords calls.

use std::time::Duration;

use bytes::Bytes;
use kinesink::aws::failure;
use kinesink::aws::kinesis::Client;
use kinesink::aws::kinesis::primitives::Blob;
use kinesink::aws::kinesis::types::PutRecordsRequestEntry;
use kinesink::{Backoff, Class, Failure};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::aggregators::Aggregators;
use crate::exit::{Exit, Problem};

/// The service's limits for one PutRecords call.
const RECORDS_PER_CALL_MAX: usize = 500;
const BYTES_PER_CALL_MAX: usize = 5 * 1024 * 1024;
/// A record that is refused this often in a row ends the command.
const ATTEMPTS_MAX: u32 = 20;

/// Collects records into PutRecords calls and sends again what the service refuses.
pub(crate) struct Producer<'a> {
    client: &'a Client,
    stream: &'a str,
    /// Once it is given, what fails is not sent again.
    drain: &'a CancellationToken,
    aggregators: Option<Aggregators>,
    entries: Vec<PutRecordsRequestEntry>,
    bytes: usize,
    pace: Option<(Instant, u32)>,
    lines: u64,
    records: u64,
}

impl<'a> Producer<'a> {
    pub(crate) fn new(
        client: &'a Client,
        stream: &'a str,
        rate: Option<u32>,
        aggregators: Option<Aggregators>,
        drain: &'a CancellationToken,
    ) -> Self {
        let pace = rate.map(|rate| (Instant::now(), rate));
        Self { client, stream, drain, aggregators, entries: Vec::new(), bytes: 0, pace, lines: 0, records: 0 }
    }

    /// Lines added, and Kinesis records that the service has taken.
    pub(crate) fn sent(&self) -> (u64, u64) {
        (self.lines, self.records)
    }

    pub(crate) async fn add(&mut self, key: String, data: Bytes) -> Result<(), Problem> {
        if let Some((start, rate)) = self.pace {
            let due = start + Duration::from_secs_f64(self.lines as f64 / f64::from(rate));
            if due > Instant::now() {
                // What is due is sent before the wait, so that a slow rate is a steady one.
                self.flush().await?;
                tokio::time::sleep_until(due).await;
            }
        }
        self.lines += 1;
        let Some(aggregators) = &mut self.aggregators else { return self.entry(key, data).await };
        for (key, data) in aggregators.push(&key, &data)? {
            self.entry(key, data).await?;
        }
        Ok(())
    }

    /// Sends what was added. More may be added after it.
    pub(crate) async fn finish(&mut self) -> Result<(), Problem> {
        let rest = self.aggregators.as_mut().map(Aggregators::finish).unwrap_or_default();
        for (key, data) in rest {
            self.entry(key, data).await?;
        }
        self.flush().await
    }

    async fn entry(&mut self, key: String, data: Bytes) -> Result<(), Problem> {
        let bytes = key.len() + data.len();
        if self.entries.len() == RECORDS_PER_CALL_MAX || self.bytes + bytes > BYTES_PER_CALL_MAX {
            self.flush().await?;
        }
        let entry = PutRecordsRequestEntry::builder().partition_key(key).data(Blob::new(data)).build();
        let entry = entry.map_err(|error| Problem::new(Exit::Failed, format!("cannot build a record: {error}")))?;
        self.entries.push(entry);
        self.bytes += bytes;
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Problem> {
        let mut left = std::mem::take(&mut self.entries);
        self.bytes = 0;
        let seed = u64::from(std::process::id());
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5), seed);
        while !left.is_empty() {
            let failure = match self.put(&left).await {
                Ok(refused) if refused.is_empty() => return Ok(()),
                Ok(refused) => {
                    left = refused;
                    Failure::transient(format!("{} records refused by stream {}: throttled", left.len(), self.stream))
                }
                Err(failure) => failure,
            };
            if failure.class != Class::Transient || backoff.attempts() == ATTEMPTS_MAX {
                // Nothing was taken yet: the stream or a permission was missing from the start.
                let at_start = self.records == 0 && failure.class == Class::Configuration;
                return Err(Problem::new(if at_start { Exit::Start } else { Exit::Failed }, failure));
            }
            tracing::warn!(%failure, "trying again");
            let wait = tokio::time::sleep(backoff.next_wait(failure.retry_after));
            if self.drain.run_until_cancelled(wait).await.is_none() {
                return Err(Problem::new(Exit::Aborted, failure));
            }
        }
        Ok(())
    }

    /// One call; the records that the service refused, in order.
    async fn put(&mut self, entries: &[PutRecordsRequestEntry]) -> Result<Vec<PutRecordsRequestEntry>, Failure> {
        let request = self.client.put_records().stream_name(self.stream).set_records(Some(entries.to_vec()));
        let reply = request
            .send()
            .await
            .map_err(|error| failure("put records into", &format!("stream {}", self.stream), &error))?;
        let refused = entries.iter().zip(&reply.records).filter(|(_, result)| result.error_code().is_some());
        let refused: Vec<_> = refused.map(|(entry, _)| entry.clone()).collect();
        self.records += (entries.len() - refused.len()) as u64;
        Ok(refused)
    }
}
