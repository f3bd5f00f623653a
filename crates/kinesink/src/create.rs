//! Making a stream that is missing.

use std::time::Duration;

use kinesink_aws::kinesis::Client;
use kinesink_aws::kinesis::types::StreamStatus;
use kinesink_aws::{code, failure};
use kinesink_core::Failure;
use tokio::time::{sleep, timeout};

use crate::Error;
use crate::retry::retried;

/// The service takes ten requests a second and account that ask for this.
const ACTIVE_POLL: Duration = Duration::from_secs(1);
const ACTIVE_WITHIN: Duration = Duration::from_secs(300);

/// Creates the stream if it is missing, and waits until it can be used. Dropped, it may or may not have created it.
///
/// # Errors
/// [`Error::Start`] names the stream and what to do.
pub async fn create_stream(client: &Client, stream: &str, shards: u16) -> Result<(), Error> {
    retried(|| create(client, stream, shards)).await?;
    let active = async {
        while !retried(|| is_active(client, stream)).await? {
            sleep(ACTIVE_POLL).await;
        }
        Ok(())
    };
    timeout(ACTIVE_WITHIN, active).await.unwrap_or_else(|_| {
        Err(Error::Start(format!("stream {stream} did not become active; look at it with describe-stream-summary")))
    })
}

async fn create(client: &Client, stream: &str, shards: u16) -> Result<(), Failure> {
    match client.create_stream().stream_name(stream).shard_count(i32::from(shards)).send().await {
        Ok(_) => {
            tracing::info!(stream, shards, "stream created");
            Ok(())
        }
        // It is there already.
        Err(error) if code(&error) == Some("ResourceInUseException") => Ok(()),
        Err(error) => Err(failure("create", &format!("stream {stream}"), &error)),
    }
}

async fn is_active(client: &Client, stream: &str) -> Result<bool, Failure> {
    let reply = client.describe_stream_summary().stream_name(stream).send().await;
    let reply = reply.map_err(|error| failure("describe", &format!("stream {stream}"), &error))?;
    let status = reply.stream_description_summary().map(|summary| summary.stream_status());
    Ok(matches!(status, Some(StreamStatus::Active | StreamStatus::Updating)))
}
