//! The shards of a stream, all pages of them.

use kinesink::aws::failure;
use kinesink::aws::kinesis::Client;
use kinesink::aws::kinesis::types::Shard;

use crate::exit::{Exit, Problem};

/// Every shard that the stream still has.
pub(crate) async fn list(client: &Client, stream: &str) -> Result<Vec<Shard>, Problem> {
    let mut shards = Vec::new();
    let mut next_token: Option<String> = None;
    loop {
        let request = client.list_shards();
        let request = match next_token.take() {
            Some(token) => request.next_token(token),
            None => request.stream_name(stream),
        };
        let reply = request.send().await.map_err(|error| {
            Problem::new(Exit::Start, failure("list the shards of", &format!("stream {stream}"), &error))
        })?;
        shards.extend(reply.shards.unwrap_or_default());
        next_token = reply.next_token;
        if next_token.is_none() {
            return Ok(shards);
        }
    }
}

/// Whether records can still be put into it.
pub(crate) fn is_open(shard: &Shard) -> bool {
    shard.sequence_number_range().is_none_or(|range| range.ending_sequence_number().is_none())
}
