//! The shards of a stream, as the service lists them.

use std::time::Duration;

use jiff::Timestamp;
use kinesink_aws::kinesis::Client;
use kinesink_aws::kinesis::operation::list_shards::ListShardsError;
use kinesink_aws::kinesis::types::{Shard as ListedShard, ShardFilter, ShardFilterType};
use kinesink_aws::{HttpResponse, SdkError, code, failure, is_throttle};
use kinesink_core::{Failure, SequenceNumber, ShardId, StreamName};
use tokio::time::sleep;
use tracing::debug;

use crate::Start;
use crate::lease::HashRange;

/// A shard as ListShards says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShardInfo {
    pub(crate) id: ShardId,
    pub(crate) parents: Vec<ShardId>,
    pub(crate) hash_range: HashRange,
    pub(crate) first: SequenceNumber,
    pub(crate) open: bool,
}

/// How patiently shards are listed: the service takes so many listings a second of the whole account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listing {
    /// KCL's `maxListShardsRetryAttempts`.
    pub(crate) attempts_max: u32,
    /// KCL's `listShardsBackoffTimeInMillis`.
    pub(crate) pause: Duration,
}

impl Listing {
    /// For whom comes again anyway.
    pub(crate) const ONCE: Self = Self { attempts_max: 1, pause: Duration::ZERO };

    /// Waits where the service has no room, after so many attempts.
    ///
    /// # Errors
    /// What cannot be tried again, or was tried often enough.
    async fn wait(
        self,
        stream: &StreamName,
        attempts: u32,
        error: &SdkError<ListShardsError, HttpResponse>,
    ) -> Result<(), Failure> {
        if !is_throttle(error) || attempts >= self.attempts_max {
            return Err(failure("list the shards of", &format!("stream {stream}"), error));
        }
        debug!(%stream, attempts, "shards not listed, the service has no room; trying again");
        sleep(self.pause).await;
        Ok(())
    }
}

/// Asks for one shard, to know whether the stream is there and may be listed.
///
/// # Errors
/// It cannot be listed.
pub(crate) async fn find(client: &Client, stream: &StreamName, listing: Listing) -> Result<(), Failure> {
    let mut attempts = 0;
    loop {
        match client.list_shards().stream_name(stream.as_str()).max_results(1).send().await {
            Ok(_) => return Ok(()),
            Err(error) => {
                attempts += 1;
                listing.wait(stream, attempts, &error).await?;
            }
        }
    }
}

/// The shards that were open at `time`, or are open now if it has not come.
///
/// # Errors
/// The stream cannot be listed.
pub async fn shards_open_at(client: &Client, stream: &StreamName, time: Timestamp) -> Result<Vec<ShardId>, Failure> {
    let patience = Listing { attempts_max: 10, pause: Duration::from_secs(1) };
    let shards = list(client, stream, Some(&Start::AtTimestamp(time)), patience).await?;
    Ok(shards.into_iter().map(|shard| shard.id).collect())
}

/// The shards of a stream. With `filter`, only those that a new application must read from `start`.
pub(crate) async fn list(
    client: &Client,
    stream: &StreamName,
    filter: Option<&Start>,
    listing: Listing,
) -> Result<Vec<ShardInfo>, Failure> {
    let what = format!("stream {stream}");
    let mut shards = Vec::new();
    let mut next_token: Option<String> = None;
    let mut attempts = 0;
    loop {
        let request = client.list_shards();
        let request = match &next_token {
            Some(token) => request.next_token(token),
            None => request.stream_name(stream.as_str()).set_shard_filter(filter.and_then(shard_filter)),
        };
        match request.send().await {
            Ok(reply) => {
                for shard in reply.shards() {
                    shards.push(info(shard).map_err(|error| Failure::fatal(format!("cannot read {what}: {error}")))?);
                }
                next_token = reply.next_token;
                if next_token.is_none() {
                    return Ok(shards);
                }
            }
            // A listing that took too long starts again.
            Err(error) if code(&error) == Some("ExpiredNextTokenException") => {
                next_token = None;
                shards.clear();
            }
            Err(error) => {
                attempts += 1;
                listing.wait(stream, attempts, &error).await?;
            }
        }
    }
}

fn shard_filter(start: &Start) -> Option<ShardFilter> {
    let filter = match start {
        Start::Latest => ShardFilter::builder().r#type(ShardFilterType::AtLatest),
        Start::TrimHorizon => ShardFilter::builder().r#type(ShardFilterType::AtTrimHorizon),
        Start::AtTimestamp(time) => ShardFilter::builder()
            .r#type(ShardFilterType::AtTimestamp)
            .timestamp(kinesink_aws::kinesis::primitives::DateTime::from_millis(time.as_millisecond())),
    };
    filter.build().ok()
}

fn info(shard: &ListedShard) -> Result<ShardInfo, kinesink_core::Error> {
    let parents = [shard.parent_shard_id(), shard.adjacent_parent_shard_id()];
    let parents: Result<_, _> = parents.into_iter().flatten().map(str::parse).collect();
    let range = shard.hash_key_range();
    let hash_key = |text: Option<&str>| text.and_then(|text| text.parse().ok()).unwrap_or_default();
    let sequence = shard.sequence_number_range();
    Ok(ShardInfo {
        id: shard.shard_id().parse()?,
        parents: parents?,
        hash_range: HashRange {
            first: hash_key(range.map(|range| range.starting_hash_key())),
            last: hash_key(range.map(|range| range.ending_hash_key())),
        },
        first: sequence.map_or(Ok(SequenceNumber::ZERO), |range| range.starting_sequence_number().parse())?,
        open: sequence.is_none_or(|range| range.ending_sequence_number().is_none()),
    })
}
