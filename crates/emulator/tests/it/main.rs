//! The emulator seen by a stock SDK client, in process and over a socket, and by clients that make mistakes.
#![expect(clippy::unwrap_used, reason = "helpers of tests may stop the test")]

/// What holds of any file in the place of a log.
mod any_log;
/// What holds of the answer to any request.
mod any_request;
/// The same calls in CBOR.
mod cbor;
/// Starting an emulator and talking to it.
mod client;
/// Registered consumers.
mod consumers;
/// Calls that ask whether they would succeed.
mod dry_run;
/// Faults, by value and over HTTP.
mod faults;
/// Logs of every format there was.
mod formats;
/// HTTP/2, TLS, and the end of connections.
mod http;
/// The service's limits, on and off.
mod limits;
/// Split, merge, and what a reader sees of it.
mod lineage;
/// Requests that are wrong, on purpose and at random.
mod malformed;
/// State that survives the process.
mod persistence;
/// The life of records: put, read, limits.
mod records;
/// Streams that are deleted and made again.
mod recreation;
/// Scaling, modes, distribution and tags of a stream.
mod resharding;
/// The local S3.
mod s3;
/// Many streams and shards, and times in which nothing happens.
mod scale;
/// Subscriptions: pushed records, their ends and take-overs.
mod subscribe;
/// What changes only because time passes.
mod time;
/// Streams that are being created, updated and deleted.
mod transitions;
