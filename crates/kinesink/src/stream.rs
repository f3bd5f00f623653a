//! Whether the stream is what sinks of tables need: it orders the records of a key, and keeps none for longer than a table keeps what
//! tells them apart.

use std::time::Duration;

use kinesink_aws::kinesis::Client;
use kinesink_aws::kinesis::types::{RecordDistributionStrategy, StreamDescriptionSummary};
use kinesink_aws::{Clients, failure};
use kinesink_core::Failure;
use kinesink_sinks::dynamodb::Guard;

use crate::Error;
use crate::config::{Config, TableSink};
use crate::retry::retried;

const HOUR: Duration = Duration::from_secs(3600);
/// By so much the proposed time is longer than the stream keeps records.
const MARGIN: Duration = Duration::from_secs(24 * 3600);

/// What is wrong with a stream for a sink, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamFinding {
    /// A run goes on all the same.
    Warning(String),
    /// A run would lose records' changes, and no one would see it: it does not start.
    Refusal(String),
}

/// What is wrong with the stream for each sink of a table, by the sink's name. One whose items are ordered by the stream is refused where
/// that distributes its records by itself, and is warned of where guards, or the marks of deletes, expire before the records that they are for leave
/// the stream. The stream is asked once, and only where a sink needs to know.
pub async fn stream_findings(config: &Config, clients: &Clients) -> Vec<(String, StreamFinding)> {
    let needs: Vec<_> =
        config.tables.iter().flat_map(|sink| needs(sink).map(|need| (sink.name.clone(), need))).collect();
    if needs.is_empty() {
        return Vec::new();
    }
    let stream = config.source.stream.as_str();
    let asked = retried(|| ask(&clients.kinesis, stream)).await;
    let finding = |need: &Need| match &asked {
        Ok(asked) => need.finding(stream, asked),
        // No record needs the answer, so that what goes wrong here ends no run.
        Err(error) => Some(StreamFinding::Warning(need.unknown(stream, error))),
    };
    needs.into_iter().filter_map(|(sink, need)| Some((sink, finding(&need)?))).collect()
}

/// What a sink needs of the stream.
#[derive(Debug)]
enum Need {
    /// Writes of an item of this table are in one shard and its children.
    Order(String),
    /// Records are gone before this is.
    Kept(Kept),
}

fn needs(sink: &TableSink) -> impl Iterator<Item = Need> {
    let ordered = sink.put_by().map(|_| Need::Order(sink.table.clone()));
    ordered.into_iter().chain(kept(sink).map(Need::Kept))
}

impl Need {
    fn finding(&self, stream: &str, asked: &Asked) -> Option<StreamFinding> {
        match self {
            Self::Order(table) => asked.distributes_itself.then(|| {
                StreamFinding::Refusal(format!(
                    "cannot order the writes to table {table}: stream {stream} distributes its records by itself (AUTO), and those of \
                     one key may be in several shards: name a field with a version in `ordered_by`, or have the stream go by the \
                     records' keys: update-stream-record-distribution-strategy --record-distribution-strategy USER_PARTITION_KEY"
                ))
            }),
            Self::Kept(kept) => kept.too_short(stream, asked.retention).map(StreamFinding::Warning),
        }
    }

    fn unknown(&self, stream: &str, why: &Error) -> String {
        match self {
            Self::Order(table) => format!(
                "whether stream {stream} distributes its records by itself, so that the writes to table {table} have no order, is not \
                 known: {why}"
            ),
            Self::Kept(kept) => {
                format!("whether `{}` is longer than stream {stream} keeps records is not known: {why}", kept.setting)
            }
        }
    }
}

/// What a sink keeps for a while.
#[derive(Debug)]
struct Kept {
    setting: &'static str,
    what: String,
    time: Duration,
    /// What comes of it, if that is not long enough.
    otherwise: &'static str,
}

fn kept(sink: &TableSink) -> impl Iterator<Item = Kept> {
    let guards = sink.aggregate.as_ref().map(|aggregate| Kept {
        setting: "aggregate.keep",
        what: format!("the guards in table {}", aggregate.guards),
        time: aggregate.keep,
        otherwise: "records that are sent again after that count twice",
    });
    let marks = sink.delete.as_ref().filter(|_| sink.guard != Guard::Never).map(|delete| Kept {
        setting: "delete.keep",
        what: format!("the marks of deleted items in table {}", sink.table),
        time: delete.keep,
        otherwise: "a write that is sent again after that brings its item back",
    });
    guards.into_iter().chain(marks)
}

