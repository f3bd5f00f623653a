//! Good files, bad files as the user sees them, and the reference.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use kinesink_aws::dynamodb::types::ScalarAttributeType;
use kinesink_aws::{BucketOptions, ServiceOptions};
use kinesink_consumer::{Billing, Coordination, Retrieval, Start, TableOptions};
use kinesink_sinks::dynamodb::{Aggregate, Changes, Deletion, Guard, KeyAttribute, KeySource, Order, Provisioned};
use kinesink_sinks::s3::parquet::{FileSettings, Statistics};
use kinesink_sinks::s3::{KeySettings, KeyTemplate, Late, LateTo};
use kinesink_sinks::{EventTime, Location, TimeFormat};
use miette::{GraphicalReportHandler, GraphicalTheme};
use serde_json::json;

use super::raw::RawConfig;
use super::{Compression, Config, ConfigError, EXAMPLE, Format, reference};

const MINIMAL: &str = "\
version = 1
app = \"orders\"
[source]
stream = \"orders\"
[[sink]]
type = \"s3\"
url = \"file:///var/orders\"
";

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

const EVERY_KEY: &str = r#"
version = 1
app = "orders-app"
memory = 64_000_000
source = { stream = "orders", region = "eu-west-1", start = "2026-01-31T08:00:00Z", idle = "500ms", max_records = 500 }
filter.pattern = [{ data = { a = [1, 2.5, true, { prefix = "x" }] } }, { data = { b = ["c"] } }]
transform.jq = ".a"
buffer = { records = 5, bytes = "100MiB", age = "2m" }
spill = { dir = "/var/tmp/kinesink", max = "1GiB" }
metrics = {}
drain.grace = "1h"
[lease]
failover = "20s"
worker_id = "me"
table = "leases"
max = 7
coordination = "kcl-3"
max_steals = 3
shard_sync = "2m"
list_shards_attempts = 9
list_shards_pause = "1s"
cleanup_interval = "30s"
billing = "provisioned"
read_capacity = 5
deletion_protection = true
point_in_time_recovery = true
tags = { team = "orders" }
[[sink]]
type = "s3"
name = "one"
url = "s3://my-bucket/a"
format = "raw"
compression = "gzip"
key = "h={event:%H}/{.type}/{first}"
time_zone = "Europe/Berlin"
event_time = { field = ".ts", format = "epoch-ms" }
late = { after = "2h", to = "arrival" }
unknown = "none"
endpoint = "http://127.0.0.1:9000"
region = "us-east-1"
path_style = false
role = "arn:aws:iam::123456789012:role/writer"
external_id = "e"
kms_key = "alias/orders"
storage_class = "STANDARD_IA"
owner = "123456789012"
[[sink]]
type = "s3"
url = "s3://my-bucket/b"
[dead_letter]
url = "file:///var/dead"
"#;

#[test]
fn every_key_is_read() {
    let config = Config::parse(EVERY_KEY, "orders.toml").unwrap();
    assert_eq!(config.memory_bytes, 64_000_000);
    assert_eq!(config.source.start, Start::AtTimestamp("2026-01-31T08:00:00Z".parse().unwrap()));
    assert_eq!(config.source.idle, Duration::from_millis(500));
    assert_eq!(
        config.patterns,
        [json!({"data": {"a": [1, 2.5, true, {"prefix": "x"}]}}), json!({"data": {"b": ["c"]}})]
    );
    assert_eq!(config.jq.as_deref(), Some(".a"));
    assert_eq!(config.lease.failover, Duration::from_secs(20));
    assert_eq!((config.lease.worker_id.as_deref(), config.lease.table.as_str()), (Some("me"), "leases"));
    assert_eq!((config.lease.max, config.lease.coordination), (Some(7), Coordination::Kcl3));
    assert_eq!(config.source.max_records, 500);
    assert_eq!((config.lease.max_steals, config.lease.shard_sync), (3, Duration::from_secs(120)));
    assert_eq!((config.lease.list_shards_attempts, config.lease.list_shards_pause), (9, Duration::from_secs(1)));
    assert_eq!(config.lease.cleanup, Some(Duration::from_secs(30)));
    let options = TableOptions {
        billing: Billing::Provisioned { read: 5, write: 10 },
        deletion_protection: true,
        point_in_time_recovery: true,
        tags: [("team".to_owned(), "orders".to_owned())].into(),
    };
    assert_eq!(config.lease.table_options, options);
    assert_eq!((config.buffer.records, config.buffer.bytes), (5, 100 << 20));
    assert_eq!(config.buffer.age, Duration::from_secs(120));
    let spill = config.spill.as_ref().unwrap();
    assert_eq!((spill.dir.as_path(), spill.bytes_max), (Path::new("/var/tmp/kinesink"), 1 << 30));
    let shares = config.record_bytes() + config.spilled_bytes() + config.catalog_bytes() + 3 * config.encoded_bytes();
    assert_eq!(shares, config.memory_bytes, "what spilled windows take has shares of its own");
    assert_eq!(config.metrics_listen, Some("127.0.0.1:9464".parse().unwrap()));
    assert_eq!(config.drain_grace, Duration::from_secs(3600));
}

