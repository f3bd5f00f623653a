//! `kinesink check FILE --sample N`: the columns that records of the stream propose.

use kinesink::aws::kinesis::Client;
use kinesink::config::Config;
use kinesink::consumer::Start;
use kinesink::sinks::s3::parquet::Sample;
use kinesink::{Programs, Record};

use crate::exit::{Exit, Problem};
use crate::reader::{Begin, PAUSE, Reader};
use crate::{shards, stdout};

/// Of each shard. A reply may be empty long before the tip.
const READS_MAX: usize = 100;
const RECORDS_OF_A_REPLY_MAX: u64 = 1_000;

pub(super) async fn run(config: &Config, programs: &Programs, count: u64) -> Result<Exit, Problem> {
    let clients = super::clients(config).await?;
    let stream = config.source.stream.as_str();
    let from = match config.source.start {
        Start::AtTimestamp(time) => Begin::Since(time),
        // After the newest there is nothing to look at.
        Start::TrimHorizon | Start::Latest => Begin::Oldest,
    };
    let shards = shards::list(&clients.kinesis, stream).await?.into_iter();
    let open = |id| Open { reader: Reader::new(id, from.clone()), at_tip: false };
    let mut open: Vec<Open> = shards.map(|shard| open(shard.shard_id)).collect();
    let (mut sample, mut left, mut refused) = (Sample::default(), count, 0_u64);
    for _ in 0..READS_MAX {
        for record in round(&clients.kinesis, stream, &mut open, left).await? {
            if left == 0 {
                break;
            }
            left -= 1;
            match programs.outputs(&record) {
                Ok(outputs) => outputs.iter().for_each(|output| sample.add(output)),
                Err(_) => refused += 1,
            }
        }
        if left == 0 || open.iter().all(|shard| shard.at_tip) {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    if left == count {
        let why = format!("stream {stream} has no record yet: put some, or declare the columns by hand");
        return Err(Problem::new(Exit::Failed, why));
    }
    // Comments, where the columns would be another sink's, or none's, at the end of the file.
    let place = config.place_of_columns();
    let comment = if place.is_some() { "# " } else { "" };
    // Of a file that has no end of line.
    stdout::line("")?;
    if let Some(place) = place {
        stdout::line(format!("# These columns go {place}, without the `# `"))?;
    }
    if refused > 0 {
        stdout::line(format!("# {refused} of {} records were refused by [transform]", count - left))?;
    }
    for line in sample.propose().to_string().lines() {
        stdout::line(format!("{comment}{line}"))?;
    }
    Ok(Exit::Drained)
}

/// A shard that is being read.
struct Open {
    reader: Reader,
    /// Everything that it had was read.
    at_tip: bool,
}

/// A reply of each shard that has more: as many records of each as are asked for in all, shared evenly.
async fn round(client: &Client, stream: &str, open: &mut [Open], count: u64) -> Result<Vec<Record>, Problem> {
    let shards = open.iter().filter(|shard| !shard.at_tip).count().max(1) as u64;
    let limit = i32::try_from(count.div_ceil(shards).min(RECORDS_OF_A_REPLY_MAX)).unwrap_or(i32::MAX);
    let mut records = Vec::new();
    for shard in open.iter_mut().filter(|shard| !shard.at_tip) {
        let reply = shard.reader.next(client, stream, Some(limit)).await;
        if let Some(reply) = reply.map_err(|failure| Problem::new(Exit::Start, failure))? {
            shard.at_tip = reply.at_tip;
            records.extend(reply.records);
        }
    }
    Ok(records)
}
