//! Whether what tells the records of a table apart stays there for as long as the stream can give them again.

use std::time::Duration;

use kinesink_aws::kinesis::Client;
use kinesink_aws::{Clients, failure};
use kinesink_core::Failure;
use kinesink_sinks::dynamodb::Guard;

use crate::config::{Config, TableSink};

const HOUR: Duration = Duration::from_secs(3600);
/// By so much the proposed time is longer than the stream keeps records.
const MARGIN: Duration = Duration::from_secs(24 * 3600);

/// Warns of each sink of a table whose guards, or the marks of whose deletes, expire before the records that they are for leave the
/// stream: its name, and what to do. The stream is asked once, and only where there are such.
pub async fn retention_warnings(config: &Config, clients: &Clients) -> Vec<(String, String)> {
    let kept: Vec<_> = config.tables.iter().flat_map(|sink| kept(sink).map(|kept| (sink.name.clone(), kept))).collect();
    if kept.is_empty() {
        return Vec::new();
    }
    let stream = config.source.stream.as_str();
    let asked = retention(&clients.kinesis, stream).await;
    let warning = |kept: &Kept| match &asked {
        Ok(retention) => kept.too_short(stream, *retention),
        // No record needs the answer, so that what goes wrong here ends no run.
        Err(failure) => Some(format!(
            "whether `{}` is longer than stream {stream} keeps records is not known: {failure}",
            kept.setting
        )),
    };
    kept.into_iter().filter_map(|(sink, kept)| Some((sink, warning(&kept)?))).collect()
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

async fn retention(client: &Client, stream: &str) -> Result<Duration, Failure> {
    let what = format!("stream {stream}");
    let reply = client.describe_stream_summary().stream_name(stream).send().await;
    let reply = reply.map_err(|error| failure("describe", &what, &error))?;
    let hours = reply.stream_description_summary().map(|summary| summary.retention_period_hours());
    let hours = hours.and_then(|hours| u32::try_from(hours).ok());
    hours
        .map(|hours| HOUR * hours)
        .ok_or_else(|| Failure::transient(format!("cannot describe {what}: the answer is empty")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sink: &str) -> Vec<(&'static str, Duration)> {
        let text = format!(
            "version = 1\napp = \"orders\"\n[source]\nstream = \"orders\"\n[[sink]]\ntype = \"dynamodb\"\ntable = \"t-1\"\n{sink}\n\
             [dead_letter]\nurl = \"file:///var/dead\"\n"
        );
        let config = Config::parse(&text, "orders.toml").unwrap();
        config.tables.iter().flat_map(kept).map(|kept| (kept.setting, kept.time)).collect()
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