#[test]
fn every_key_of_a_sink_is_read() {
    let config = Config::parse(EVERY_KEY, "orders.toml").unwrap();
    let names: Vec<&str> = config.sinks.iter().map(|sink| sink.name.as_str()).collect();
    let regions: Vec<Option<&str>> = config.sinks.iter().map(|sink| sink.reached.region.as_deref()).collect();
    assert_eq!((names, regions), (vec!["one", "s3"], vec![Some("us-east-1"), Some("eu-west-1")]));
    assert_eq!((config.sinks[0].format, config.sinks[0].compression), (Format::Raw, Compression::Gzip));
    let reached = BucketOptions {
        region: Some("us-east-1".into()),
        endpoint: Some("http://127.0.0.1:9000".into()),
        path_style: Some(false),
        role: Some("arn:aws:iam::123456789012:role/writer".into()),
        external_id: Some("e".into()),
    };
    assert_eq!(config.sinks[0].reached, reached);
    let bucket = &config.sinks[0].bucket;
    assert_eq!((bucket.kms_key.as_deref(), bucket.owner.as_deref()), (Some("alias/orders"), Some("123456789012")));
    assert_eq!(bucket.storage_class.as_deref(), Some("STANDARD_IA"));
    let key = KeySettings {
        template: "h={event:%H}/{.type}/{first}".into(),
        time_zone: "Europe/Berlin".into(),
        event_time: Some(EventTime { field: ".ts".parse().unwrap(), format: TimeFormat::EpochMillis }),
        late: Some(Late { after: SignedDuration::from_hours(2), to: LateTo::Arrival }),
        unknown: "none".into(),
    };
    assert_eq!(*config.sinks[0].key.settings(), key);
    assert_eq!(config.sinks[1].key, KeyTemplate::default());
    assert_eq!(config.dead_letter.unwrap().url, Location::Directory("/var/dead".into()));
}

const TABLES: &str = r#"
version = 1
app = "orders"
[source]
stream = "orders"
region = "eu-west-1"
[[sink]]
type = "dynamodb"
name = "latest"
table = "orders-latest"
key = { zeta = ".customer.id", alpha = "{position}" }
ordered_by = ".version"
types = { ".customer.id" = "number", ".tags" = "string-set" }
delete = { field = ".op", is = ["D", "delete"], keep = "400h" }
ttl = "expires"
expire_after = "720h"
requests = 5
capacity = { read = 10, write = 200 }
write_units = 100
max_write_fraction = 0.25
endpoint = "http://127.0.0.1:8000"
region = "us-east-1"
role = "arn:aws:iam::123456789012:role/writer"
external_id = "e"
[[sink]]
type = "dynamodb"
table = "counters"
key = { id = "{partition_key}" }
set = [".status"]
add = [".n", ".sum"]
append = [".log"]
[dead_letter]
url = "file:///var/dead"
"#;

#[test]
fn every_key_of_a_table_is_read() {
    let config = Config::parse(TABLES, "orders.toml").unwrap();
    let [latest, counters] = &config.tables[..] else { panic!("two tables") };
    assert_eq!((latest.name.as_str(), latest.table.as_str()), ("latest", "orders-latest"));
    let attribute = |name: &str, source, key_type| KeyAttribute { name: name.into(), source, key_type };
    let number = attribute("zeta", KeySource::Field(".customer.id".parse().unwrap()), Some(ScalarAttributeType::N));
    assert_eq!(latest.key, [number, attribute("alpha", KeySource::Position, None)], "in the order of the file");
    assert_eq!((&latest.order, latest.guard), (&Order::Version("version".into()), Guard::Always));
    assert_eq!(latest.types.len(), 2);
    let keep = Duration::from_secs(400 * 3600);
    let delete = Deletion { field: ".op".parse().unwrap(), values: vec!["D".into(), "delete".into()], keep };
    assert_eq!((latest.delete.as_ref(), latest.ttl.as_deref()), (Some(&delete), Some("expires")));
    assert_eq!((latest.expire_after, latest.requests_max), (Some(Duration::from_secs(720 * 3600)), 5));
    let provisioned = Provisioned { read_units: 10, write_units: 200 };
    assert_eq!((latest.provisioned, counters.provisioned), (Some(provisioned), None));
    assert_eq!((latest.write_units, counters.write_units), (Some(100), None));
    assert_eq!((latest.max_write_fraction, counters.max_write_fraction), (Some(0.25), None));
    let reached = ServiceOptions {
        region: Some("us-east-1".into()),
        endpoint: Some("http://127.0.0.1:8000".into()),
        role: Some("arn:aws:iam::123456789012:role/writer".into()),
        external_id: Some("e".into()),
    };
    assert_eq!(latest.reached, reached);

    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let changes = Changes { set: names(&["status"]), add: names(&["n", "sum"]), append: names(&["log"]) };
    assert_eq!((counters.name.as_str(), counters.changes.as_ref()), ("dynamodb", Some(&changes)));
    assert_eq!((&counters.order, counters.requests_max), (&Order::PartitionKey, 64));
    assert_eq!(counters.key, [attribute("id", KeySource::PartitionKey, None)]);
    assert_eq!(counters.reached.region.as_deref(), Some("eu-west-1"));
    assert_eq!(config.delivery(), "effectively once");
    let unguarded = TABLES.replace("requests = 5", "guard = \"never\"");
    assert_eq!(Config::parse(&unguarded, "orders.toml").unwrap().delivery(), "at least once");
    let same = TABLES
        .replace("counters", "orders-latest")
        .replace("key = { id", "endpoint = \"http://127.0.0.1:8000\"\nkey = { id");
    let same = same
        .replace("region = \"us-east-1\"\nrole", "role")
        .replace("role = \"arn:aws:iam::123456789012:role/writer\"\nexternal_id = \"e\"", "");
    let shown = rendered(&Config::parse(&same, "orders.toml").unwrap_err());
    assert!(shown.contains("two sinks write to table orders-latest"), "{shown}");
}

