//! `kinesink leases APP`: who reads which shard, and how far. Only reads.

use kinesink::aws::{AwsOptions, connect};
use kinesink::consumer::{Error, Lease, leases};
use serde_json::json;

use crate::args::Leases;
use crate::exit::{Exit, Problem};
use crate::stdout;

pub(crate) async fn run(args: Leases) -> Result<Exit, Problem> {
    let clients = connect(&AwsOptions::default()).await.map_err(|error| Problem::new(Exit::Start, error))?;
    let table = args.table.as_ref().unwrap_or(&args.app);
    let leases = leases(&clients.dynamodb, table).await.map_err(|error| {
        let exit = if matches!(error, Error::Start(_)) { Exit::Start } else { Exit::Failed };
        Problem::new(exit, error)
    })?;
    let lines = if args.json { leases.iter().map(object).collect() } else { rows(&leases) };
    for line in lines {
        if !stdout::line(line)? {
            break;
        }
    }
    Ok(Exit::Drained)
}

fn object(lease: &Lease) -> String {
    let object = json!({
        "shard": lease.shard,
        "owner": lease.owner,
        "next_owner": lease.next_owner,
        "kinesink": lease.ours,
        "checkpoint": lease.checkpoint,
        "sub_sequence": lease.sub_sequence,
        "counter": lease.counter,
        "parents": lease.parents,
    });
    object.to_string()
}

/// Columns as wide as what is in them; the last one is open.
fn rows(leases: &[Lease]) -> Vec<String> {
    let head = ["SHARD", "OWNER", "NEXT OWNER", "COUNTER", "CHECKPOINT"].map(str::to_owned);
    let row = |lease: &Lease| {
        let worker = |name: &Option<String>| name.clone().unwrap_or_else(|| "-".to_owned());
        let checkpoint = match lease.sub_sequence {
            0 => lease.checkpoint.clone(),
            sub_sequence => format!("{}/{sub_sequence}", lease.checkpoint),
        };
        let (owner, next_owner) = (worker(&lease.owner), worker(&lease.next_owner));
        [lease.shard.clone(), owner, next_owner, lease.counter.to_string(), checkpoint]
    };
    let rows: Vec<_> = std::iter::once(head).chain(leases.iter().map(row)).collect();
    let widths: [usize; 5] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let line = |row: &[String; 5]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}