impl Kept {
    fn too_short(&self, stream: &str, retention: Duration) -> Option<String> {
        let Self { setting, what, time, otherwise } = self;
        (*time <= retention).then(|| {
            let (time, retention, proposed) = (hours(*time), hours(retention), hours(retention + MARGIN));
            format!(
                "{what} expire after {time}, and stream {stream} keeps its records for {retention}: {otherwise}: \
                 set `{setting} = \"{proposed}\"`, or let the stream keep them for less"
            )
        })
    }
}

/// As the file writes it, rounded down.
fn hours(time: Duration) -> String {
    format!("{}h", time.as_secs() / HOUR.as_secs())
}

/// What the stream says of itself.
#[derive(Debug)]
struct Asked {
    retention: Duration,
    /// A service that does not say goes by partition keys.
    distributes_itself: bool,
}

async fn ask(client: &Client, stream: &str) -> Result<Asked, Failure> {
    let what = format!("stream {stream}");
    let reply = client.describe_stream_summary().stream_name(stream).send().await;
    let reply = reply.map_err(|error| failure("describe", &what, &error))?;
    let asked = reply.stream_description_summary().and_then(Asked::of);
    asked.ok_or_else(|| Failure::transient(format!("cannot describe {what}: the answer is empty")))
}

impl Asked {
    fn of(summary: &StreamDescriptionSummary) -> Option<Self> {
        let retention = HOUR * u32::try_from(summary.retention_period_hours()).ok()?;
        let distributes_itself = summary.record_distribution_strategy() == Some(&RecordDistributionStrategy::Auto);
        Some(Self { retention, distributes_itself })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(sink: &str) -> TableSink {
        let text = format!(
            "version = 1\napp = \"orders\"\n[source]\nstream = \"orders\"\n[[sink]]\ntype = \"dynamodb\"\ntable = \"t-1\"\n{sink}\n\
             [dead_letter]\nurl = \"file:///var/dead\"\n"
        );
        Config::parse(&text, "orders.toml").unwrap().tables.remove(0)
    }

    fn of(sink: &str) -> Vec<(&'static str, Duration)> {
        kept(&table(sink)).map(|kept| (kept.setting, kept.time)).collect()
    }

    #[test]
    fn items_that_several_records_write_in_the_streams_order_need_it_and_no_others() {
        let is_ordered = |sink: &str| needs(&table(sink)).any(|need| matches!(need, Need::Order(_)));
        for ordered in ["", "guard = \"takeover\"", "guard = \"never\"", "add = [\".n\"]"] {
            assert!(is_ordered(&format!("key = {{ id = \".id\" }}\n{ordered}")), "{ordered}");
        }
        assert!(!is_ordered("key = { id = \".id\" }\nordered_by = \".version\""));
        assert!(!is_ordered("key = { id = \".id\", at = \"{position}\" }"));
        assert!(!is_ordered(
            "key = { id = \".id\", at = \"{window}\" }\naggregate = { window = \"1m\", count = \"n\" }"
        ));
    }

    #[test]
    fn guards_and_marks_are_kept_and_nothing_else() {
        let delete =
            "key = { id = \".id\" }\nttl = \"expires\"\ndelete = { field = \".op\", is = [\"d\"], keep = \"30h\" }";
        assert_eq!(of(delete), [("delete.keep", 30 * HOUR)]);
        assert_eq!(of(&format!("{delete}\nguard = \"never\"")), []);
        assert_eq!(of("key = { id = \".id\" }"), []);
        let counted = "key = { id = \".id\", at = \"{window}\" }\naggregate = { window = \"1m\", count = \"n\" }";
        assert_eq!(of(counted), [("aggregate.keep", 192 * HOUR)]);
    }

    #[test]
    fn what_is_kept_no_longer_than_the_stream_keeps_records_is_told_with_both_times() {
        let kept = Kept { setting: "delete.keep", what: "the marks".into(), time: 168 * HOUR, otherwise: "it is back" };
        assert_eq!(kept.too_short("orders", 167 * HOUR), None);
        let said = "the marks expire after 168h, and stream orders keeps its records for 168h: it is back: \
                    set `delete.keep = \"192h\"`, or let the stream keep them for less";
        assert_eq!(kept.too_short("orders", 168 * HOUR).as_deref(), Some(said));
    }
}
