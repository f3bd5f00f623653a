//! Mistakes as the user sees them.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::{MINIMAL, SINK, golden, rendered};
use crate::config::Config;

/// Mistakes as (title, what to replace in the minimal file, by what).
const MISTAKES: [(&str, &str, &str); 118] = [
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
    ("folder that query engines skip", "url =", "key = \"_temporary/{first}\"\nurl ="),
    ("file that query engines skip", "url =", "key = \"{stream}/.x-{first}\"\nurl ="),
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
    (
        "partition key that is no part of the key",
        SINK,
        "type = \"dynamodb\"\ntable = \"latest\"\nkey = { id = \".id\", order = \".order\" }\npartition_key = \".order\"",
    ),
    (
        "partition key of a part that is itself a mistake",
        SINK,
        "type = \"dynamodb\"\ntable = \"latest\"\nkey = { id = \".id\", order = \"order\" }\npartition_key = \"order\"",
    ),
    (
        "partition key that is the shard",
        SINK,
        "type = \"dynamodb\"\ntable = \"latest\"\nkey = { id = \".id\", shard = \"{shard}\" }\npartition_key = \"shard\"",
    ),
    (
        "partition key that is another",
        SINK,
        "type = \"dynamodb\"\ntable = \"latest\"\nkey = { id = \".id\", by = \"{partition_key}\" }\npartition_key = \"id\"",
    ),
    (
        "partition key beside a version",
        SINK,
        "type = \"dynamodb\"\ntable = \"latest\"\nkey = { id = \".id\", order = \".order\" }\nordered_by = \".n\"\npartition_key = \"id\"",
    ),
    (
        "partition key of records that are all told apart",
        SINK,
        "type = \"dynamodb\"\ntable = \"latest\"\nkey = { id = \".id\", at = \"{position}\" }\npartition_key = \"id\"",
    ),
    (
        "partition key of what is counted",
        SINK,
        "type = \"dynamodb\"\ntable = \"minutes\"\nkey = { id = \".id\", at = \"{window}\" }\npartition_key = \"id\"\naggregate = { window = \"1s\", count = \"n\" }\n[dead_letter]\nurl = \"file:///var/dead\"",
    ),
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
    ("duration without a unit", "[[sink]]", "idle = -5\n[[sink]]"),
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