const COLUMNS: &str = r#"
version = 1
app = "orders"
source.stream = "orders"
[[sink]]
name = "first"
type = "s3"
url = "file:///var/first"
format = "parquet"
[sink.columns]
zeta = "int64"
alpha = { type = "decimal(18,2)", on_mismatch = "coerce" }
"m n" = "struct<`a b`: list<string>>"
[[sink]]
name = "second"
type = "s3"
url = "file:///var/second"
format = "parquet"
compression = "none"
rest = "others"
row_group = "64MiB"
page = "8KiB"
dictionary = "0B"
statistics = "row-group"
columns = { b = { type = "json" }, a = { on_mismatch = "null", type = "timestamp(ms)" } }
"#;

#[test]
fn more_attributes_than_a_request_can_change_were_refused_by_the_service_alone() {
    let parse = |key: &str, count: usize| {
        let names: Vec<_> = (0..count).map(|n| format!("\".a{n}\"")).collect();
        let names = names.join(", ");
        let sink = format!("type = \"dynamodb\"\ntable = \"latest\"\nkey = {{ id = \".id\" }}\n{key} = [{names}]");
        let text =
            format!("{}[dead_letter]\nurl = \"file:///var/dead\"\n", MINIMAL.replace(SINK, &format!("{sink}\n")));
        Config::parse(&text, "orders.toml").map(|_| ()).map_err(|error| rendered(&error))
    };
    for (key, most) in [("set", 270), ("add", 290), ("append", 70)] {
        parse(key, most).unwrap();
        let said = parse(key, most + 20).unwrap_err();
        assert!(said.contains("more than a request can say") && said.contains("300 operators"), "{said}");
    }
}

#[test]
fn more_lowest_numbers_than_a_request_can_count_made_every_record_a_dead_letter() {
    let parse = |total: &str, count: usize| {
        let fields: Vec<_> = (0..count).map(|n| format!("a{n} = \".n\"")).collect();
        let fields = fields.join(", ");
        let sink = format!(
            "type = \"dynamodb\"\ntable = \"minutes\"\nkey = {{ id = \".id\", at = \"{{window}}\" }}\n\
             aggregate = {{ window = \"1s\", {total} = {{ {fields} }} }}\n[dead_letter]\nurl = \"file:///var/dead\""
        );
        let text = MINIMAL.replace(SINK, &format!("{sink}\n"));
        Config::parse(&text, "orders.toml").map(|_| ()).map_err(|error| rendered(&error))
    };
    for (total, most) in [("min", 75), ("max", 75), ("sum", 299)] {
        parse(total, most).unwrap();
        let said = parse(total, most + 1).unwrap_err();
        assert!(said.contains("in more attributes than a request can say") && said.contains("300 operators"), "{said}");
    }
}

#[test]
fn columns_stand_in_the_order_of_the_file() {
    let config = Config::parse(COLUMNS, "orders.toml").unwrap();
    let [first, second] = &config.sinks[..] else { panic!("two sinks") };
    let columns = |sink: &super::Sink| sink.columns.as_ref().unwrap().to_string();
    assert_eq!(
        columns(first),
        "zeta: int64 dead-letter, alpha: decimal(18,2) coerce, `m n`: struct<`a b`: list<string>> dead-letter, .._rest"
    );
    assert_eq!(columns(second), "b: json dead-letter, a: timestamp(ms) null, ..others");
    assert_eq!((first.compression, second.compression), (Compression::Zstd, Compression::None));
    assert_eq!(first.file, FileSettings::default());
    assert_eq!((second.file.row_group_bytes, second.file.page_bytes), (64 << 20, 8 << 10));
    assert_eq!((second.file.dictionary_bytes, second.file.statistics), (0, Statistics::RowGroup));
    assert!(config.missing_columns().is_none());
}

