//! Every key is read.

use std::path::Path;
use std::time::Duration;

use jiff::SignedDuration;
use kinesink_aws::dynamodb::types::ScalarAttributeType;
use kinesink_aws::{BucketOptions, ServiceOptions};
use kinesink_consumer::{Billing, Coordination, Start, TableOptions};
use kinesink_sinks::dynamodb::{Aggregate, Changes, Deletion, Guard, KeyAttribute, KeySource, Order, Provisioned};
use kinesink_sinks::s3::parquet::{FileSettings, Statistics};
use kinesink_sinks::s3::{KeySettings, KeyTemplate, Late, LateTo};
use kinesink_sinks::{EventTime, Location, TimeFormat};
use serde_json::json;

use super::{MINIMAL, SINK, rendered};
use crate::config::{Compression, Config, Format, Sink};

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

#[test]
fn the_attribute_that_is_the_records_partition_key_is_the_named_one_or_follows_from_the_key() {
    let put_by = |sink: &str| {
        let sink = format!("type = \"dynamodb\"\ntable = \"latest\"\n{sink}");
        let sink = Config::parse(&MINIMAL.replacen(SINK, &sink, 1), "orders.toml").unwrap().tables.remove(0);
        (sink.put_by().map(str::to_owned), sink.partition_key)
    };
    let (name, fields) = (|name: &str| Some(name.to_owned()), "key = { order = \".order\", id = \".id\" }");
    assert_eq!(put_by(fields), (name("order"), None));
    for guard in ["always", "takeover", "never"] {
        let named = put_by(&format!("{fields}\npartition_key = \"id\"\nguard = \"{guard}\""));
        assert_eq!(named, (name("id"), name("id")), "{guard}");
    }
    assert_eq!(put_by("key = { order = \".order\", id = \"{partition_key}\" }"), (name("id"), None));
    let same = put_by("key = { order = \".order\", id = \"{partition_key}\" }\npartition_key = \"id\"");
    assert_eq!(same, (name("id"), name("id")));
    assert_eq!(put_by("key = { shard = \"{shard}\", id = \".id\" }"), (name("id"), None));
    assert_eq!(put_by(&format!("{fields}\nordered_by = \".n\"")), (None, None));
}

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
fn columns_stand_in_the_order_of_the_file() {
    let config = Config::parse(COLUMNS, "orders.toml").unwrap();
    let [first, second] = &config.sinks[..] else { panic!("two sinks") };
    let columns = |sink: &Sink| sink.columns.as_ref().unwrap().to_string();
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
