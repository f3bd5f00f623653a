//! The command line: the one definition behind parsing, `--help`, completions and the man page.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use jiff::Timestamp;
use kinesink::StreamName;
use kinesink::local::Limit;

use crate::exit::Exit;

/// Records out of an Amazon Kinesis data stream into S3, directories and DynamoDB, each delivered, filtered or in the
/// dead letters.
#[derive(Debug, Parser)]
#[command(name = "kinesink", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = format!("Example:\n  kinesink demo\n\n{}", Exit::table()))]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// How logs are written to standard error
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or per module as in `kinesink_pipeline=debug`
    #[arg(long, global = true, default_value = "info", value_name = "FILTER")]
    pub(crate) log_level: String,
}

/// The two forms of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start local services, put 20,000 real records, run a pipeline into a directory, and verify what landed
    ///
    /// The local Kinesis keeps none of the service's limits here, so the demo takes as long as kinesink itself does.
    #[command(after_help = "Example:\n  kinesink demo --dir /tmp/demo")]
    Demo(Demo),
    /// Run a pipeline until SIGINT or SIGTERM, then drain; a second signal aborts
    #[command(
        after_help = "Examples:\n  kinesink run orders.toml\n  kinesink run orders.toml --local ./state --create"
    )]
    Run(Run),
    /// Check a pipeline file: unknown keys, wrong types, contradictions, with the line and a hint
    #[command(after_help = "Examples:\n  kinesink check orders.toml\n  kinesink check orders.toml --connect\n  \
                            kinesink check orders.toml --sample 1000")]
    Check(Check),
    /// Send dead letters again to the sinks that refused them, as the pipeline file is now
    ///
    /// Mend what refused them first. Nothing is removed, and what is sent of a window stands in an object of its own that is
    /// made once: replaying again changes nothing.
    ///
    /// With --from and --to, what arrived in the stream in that time goes through the pipeline again, into another place.
    #[command(
        after_help = "Examples:\n  kinesink replay orders.toml\n  kinesink replay orders.toml --from 2026-01-31T08:00:00Z \\\n    \
        --to 2026-01-31T09:00:00Z --into s3://my-bucket/orders-again"
    )]
    Replay(Replay),
    /// Show who reads which shard, and how far; move a checkpoint, or take leases off a worker
    ///
    /// An edit prints the rows before and after and asks. Each row is one conditional write: it fails if the lease has
    /// changed since it was shown, and a worker that holds the lease loses it instead of overwriting the edit. The
    /// command that undoes an edit is printed after it.
    #[command(
        after_help = "Examples:\n  kinesink leases orders.toml\n  kinesink leases orders --stream orders --json\n  \
                            kinesink leases orders --stream orders --move shardId-000000000000 2026-01-31T08:00:00Z\n  \
                            kinesink leases orders --release worker-7 --dry-run"
    )]
    Leases(Leases),
    /// Serve local Kinesis, DynamoDB and S3 on loopback for any AWS SDK or the aws command
    #[command(
        after_help = "Examples:\n  kinesink local ./state --env .env\n  kinesink local -- aws kinesis list-streams"
    )]
    Local(Local),
    /// Send a file of NDJSON to a stream, a line a record
    #[command(after_help = "Example:\n  kinesink put orders orders.ndjson --key customer --rate 500 --create 4")]
    Put(Put),
    /// Print the records of a stream as they arrive
    #[command(after_help = "Example:\n  kinesink tail orders --from trim-horizon --records 10")]
    Tail(Tail),
    /// Print shell completions
    #[command(after_help = "Example:\n  kinesink completions bash > /etc/bash_completion.d/kinesink")]
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the man page of kinesink, or of one of its commands
    #[command(after_help = "Examples:\n  kinesink man > /usr/local/share/man/man1/kinesink.1\n  \
                            kinesink man run > /usr/local/share/man/man1/kinesink-run.1")]
    Man {
        /// The command, such as run
        command: Option<String>,
    },
}

