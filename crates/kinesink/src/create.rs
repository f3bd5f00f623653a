//! Making a stream that is missing.

use std::time::Duration;

use kinesink_aws::kinesis::Client;
use kinesink_aws::kinesis::types::StreamStatus;
use kinesink_aws::{code, failure};
use tokio::time::sleep;

use crate::Error;

const ACTIVE_POLL: Duration = Duration::from_millis(100);
const ACTIVE_POLLS_MAX: u32 = 3_000;

/// Creates the stream if it is missing, and waits until it can be used.
///
/// # Errors
/// [`Error::Start`] names the stream and what to do.
pub async fn create_stream(client: &Client, stream: &str, shards: u16) -> Result<(), Error> {
    let what = format!("stream {stream}");
    match client.create_stream().stream_name(stream).shard_count(i32::from(shards)).send().await {
        Ok(_) => tracing::info!(stream, shards, "stream created"),
        // It is there already.
        Err(error) if code(&error) == Some("ResourceInUseException") => {}
        Err(error) => return Err(Error::Start(failure("create", &what, &error).message)),
    }
    for _ in 0..ACTIVE_POLLS_MAX {
        let reply = client.describe_stream_summary().stream_name(stream).send().await;
        let reply = reply.map_err(|error| Error::Start(failure("describe", &what, &error).message))?;
        let status = reply.stream_description_summary().map(|summary| summary.stream_status());
        if matches!(status, Some(StreamStatus::Active | StreamStatus::Updating)) {
            return Ok(());
        }
        sleep(ACTIVE_POLL).await;
    }
    Err(Error::Start(format!("{what} did not become active; look at it with describe-stream-summary")))
}