#[test]
fn a_sink_of_columns_without_any_can_be_read_and_is_a_mistake() {
    let text = MINIMAL.replacen("type = \"s3\"", "type = \"s3\"\nformat = \"parquet\"", 1);
    let config = Config::parse(&text, "orders.toml").unwrap();
    assert_eq!(config.sinks[0].columns, None);
    let shown = rendered(&config.missing_columns().unwrap());
    assert!(shown.contains("sink `s3` writes Parquet files and has no columns"), "{shown}");
    assert!(shown.contains("kinesink check orders.toml --sample 1000"), "{shown}");
}

#[test]
fn a_small_memory_lowers_the_default_of_a_window() {
    let config = Config::parse(&format!("memory = \"32MiB\"\n{MINIMAL}"), "orders.toml").unwrap();
    assert_eq!(config.buffer.bytes, 20 << 20, "what is left to records");
    assert_eq!(config.record_bytes() + 3 * config.encoded_bytes(), config.memory_bytes);
}

/// The sink of the minimal file.
const SINK: &str = "type = \"s3\"\nurl = \"file:///var/orders\"";

/// Mistakes as (title, what to replace in the minimal file, by what).
const MISTAKES: [(&str, &str, &str); 108] = [
    ("unknown section", "[source]", "[sorce]"),
    ("unknown key", "stream =", "steam ="),
    ("unknown key with nothing near", "url =", "colour = 1\nurl ="),
    ("wrong type", "\"orders\"\n[[", "3\n[["),
    ("table that is not one", "[source]\nstream = \"orders\"", "source = \"orders\""),
    ("sink without double brackets", "[[sink]]", "[sink]"),
    ("missing key", "stream = \"orders\"\n", ""),
    ("missing section", "[source]\nstream = \"orders\"\n", ""),
    ("no sink", "[[sink]]\ntype = \"s3\"\nurl = \"file:///var/orders\"\n", ""),
    ("syntax", "stream = \"orders\"", "stream = \"orders"),
    ("no version", "version = 1\n", ""),
    ("newer version", "version = 1", "version = 2"),
    ("not a version", "version = 1", "version = \"one\""),
    ("word that is not allowed", "type = \"s3\"", "type = \"s3\"\ncompression = \"gzp\""),
    ("key without a position", "url =", "key = \"{stream}/{shard}\"\nurl ="),
    ("field without a dot", "url =", "key = \"type={type}/{first}\"\nurl ="),
    ("event without its field", "url =", "key = \"{event:%H}/{first}\"\nurl ="),
    ("time zone", "url =", "time_zone = \"Berlin\"\nurl ="),
    ("format of a time", "url =", "event_time = { field = \".ts\", format = \"iso\" }\nurl ="),
    ("where late records go", "url =", "late = { after = \"1h\", to = \"void\" }\nurl ="),
    ("key of a directory", "url =", "kms_key = \"alias/orders\"\npath_style = true\nurl ="),
    ("account", "\"file:///var/orders\"", "\"s3://my-bucket\"\nowner = \"me\"\nrole = \"writer\""),
    ("storage class", "\"file:///var/orders\"", "\"s3://my-bucket\"\nstorage_class = \"cold\"\nexternal_id = \"e\""),
    ("spill that is no place", "[source]", "spill = { dir = \"tmp\", max = \"1KiB\" }\n[source]"),
    ("more than can be spilled", "[source]", "spill.dir = \"/tmp\"\nbuffer.bytes = \"17GiB\"\n[source]"),
    ("sizes without Parquet", "url =", "page = \"1MiB\"\nstatistics = \"none\"\nurl ="),
    ("sizes of Parquet", "url =", "format = \"parquet\"\npage = \"1B\"\nrow_group = \"2GiB\"\nurl ="),
    ("statistics", "url =", "format = \"parquet\"\nstatistics = \"pages\"\nurl ="),
    ("columns without Parquet", "url =", "columns = { a = \"int64\" }\nrest = \"others\"\nurl ="),
    (
        "type of no column",
        "url =",
        "format = \"parquet\"\ncolumns = { a = \"varchar(3)\", b = { type = \"list<\" } }\nurl =",
    ),
    ("columns that differ in case", "url =", "format = \"parquet\"\ncolumns = { a = \"int64\", A = \"int64\" }\nurl ="),
    ("column that is neither", "url =", "format = \"parquet\"\ncolumns = { a = 64 }\nurl ="),
    (
        "unknown key of a column",
        "url =",
        "format = \"parquet\"\ncolumns = { a = { type = \"int64\", null = true } }\nurl =",
    ),
    ("Parquet in gzip", "url =", "format = \"parquet\"\ncompression = \"gzip\"\nurl ="),
    ("lines in snappy", "url =", "compression = \"snappy\"\nurl ="),
    ("start", "[[sink]]", "start = \"TRIM_HORIZON\"\n[[sink]]"),
    ("fetch", "[[sink]]", "fetch = \"fanout\"\n[[sink]]"),
    ("consumer of a poller", "[[sink]]", "consumer = \"orders\"\n[[sink]]"),
    ("consumer's name", "[[sink]]", "fetch = \"fan-out\"\nconsumer = \"my orders\"\n[[sink]]"),
    ("no leases", "[[sink]]", "[lease]\nmax = 0\n[[sink]]"),
    ("coordination", "[[sink]]", "[lease]\ncoordination = \"3x\"\n[[sink]]"),
    ("too many records", "[[sink]]", "max_records = 10001\n[[sink]]"),
    ("capacity of a table paid by the request", "[[sink]]", "[lease]\nread_capacity = 5\n[[sink]]"),
    ("interval without cleanup", "[[sink]]", "[lease]\ncleanup = false\ncleanup_interval = \"1m\"\n[[sink]]"),
    ("relative directory", "file:///var/orders", "file://orders"),
    ("endpoint of a directory", "type = \"s3\"", "type = \"s3\"\nendpoint = \"http://127.0.0.1:9000\""),
    ("size of a wrong type", "[[sink]]", "[buffer]\nbytes = true\n[[sink]]"),
    ("negative number", "[[sink]]", "[buffer]\nrecords = -1\n[[sink]]"),
    ("larger than what memory leaves to records", "[[sink]]", "[buffer]\nbytes = \"200MiB\"\n[[sink]]"),
    ("longer than a year", "[[sink]]", "[buffer]\nage = \"8761h\"\n[[sink]]"),
    ("name of the dead letters", "type = \"s3\"", "type = \"s3\"\nname = \"dead_letters\""),
    ("number that overflows", "[[sink]]", "[filter]\npattern = { data = { a = [1e400] } }\n[[sink]]"),
    ("secret beside a mistake", "[[sink]]", "colour = 1\naccess_key = \"hunter2\"\n[[sink]]"),
    ("password in a url", "file:///var/orders", "s3://me:hunter2@bucket/x"),
    ("time without quotes", "[[sink]]", "start = 2026-01-31T08:00:00Z\n[[sink]]"),
    ("key twice", "app = \"orders\"", "app = \"orders\"\napp = \"orders\""),
    ("number that no integer holds", "[[sink]]", "[buffer]\nbytes = 99999999999999999999\n[[sink]]"),
    ("negative size", "version = 1", "version = 1\nmemory = -5"),
    ("more memory than any machine has", "version = 1", "version = 1\nmemory = \"2000GiB\""),
    ("empty window", "[[sink]]", "[buffer]\nbytes = 0\n[[sink]]"),
    ("more attempts than are counted", "[[sink]]", "[lease]\nlist_shards_attempts = 99999999999\n[[sink]]"),
    ("secret in the wrong place", "[[sink]]", "password = \"hunter2\"\n[[sink]]"),
    ("secret of several lines", "[[sink]]", "password = \"\"\"\nhunter2\n\"\"\"\n[[sink]]"),
    ("region", "[[sink]]", "region = \"EU West\"\n[[sink]]"),
    ("worker of two lines", "[[sink]]", "[lease]\nworker_id = \"a\\nb\"\n[[sink]]"),
    ("tag that AWS keeps for itself", "[[sink]]", "[lease]\ntags = { \"aws:team\" = \"a\" }\n[[sink]]"),
    ("root directory", "file:///var/orders", "file:///"),
    (
        "endpoint without a scheme",
        "url = \"file:///var/orders\"",
        "url = \"s3://orders\"\nendpoint = \"127.0.0.1:9000\"",
    ),
    (
        "endpoint with a password",
        "url = \"file:///var/orders\"",
        "url = \"s3://orders\"\nendpoint = \"http://me:hunter2@host\"",
    ),
    ("sink inside another", "[[sink]]", "[[sink]]\nname = \"a\"\ntype = \"s3\"\nurl = \"file:///var\"\n[[sink]]"),
    ("dead letters inside a sink", "[[sink]]", "[dead_letter]\nurl = \"file:///var/orders/dead\"\n[[sink]]"),
    ("pattern that is not one", "[[sink]]", "[filter]\npattern = \"click\"\n[[sink]]"),
    ("sink without a type", "type = \"s3\"\n", ""),
    ("type of sink that there is not", "type = \"s3\"", "type = \"dynamo\""),
    (
        "key of an object for a table",
        "type = \"s3\"\nurl",
        "type = \"dynamodb\"\ntable = \"latest\"\nkey = { id = \".id\" }\nurl",
    ),
    (
        "key of three attributes",
        SINK,
        "type = \"dynamodb\"\ntable = \"o\"\nkey = { a = \".a\", b = \"b\", c = \"{shard}\" }",
    ),
    (
        "marks that never expire",
        SINK,
        "type = \"dynamodb\"\ntable = \"latest\"\nkey = { id = \".id\" }\ndelete = { field = \".op\", is = [] }\nexpire_after = \"1h\"",
    ),
    (
        "version inside a field",
        SINK,
        "type = \"dynamodb\"\ntable = \"latest\"\nkey = { id = \".id\" }\nordered_by = \".a.b\"\ntypes = { \".id\" = \"string-set\" }",
    ),
    (
        "counters without guards",
        SINK,
        "type = \"dynamodb\"\ntable = \"latest\"\nkey = { id = \".id\" }\nguard = \"never\"\nset = [\".id\", \"a\"]\nadd = [\".n\", \".n\"]",
    ),
    (
        "counters by a version",
        SINK,
        "type = \"dynamodb\"\ntable = \"latest\"\nkey = { id = \".id\" }\nordered_by = \".version\"\nappend = [\".log\"]",
    ),
    (
        "version that is a key",
        SINK,
        "type = \"dynamodb\"\ntable = \"latest\"\nkey = { id = \".id\", version = \".version\" }\nordered_by = \".version\"\nset = [\".status\"]\n[dead_letter]\nurl = \"file:///var/dead\"",
    ),
    (
        "table that workers agree by",
        SINK,
        "type = \"dynamodb\"\ntable = \"orders-CoordinatorState\"\nkey = { id = \".id\" }",
    ),
    (
        "a table that is made without capacity",
        SINK,
        "type = \"dynamodb\"\ntable = \"latest\"\nkey = { id = \".id\" }\ncapacity = { read = 0, write = 5 }",
    ),
    (
        "part of a table's units",
        SINK,
        "type = \"dynamodb\"\ntable = \"latest\"\nkey = { id = \".id\" }\nmax_write_fraction = 25",
    ),
    (
        "time window without counting",
        SINK,
        "type = \"dynamodb\"\ntable = \"minutes\"\nkey = { id = \".id\", at = \"{window}\" }",
    ),
    (
        "counting without a time window",
        SINK,
        "type = \"dynamodb\"\ntable = \"minutes\"\nkey = { id = \".id\", at = \"{position}\" }\nttl = \"n\"\naggregate = { window = \"1500ms\", count = \"n\", sum = { id = \".n\", n = \"x\" } }",
    ),
    (
        "counting of nothing, beside what changes",
        SINK,
        "type = \"dynamodb\"\ntable = \"minutes\"\nkey = { id = \".id\", at = \"{window}\" }\nset = [\".n\"]\nguard = \"never\"\naggregate = { window = \"0s\", keep = \"1h\", event_time = { field = \"ts\" }, guards = \"minutes\" }",
    ),
    (
        "counting in an attribute without a name",
        SINK,
        "type = \"dynamodb\"\ntable = \"minutes\"\nkey = { id = \".id\", at = \"{window}\" }\naggregate = { window = \"1s\", sum = { \"\" = \".n\" } }\n[dead_letter]\nurl = \"file:///var/dead\"",
    ),
    ("table of leases", SINK, "type = \"dynamodb\"\ntable = \"orders\"\nkey = { id = \".id\" }\nadd = [\".n\"]"),
    (
        "attributes that kinesink writes",
        SINK,
        "type = \"dynamodb\"\ntable = \"latest\"\nkey = { _position = \".id\" }\nset = [\"._refused\"]\nttl = \"_deleted\"",
    ),
    (
        "expiry that is the key",
        SINK,
        "type = \"dynamodb\"\ntable = \"minutes\"\nkey = { id = \".id\", at = \"{window}\" }\nttl = \"at\"\nexpire_after = \"1h\"\naggregate = { window = \"1s\", count = \"n\" }\n[dead_letter]\nurl = \"file:///var/dead\"",
    ),
    ("key of nothing but the shard", SINK, "type = \"dynamodb\"\ntable = \"latest\"\nkey = { id = \"{shard}\" }"),
    ("field that is no list", SINK, "type = \"dynamodb\"\ntable = \"latest\"\nkey = { id = \".id\" }\nset = \".n\""),
    ("event time that is no table", "url =", "event_time = \".ts\"\nurl ="),
    (
        "format that never gives a time",
        "url =",
        "event_time = { field = \".ts\", format = \"%Y\" }\nkey = \"{event:%Y}/{first}\"\nurl =",
    ),
    (
        "format that is only written",
        "url =",
        "event_time = { field = \".ts\", format = \"%F %T %Z\" }\nkey = \"{event:%Y}/{first}\"\nurl =",
    ),
    ("template in a url", "file:///var/orders", "s3://my-bucket/{day}"),
    (
        "names that are templates or ways to fields",
        SINK,
        "type = \"dynamodb\"\nname = \"a/b\"\ntable = \"minutes\"\nkey = { \".id\" = \".id\", at = \"{window}\" }\nttl = \"{ttl}\"\nexpire_after = \"1h\"\naggregate = { window = \"1s\", count = \" n\" }\n[dead_letter]\nurl = \"file:///var/dead\"",
    ),
    ("pauses of fan-out", "[[sink]]", "fetch = \"fan-out\"\nidle = \"1s\"\nmax_records = 10\n[[sink]]"),
    (
        "event time of what is counted",
        SINK,
        "type = \"dynamodb\"\ntable = \"minutes\"\nkey = { id = \".id\", at = \"{window}\" }\naggregate = { window = \"1s\", count = \"n\", event_time = { field = \".ts\", format = \"%H:%M\" } }\n[dead_letter]\nurl = \"file:///var/dead\"",
    ),
    (
        "number in quotes",
        SINK,
        "type = \"dynamodb\"\ntable = \"latest\"\nkey = { id = \".id\" }\nmax_write_fraction = \"half\"",
    ),
    (
        "list that is a table",
        SINK,
        "type = \"dynamodb\"\ntable = \"latest\"\nkey = { id = \".id\" }\ntypes = [\".id\"]",
    ),
    (
        "what is counted without a table",
        SINK,
        "type = \"dynamodb\"\ntable = \"latest\"\nkey = { id = \".id\" }\naggregate = \"1m\"",
    ),
    ("capacity without a table", SINK, "type = \"dynamodb\"\ntable = \"latest\"\nkey = { id = \".id\" }\ncapacity = 5"),
    ("yes", "url =", "path_style = \"yes\"\nurl ="),
    ("fraction of a record", "[[sink]]", "[buffer]\nrecords = 1.5\n[[sink]]"),
    ("program that is a list", "[[sink]]", "[transform]\njq = [\".\"]\n[[sink]]"),
    (
        "several at once",
        "[[sink]]",
        "idle = \"1\"\n[buffer]\nrecords = 0\nbytes = \"1GiB\"\nage = \"60\"\n[dead_letter]\nurl = \
         \"file:///var/orders\"\n[metrics]\nlisten = \"localhost\"\n[[sink]]\ntype = \"s3\"\nurl = \
         \"file:///var/orders\"\n[[sink]]",
    ),
];

