//! `kinesink leases APP`: who reads which shard, and how far; and edits of that table.
//!
//! - `target`: which table and stream are meant
//! - `rows`: leases as a table or as JSON
//! - `edit`: what is asked for, checked, shown, asked about and written

mod edit;
mod rows;
mod target;

use futures::stream::{self, StreamExt as _};
use kinesink::aws::{AwsOptions, Clients, connect};
use kinesink::consumer::{Error, Lease, Leases, Look, Place, look};
use kinesink::{Checkpoint, Failure, ShardId, SystemClock};

use self::rows::{Lag, Row};
use self::target::Target;
use crate::args::Leases as Arguments;
use crate::exit::{Exit, Problem};
use crate::stdout;

/// Shards whose lag is asked for at once.
const LOOKS_AT_ONCE: usize = 20;

pub(crate) async fn run(args: Arguments) -> Result<Exit, Problem> {
    edit::can_be_asked(&args)?;
    let target = Target::of(&args)?;
    let options = AwsOptions { region: target.region.clone(), ..AwsOptions::default() };
    let clients = connect(&options).await?;
    let table = Leases::new(clients.dynamodb.clone(), &target.table);
    let seen = table.all().await.map_err(problem)?;
    warn_of_kcl_3(&table, &target, seen.client_version).await;
    let stream = Stream { clients, target };
    if let Some(asked) = edit::Asked::of(&args)? {
        return edit::run(&args, &asked, &table, &stream, &seen.leases).await;
    }
    let lags = stream::iter(&seen.leases).map(|lease| stream.lag(lease)).buffered(LOOKS_AT_ONCE);
    let lags: Vec<_> = lags.collect().await;
    let shown = seen.leases.iter().zip(lags).map(|(lease, lag)| Row { label: None, lease, lag });
    let shown: Vec<_> = shown.collect();
    let lines = if args.json { shown.iter().map(|row| row.json().to_string()).collect() } else { rows::table(&shown) };
    for line in lines {
        if !stdout::line(line)? {
            break;
        }
    }
    Ok(Exit::Drained)
}

/// The stream behind the table, as far as it is known.
struct Stream {
    clients: Clients,
    target: Target,
}

impl Stream {
    /// None without a stream.
    async fn look(&self, shard: &ShardId, place: Place) -> Option<Result<Look, Failure>> {
        let stream = self.target.stream.as_ref()?;
        Some(look(&self.clients.kinesis, stream, shard, place, &SystemClock).await)
    }

    async fn lag(&self, lease: &Lease) -> Lag {
        if lease.checkpoint() == Checkpoint::ShardEnd {
            return Lag::Finished;
        }
        let place = lease.place();
        if (place.checkpoint, place.start) == (Checkpoint::AtTimestamp, None) {
            // Each worker's configuration has the time.
            return Lag::Unknown;
        }
        match self.look(lease.shard(), place).await {
            None => Lag::Unknown,
            Some(Ok(look)) => Lag::Behind(look.lag),
            Some(Err(failure)) => {
                tracing::warn!(shard = %lease.shard(), %failure, "the lag is not known");
                Lag::Unknown
            }
        }
    }
}

/// Measured: from the moment that such a worker's rows are in the table, the older ones read them as leases and fail.
async fn warn_of_kcl_3(table: &Leases, target: &Target, in_the_table: Option<String>) {
    let version = match in_the_table {
        Some(version) => Some(version),
        None => table.client_version_beside(&target.app).await.unwrap_or_else(|failure| {
            tracing::warn!(%failure, "not known whether workers of KCL 3.x use this application");
            None
        }),
    };
    if let Some(client_version) = version {
        tracing::warn!(
            client_version,
            "workers of KCL 3.x use this application: workers of KCL 1.x and 2.x keep what they hold and take nothing \
             over any more"
        );
    } else if target.asks_for_kcl_3 {
        tracing::warn!(
            coordination = "kcl-3",
            "the first worker of this file makes the application one of KCL 3.x, for good: workers of KCL 1.x and 2.x \
             that are alive then keep what they hold and take nothing over any more"
        );
    }
}

fn problem(error: Error) -> Problem {
    match error {
        Error::NoTable(_) => Problem::new(Exit::Start, format!("{error}, or name the table with --table")),
        Error::Start(_) => Problem::new(Exit::Start, error),
        Error::Setting(_) => Problem::new(Exit::Configuration, error),
        _ => Problem::new(Exit::Failed, error),
    }
}
