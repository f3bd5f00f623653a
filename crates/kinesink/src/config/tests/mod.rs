//! Files of a pipeline, good and bad.

mod keys;
mod mistakes;
mod pages;

use std::path::Path;
use std::time::Duration;

use kinesink_consumer::{Coordination, Retrieval, Start, TableOptions};
use kinesink_sinks::Location;
use miette::{GraphicalReportHandler, GraphicalTheme};

use super::{Compression, Config, ConfigError, Format};

const MINIMAL: &str = "\
version = 1
app = \"orders\"
[source]
stream = \"orders\"
[[sink]]
type = \"s3\"
url = \"file:///var/orders\"
";

/// The sink of the minimal file.
const SINK: &str = "type = \"s3\"\nurl = \"file:///var/orders\"";

/// Compares with the file, or writes it where `UPDATE_GOLDEN=1`.
#[expect(clippy::disallowed_methods, reason = "a test's switch, read nowhere else")]
fn golden(path: &Path, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var("UPDATE_GOLDEN").is_ok_and(|value| value == "1") {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        actual == expected,
        "{} is stale: run `UPDATE_GOLDEN=1 cargo test -p kinesink config`, and read the difference\n{actual}",
        path.display()
    );
}

fn rendered(error: &ConfigError) -> String {
    let mut text = String::new();
    GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
        .with_width(100)
        .render_report(&mut text, error)
        .unwrap();
    text.lines().fold(String::new(), |text, line| text + line.trim_end() + "\n")
}

#[test]
fn defaults_are_filled_in() {
    let config = Config::parse(MINIMAL, "orders.toml").unwrap();
    assert_eq!((config.app.as_str(), config.lease.table.as_str()), ("orders", "orders"));
    assert_eq!(config.memory_bytes, 256 << 20);
    assert_eq!((config.source.region, config.source.start), (None, Start::TrimHorizon));
    assert_eq!(config.source.idle, Duration::from_secs(1));
    assert_eq!((config.patterns.len(), config.jq), (0, None));
    assert_eq!((config.lease.failover, config.lease.worker_id), (Duration::from_secs(10), None));
    assert_eq!(config.lease.coordination, Coordination::Auto);
    // KCL's.
    assert_eq!((config.source.max_records, config.lease.max, config.lease.max_steals), (10_000, None, 1));
    assert_eq!((config.lease.list_shards_attempts, config.lease.list_shards_pause), (50, Duration::from_millis(1_500)));
    let intervals = (config.lease.shard_sync, config.lease.cleanup);
    assert_eq!(intervals, (Duration::from_secs(60), Some(Duration::from_secs(300))));
    assert_eq!(config.lease.table_options, TableOptions::default());
    assert_eq!((config.buffer.records, config.buffer.bytes), (10_000, 64 << 20));
    assert_eq!(config.buffer.age, Duration::from_secs(60));
    assert_eq!(config.sinks.len(), 1);
    assert_eq!(config.sinks[0].name, "s3");
    assert_eq!(config.sinks[0].url, Location::Directory("/var/orders".into()));
    assert_eq!((config.sinks[0].format, config.sinks[0].compression), (Format::Ndjson, Compression::None));
    assert_eq!((config.dead_letter, config.metrics_listen), (None, None));
    assert_eq!(config.drain_grace, Duration::from_secs(30));
}

#[test]
fn a_small_memory_lowers_the_default_of_a_window() {
    let config = Config::parse(&format!("memory = \"32MiB\"\n{MINIMAL}"), "orders.toml").unwrap();
    assert_eq!(config.buffer.bytes, 20 << 20, "what is left to records");
    assert_eq!(config.record_bytes() + 3 * config.encoded_bytes(), config.memory_bytes);
}

#[test]
fn a_consumer_is_named_by_the_application_unless_the_file_says_otherwise() {
    let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/orders/consumer/mine:1770000000";
    for (line, expected) in [("", "orders"), ("consumer = \"mine\"", "mine"), (&format!("consumer = {arn:?}"), arn)] {
        let text = MINIMAL.replacen("[[sink]]", &format!("fetch = \"fan-out\"\n{line}\n[[sink]]"), 1);
        let config = Config::parse(&text, "orders.toml").unwrap();
        assert_eq!(config.source.fetch, Retrieval::FanOut { consumer: Some(expected.into()) });
    }
    let long = "o".repeat(129);
    let text = MINIMAL.replacen("app = \"orders\"", &format!("app = {long:?}"), 1);
    assert_eq!(Config::parse(&text, "orders.toml").unwrap().source.fetch, Retrieval::Polling);
    let text = text.replacen("[[sink]]", "fetch = \"fan-out\"\n[[sink]]", 1);
    let shown = rendered(&Config::parse(&text, "orders.toml").unwrap_err());
    assert!(shown.contains("`app` is too long to name a consumer"), "{shown}");
}