#[test]
fn every_key_of_what_records_count_up_to_is_read() {
    let sink = |more: &str| {
        let sink = "type = \"dynamodb\"\ntable = \"minutes\"\nkey = { id = \".id\", at = \"{window}\" }\n";
        let letters = "\n[dead_letter]\nurl = \"file:///var/dead\"\n";
        let text = MINIMAL.replacen(SINK, &format!("{sink}{more}{letters}"), 1);
        Config::parse(&text, "orders.toml").unwrap().tables.remove(0)
    };
    let path = |text: &str| text.parse().unwrap();
    let all = sink(
        "[sink.aggregate]\nwindow = \"5m\"\nevent_time = { field = \".ts\", format = \"epoch-ms\" }\ncount = \"orders\"\n\
         sum = { revenue = \".price\", tax = \".tax\" }\nmin = { least = \".price\" }\nmax = { most = \".a.b\" }\n\
         guards = \"counted\"\nkeep = \"400h\"",
    );
    let expected = Aggregate {
        window: Duration::from_secs(300),
        event_time: Some(EventTime { field: path(".ts"), format: TimeFormat::EpochMillis }),
        count: Some("orders".into()),
        sum: [("revenue".into(), path(".price")), ("tax".into(), path(".tax"))].into(),
        min: [("least".into(), path(".price"))].into(),
        max: [("most".into(), path(".a.b"))].into(),
        guards: "counted".into(),
        keep: Duration::from_secs(400 * 3600),
    };
    assert_eq!((all.aggregate.as_ref(), all.delivery()), (Some(&expected), "effectively once"));
    assert_eq!(all.key[1].source, KeySource::Window);
    let few = sink("aggregate = { window = \"1s\", count = \"n\" }").aggregate.unwrap();
    assert_eq!(
        (few.guards.as_str(), few.keep, few.event_time),
        ("minutes-guards", Duration::from_secs(192 * 3600), None)
    );
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

#[test]
fn a_mistake_shows_file_line_key_and_hint() {
    let mut shown = String::new();
    for (title, from, to) in MISTAKES {
        assert!(MINIMAL.contains(from), "{title}");
        let error = Config::parse(&MINIMAL.replacen(from, to, 1), "orders.toml").expect_err(title);
        write!(shown, "# {title}\n\n{}\n", rendered(&error)).unwrap();
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    golden(&PathBuf::from("src/config/golden/mistakes.txt"), &shown);
}

#[test]
fn a_mistake_that_shows_later_points_at_its_key() {
    let text = format!("{MINIMAL}[transform]\njq = '.['\n");
    let config = Config::parse(&text, "orders.toml").unwrap();
    let shown = rendered(&config.mistake("transform.jq", "the bracket is not closed"));
    assert!(shown.contains("`transform.jq` cannot be used: the bracket is not closed"), "{shown}");
    assert!(shown.contains("[orders.toml:9:6]"), "{shown}");
}

#[test]
fn the_example_and_the_reference_are_true() {
    let config = Config::parse(EXAMPLE, "example.toml").unwrap();
    assert_eq!(config.patterns.len(), 1);
    golden(&PathBuf::from("../../docs/config.md"), &reference());
}

#[test]
fn the_files_on_the_page_of_tables_can_be_run() {
    let page = include_str!("../../../../docs/dynamodb.md");
    let files: Vec<_> = page.split("```toml\n").skip(1).filter_map(|block| block.split("```").next()).collect();
    assert_eq!(files.len(), 3);
    for file in files {
        let config = Config::parse(file, "page.toml").unwrap_or_else(|error| panic!("{}", rendered(&error)));
        assert_eq!((config.tables.len(), config.delivery()), (1, "effectively once"));
        #[cfg(all(feature = "jq", feature = "pattern"))]
        crate::Programs::compile(&config).unwrap_or_else(|error| panic!("{}", rendered(&error)));
    }
}

/// The keys of `docs/config.md`, which is made from the types, as `section.key`; of a sink as `sink.type.key`.
fn documented_keys() -> BTreeSet<String> {
    let (reference, mut keys) = (reference(), BTreeSet::new());
    let [mut section, mut kind, mut table] = [const { String::new() }; 3];
    let below = |heading: &str| format!("{}.", heading.trim_matches(['`', '[', ']']));
    for line in reference.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            section = if heading.starts_with('`') { below(heading) } else { String::new() };
            (kind, table) = Default::default();
        } else if let Some(named) = line.strip_prefix("### With `type = \"") {
            (kind, table) = (below(named.trim_end_matches("\"`")), String::new());
        } else if let Some(heading) = line.strip_prefix("#### ") {
            table = below(heading);
        } else if let Some((key, _)) = line.strip_prefix("| `").and_then(|row| row.split_once('`')) {
            keys.insert(format!("{section}{kind}{table}{key}"));
        }
    }
    keys
}