/// `kinesink demo`
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Where the local services' state, the pipeline file and the objects go
    #[arg(long, value_name = "DIR", default_value = "kinesink-demo")]
    pub(crate) dir: PathBuf,
    /// Only verify again what an earlier demo left in the directory
    #[arg(long)]
    pub(crate) verify: bool,
}

/// `kinesink run`
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The pipeline file
    pub(crate) file: PathBuf,
    /// Run on local services whose state is kept in this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) local: Option<PathBuf>,
    /// Create the stream and the sinks' tables if they are missing (implied by --local, which also makes the buckets)
    #[arg(long)]
    pub(crate) create: bool,
    /// What goes wrong in a commit
    #[cfg(feature = "planted-faults")]
    #[arg(long, hide = true)]
    pub(crate) fault: Option<kinesink::Fault>,
    /// Bytes of a part of an object; what is larger is sent in parts
    #[cfg(feature = "planted-faults")]
    #[arg(long, hide = true)]
    pub(crate) part_bytes: Option<usize>,
}

/// `kinesink replay`
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// The pipeline file. Without --from, its [dead_letter] is read
    pub(crate) file: PathBuf,
    /// Replay what arrived in the stream at this time or later (RFC 3339), instead of dead letters
    #[arg(long, value_name = "TIME", requires = "to", requires = "place")]
    pub(crate) from: Option<Timestamp>,
    /// Replay what arrived before this time, which has to have come
    #[arg(long, value_name = "TIME", requires = "from")]
    pub(crate) to: Option<Timestamp>,
    /// Write the objects of the range below this URL: each record once, whatever is killed, if the same command ends it
    #[arg(long, value_name = "URL", group = "place", requires = "from")]
    pub(crate) into: Option<String>,
    /// Write the objects of the range where the file says, under other names: each record is there once more
    #[arg(long, group = "place", requires = "from")]
    pub(crate) force: bool,
}

/// `kinesink check`
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The pipeline file
    pub(crate) file: PathBuf,
    /// Read so many records of the stream, transformed and filtered as the file says, and print the columns that they propose
    /// for a sink of Parquet files. Takes no lease and changes nothing
    #[arg(long, value_name = "RECORDS", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) sample: Option<u64>,
    /// Create the tables of DynamoDB sinks that are missing, paid by the request, and print the command that makes each bucket
    #[arg(long, conflicts_with = "sample")]
    pub(crate) create: bool,
    /// Ask the stream, the sinks and the dead letters too whether they are there and may be used, as a start does. Records and
    /// items stay as they are; a bucket or directory gets an empty object, which goes again
    #[arg(long, conflicts_with = "sample")]
    pub(crate) connect: bool,
}

/// `kinesink leases`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("edit").multiple(false))]
pub(crate) struct Leases {
    /// The application: `app` in its pipeline file, the application name of a Java KCL; or the pipeline file itself
    /// (FILE.toml), which names table, stream and region too
    pub(crate) app: String,
    /// The lease table, where it is not named as the application
    #[arg(long, value_name = "TABLE")]
    pub(crate) table: Option<String>,
    /// The stream that the leases are of: lags come from it, since the table does not know them. Without it, and
    /// without a pipeline file, a lag is "unknown"
    #[arg(long, value_name = "STREAM")]
    pub(crate) stream: Option<String>,
    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Make a shard resume elsewhere: after the record at SEQUENCE-NUMBER[:SUB-SEQUENCE], at trim-horizon, at latest,
    /// or at a time (RFC 3339). Says how many minutes would be skipped or delivered again. Takes the lease off its owner
    #[arg(long = "move", group = "edit", action = ArgAction::Set, num_args = 2, value_names = ["SHARD", "POSITION"])]
    pub(crate) move_to: Option<Vec<String>>,
    /// Take these leases off WORKER, or without a SHARD all that it has: others need not wait until they expire
    #[arg(long, group = "edit", action = ArgAction::Set, num_args = 1.., value_names = ["WORKER", "SHARD"])]
    pub(crate) release: Option<Vec<String>>,
    /// Make WORKER the owner of shards that nobody owns: undoes --release. A worker that is not waiting for the lease
    /// lets it expire
    #[arg(long, group = "edit", action = ArgAction::Set, num_args = 2.., value_names = ["WORKER", "SHARD"])]
    pub(crate) assign: Option<Vec<String>>,
    /// Have the window that SHARD's lease announces finished as far as it can be made now: objects that exist stay as they
    /// are, whoever wrote them; records that belong there and are in none of them are lost, as are those that have left the
    /// stream; and what has another name now may be there twice
    #[arg(long, group = "edit", value_name = "SHARD")]
    pub(crate) finish_plan: Option<String>,
    /// Give up the window that SHARD's lease announces: it is read again from the checkpoint and cut as the file says
    /// now. What of it is in the sinks already may then be there twice
    #[arg(long, group = "edit", value_name = "SHARD")]
    pub(crate) drop_plan: Option<String>,
    /// Show what would be written, and write nothing
    #[arg(long, requires = "edit")]
    pub(crate) dry_run: bool,
    /// Write without asking
    #[arg(long, requires = "edit", conflicts_with = "dry_run")]
    pub(crate) yes: bool,
}