/// The keys that the reader of files knows in the table at `path`, as it says where it meets one that it does not know; none where
/// that is no table of keys.
fn known_keys(path: &str) -> Option<Vec<String>> {
    const UNKNOWN: &str = "qqq";
    let line = format!("{path}{UNKNOWN} = 1\n");
    let text = match line.strip_prefix("sink.") {
        Some(line) => format!("[[sink]]\n{line}"),
        None => line,
    };
    let error = toml::from_str::<RawConfig>(&text).unwrap_err();
    let (_, known) = error.message().split_once(&format!("unknown field `{UNKNOWN}`, expected "))?;
    Some(known.split('`').skip(1).step_by(2).map(str::to_owned).collect())
}

#[test]
fn the_page_has_every_key_that_is_read() {
    let documented = documented_keys();
    let (mut left, mut read) = (vec![String::new(), "sink.s3.".into(), "sink.dynamodb.".into()], BTreeSet::new());
    while let Some(path) = left.pop() {
        for key in known_keys(&path).unwrap_or_default() {
            let key = format!("{path}{key}");
            // Of what may be a table of tables, one has a name.
            left.extend([format!("{key}."), format!("{key}.NAME.")]);
            read.insert(key);
        }
    }
    for deep in ["sink.s3.late.after", "sink.dynamodb.aggregate.event_time.format", "sink.s3.columns.NAME.on_mismatch"]
    {
        assert!(read.contains(deep), "{deep} is not among {read:?}");
    }
    let sections =
        ["source", "transform", "filter", "lease", "buffer", "spill", "sink", "dead_letter", "metrics", "drain"];
    let left_out: Vec<_> = read.difference(&documented).filter(|key| !sections.contains(&key.as_str())).collect();
    assert_eq!(left_out, Vec::<&String>::new());
    assert_eq!(documented.difference(&read).collect::<Vec<_>>(), Vec::<&String>::new(), "on the page alone");
}

#[test]
fn what_the_page_for_java_users_calls_a_setting_is_one_and_no_setting_of_leases_is_left_out() {
    let page = include_str!("../../../../docs/coming-from-the-java-kcl.md");
    let settings = page.split("\n## Settings").nth(1).unwrap().split("\n## ").next().unwrap();
    let table = settings.split("These have no counterpart").next().unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let named = rows.flat_map(|row| row.split(" | ").nth(1).unwrap().split('`').skip(1).step_by(2));
    let named: BTreeSet<_> = named.map(str::to_owned).collect();
    let documented = documented_keys();
    assert!(named.len() > 20 && documented.len() > 30, "{named:?} {documented:?}");
    let unknown: Vec<_> = named.difference(&documented).collect();
    assert_eq!(unknown, Vec::<&String>::new());
    let of_leases = documented.iter().filter(|key| key.starts_with("lease."));
    let left_out: Vec<_> = of_leases.filter(|key| !named.contains(*key)).collect();
    assert_eq!(left_out, Vec::<&String>::new());
}