/// `kinesink local`
#[derive(Debug, Args)]
pub(crate) struct Local {
    /// Keep the state in this directory; without one it lives in memory
    #[arg(value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Port of the local Kinesis; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub(crate) kinesis_port: u16,
    /// Port of the local DynamoDB; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub(crate) dynamodb_port: u16,
    /// Port of the local S3; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub(crate) s3_port: u16,
    /// Keep none of the service's limits, so that nothing is throttled
    #[arg(long)]
    pub(crate) no_limits: bool,
    /// Do not keep this limit of the service, e.g. write-bytes; may be given more than once
    #[arg(long, value_name = "LIMIT")]
    pub(crate) no_limit: Vec<Limit>,
    /// How long a stream is being created, updated or deleted, as in 500ms or 2s
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = time)]
    pub(crate) transitions: Duration,
    /// Serve Kinesis and S3 in TLS, with a certificate made for them that AWS_CA_BUNDLE makes clients trust
    #[arg(long)]
    pub(crate) tls: bool,
    /// Write the shell lines to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) env: Option<PathBuf>,
    /// Run this command against the services and exit with its code
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<std::ffi::OsString>,
}

fn time(text: &str) -> Result<Duration, String> {
    let time = text.parse::<jiff::SignedDuration>().map_err(|error| error.to_string())?;
    Duration::try_from(time).map_err(|_| "a time is not negative".to_owned())
}

/// What no stream can be called is not asked for.
fn stream(text: &str) -> Result<String, String> {
    text.parse::<StreamName>().map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

/// `kinesink put`
#[derive(Debug, Args)]
pub(crate) struct Put {
    /// The stream
    #[arg(value_parser = stream)]
    pub(crate) stream: String,
    /// NDJSON, a line a record, empty lines aside; - reads standard input
    pub(crate) file: PathBuf,
    /// The field whose value is the partition key; without it keys are spread evenly
    #[arg(long, value_name = "FIELD")]
    pub(crate) key: Option<String>,
    /// At most this many records a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,
    /// Pack many lines into one Kinesis record, in the KPL's format
    #[arg(long)]
    pub(crate) aggregate: bool,
    /// Create the stream with this many shards if it is missing
    #[arg(long, value_name = "SHARDS", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) create: Option<u16>,
}

/// `kinesink tail`
#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// The stream
    #[arg(value_parser = stream)]
    pub(crate) stream: String,
    /// Where to start
    #[arg(long, value_enum, default_value_t = From::Latest)]
    pub(crate) from: From,
    /// Stop after this many records
    #[arg(long, value_name = "N")]
    pub(crate) records: Option<u64>,
}

/// Where `tail` starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum From {
    /// Only what arrives from now on
    Latest,
    /// The oldest record that the stream still has
    TrimHorizon,
}
