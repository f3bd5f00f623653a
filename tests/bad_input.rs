//! What a person mistypes or forgets: the message, the exit code, and nothing started.

use crate::harness::{Process, Services, eventually, kinesink, objects, output, pipeline_toml, text};

const GOOD: &str = r#"version = 1
app = "orders"

[source]
stream = "orders"
region = "us-east-1"

[[sink]]
type = "s3"
url = "file:///tmp/kinesink-never-made"
"#;

/// Writes `toml`, checks and runs it: both say the same and start nothing.
fn refused(toml: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("orders.toml");
    std::fs::write(&file, toml).unwrap();
    let check = output(kinesink().arg("check").arg(&file));
    let run = output(kinesink().arg("run").arg(&file).arg("--local").arg(directory.path().join("local")));
    let (check_says, run_says) = (text(&check.stderr), text(&run.stderr));
    assert_eq!((check.status.code(), run.status.code()), (Some(2), Some(2)), "{check_says}\n{run_says}");
    assert_eq!(check_says, run_says);
    assert!(!directory.path().join("local").exists(), "something was started");
    check_says
}

#[test]
fn a_good_file_passes() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("orders.toml");
    std::fs::write(&file, GOOD).unwrap();
    let check = output(kinesink().arg("check").arg(&file));
    assert_eq!(check.status.code(), Some(0), "{}", text(&check.stderr));
    assert!(text(&check.stdout).contains("no mistakes found"));
}

#[test]
fn mistakes_show_file_line_key_and_hint() {
    let cases = [
        ("region = \"us-east-1\"", "regoin = \"us-east-1\"", "regoin", "region"),
        ("stream = \"orders\"", "stream = 7", "stream", "text"),
        ("stream = \"orders\"", "stream = \"or ders\"", "or ders", "stream"),
        ("type = \"s3\"", "type = \"s4\"", "s4", "s3"),
        ("version = 1", "version = 9", "9", "version"),
        ("app = \"orders\"", "", "app", "app"),
        ("file:///tmp", "ftp:///tmp", "ftp", "file://"),
        ("type = \"s3\"", "type = \"s3\"\nformat = \"xml\"", "xml", "ndjson"),
        ("[[sink]]", "start = \"2999-01-01T00:00:00Z\"\n\n[[sink]]", "2999", "an earlier time"),
        ("[[sink]]", "[buffer]\nage = \"soon\"\n\n[[sink]]", "soon", "10s"),
        ("[[sink]]", "[transform]\njq = '. +'\n\n[[sink]]", "jq", "jq"),
        ("[[sink]]", "[transform]\njq = 'env'\n\n[[sink]]", "env", "env"),
    ];
    for (good, bad, named, hint) in cases {
        assert!(GOOD.contains(good));
        let said = refused(&GOOD.replace(good, bad));
        assert!(said.contains("orders.toml"), "{bad:?}: the file is not named in\n{said}");
        assert!(said.contains(named) && said.contains(hint), "{bad:?}: {named:?} or {hint:?} is missing in\n{said}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let run = output(kinesink().args(["run", "nowhere.toml"]));
    assert_eq!(run.status.code(), Some(2));
    assert!(text(&run.stderr).contains("nowhere.toml"));
}

#[test]
fn a_missing_stream_and_missing_credentials_are_one_line_with_a_remedy() {
    let services = Services::start();
    let folder = services.path("objects");
    let file = services.path("missing.toml");
    std::fs::write(&file, pipeline_toml("missing", "missing", &folder, "")).unwrap();

    let run = output(services.kinesink().arg("--log-level").arg("error").arg("run").arg(&file));
    let said = text(&run.stderr);
    assert_eq!(run.status.code(), Some(3), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with(
        "error: cannot list the shards of stream missing: ResourceNotFoundException: Stream missing under account "
    ));
    assert!(said.contains(" not found; check name") && said.contains("--create"), "{said}");
    assert!(objects(&folder).is_empty());

    let run = output(kinesink().arg("--log-level").arg("error").arg("run").arg(&file));
    let said = text(&run.stderr);
    assert_eq!(run.status.code(), Some(3), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("credentials"), "{said}");

    let no_region = std::fs::read_to_string(&file).unwrap().replace("region = \"us-east-1\"\n", "");
    std::fs::write(&file, no_region).unwrap();
    let run =
        output(services.kinesink().env_remove("AWS_REGION").env_remove("AWS_DEFAULT_REGION").arg("run").arg(&file));
    let said = text(&run.stderr);
    assert_eq!(run.status.code(), Some(2), "{said}");
    for part in ["missing.toml:5:1", "missing key `region` in `source`", "[source]", "AWS_REGION"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(objects(&folder).is_empty() && services.owners("missing").is_empty(), "something was started");
}

#[test]
fn what_points_at_no_service_is_one_line_that_names_the_variable() {
    let services = Services::start();
    let empty = services.path("empty.pem");
    std::fs::write(&empty, "no certificate\n").unwrap();
    for (name, value, parts) in [
        ("AWS_REGION", "", ["no AWS region", "AWS_REGION"]),
        ("AWS_REGION", "us east", ["\"us east\"", "AWS_REGION"]),
        (
            "AWS_ENDPOINT_URL_KINESIS",
            "127.0.0.1:4567",
            ["endpoint of Kinesis", "http://127.0.0.1:4567, in AWS_ENDPOINT_URL"],
        ),
        ("AWS_ENDPOINT_URL_DYNAMODB", "http://", ["endpoint of DynamoDB", "AWS_ENDPOINT_URL"]),
        ("AWS_ENDPOINT_URL_S3", "http://me:secret@host", ["endpoint of S3", "credentials do not stand in it"]),
        ("AWS_CA_BUNDLE", empty.to_str().unwrap(), ["empty.pem", "AWS_CA_BUNDLE"]),
        ("AWS_CA_BUNDLE", "/no/such.pem", ["/no/such.pem", "AWS_CA_BUNDLE"]),
    ] {
        let run = output(services.kinesink().env("AWS_DEFAULT_REGION", "").env(name, value).args(["tail", "orders"]));
        let said = text(&run.stderr);
        assert_eq!(run.status.code(), Some(2), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        for part in parts {
            assert!(said.contains(part), "{name}={value}: {part:?} is missing in {said}");
        }
        assert!(!said.contains("secret"), "{said}");
    }
    let named = output(services.kinesink().args(["leases", ""]));
    assert_eq!(named.status.code(), Some(2), "{}", text(&named.stderr));
    assert!(text(&named.stderr).contains("the lease table cannot be \"\""), "{}", text(&named.stderr));
}

#[test]
fn a_denied_permission_is_one_line_with_a_remedy() {
    let services = Services::start();
    services.create_stream("denied", 1);
    let (file, folder) = (services.path("denied.toml"), services.path("objects"));
    std::fs::write(&file, pipeline_toml("denied", "denied", &folder, "")).unwrap();
    let denied = r#""times":1000,"kind":{"error":{"code":"AccessDeniedException"}}"#;
    services
        .fault(&format!(r#"[{{"operation":"ListShards",{denied}}},{{"operation":"DescribeStreamSummary",{denied}}}]"#));
    let run = output(services.kinesink().arg("--log-level").arg("error").arg("run").arg(&file));
    let said = text(&run.stderr);
    assert_eq!(run.status.code(), Some(3), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("stream denied") && said.contains("grant the permission to this role"), "{said}");
    assert!(objects(&folder).is_empty() && services.owners("denied").is_empty(), "something was started");
}

#[test]
fn a_directory_that_cannot_be_written_is_named_at_start() {
    let services = Services::start();
    services.create_stream("blocked", 1);
    let block = services.path("block");
    std::fs::write(&block, "a file").unwrap();
    let file = services.path("blocked.toml");
    std::fs::write(&file, pipeline_toml("blocked", "blocked", &block.join("objects"), "")).unwrap();
    let run = output(services.kinesink().arg("--log-level").arg("error").arg("run").arg(&file));
    let said = text(&run.stderr);
    assert_eq!(run.status.code(), Some(3), "{said}");
    assert!(said.contains(&block.display().to_string()), "{said}");
    assert!(services.owners("blocked").is_empty(), "no lease was taken");
    let toml = pipeline_toml("blocked", "blocked", &services.path("objects"), "");
    std::fs::write(&file, format!("{toml}\n[dead_letter]\nurl = \"file://{}\"\n", block.display())).unwrap();
    for command in [&["run"][..], &["check", "--connect"]] {
        let run = output(services.kinesink().arg("--log-level").arg("warn").args(command).arg(&file));
        let said = text(&run.stderr);
        assert_eq!(run.status.code(), Some(3), "{said}");
        assert!(said.contains(&format!("cannot write to {}", block.display())), "{said}");
        assert!(said.contains("move what is in the way") && !said.contains("trying again"), "{said}");
    }
    assert!(services.owners("blocked").is_empty(), "no lease was taken");
}

#[test]
fn a_metrics_port_in_use_is_named_and_nothing_is_started() {
    let services = Services::start();
    services.create_stream("metered", 1);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let (file, folder) = (services.path("metered.toml"), services.path("objects"));
    let metrics = format!("\n[metrics]\nlisten = \"127.0.0.1:{port}\"\n");
    std::fs::write(&file, pipeline_toml("metered", "metered", &folder, "") + &metrics).unwrap();
    let run = output(services.kinesink().arg("--log-level").arg("error").arg("run").arg(&file));
    let said = text(&run.stderr);
    assert_eq!(run.status.code(), Some(3), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(&format!("127.0.0.1:{port}")) && said.contains("change [metrics] listen"), "{said}");
    assert!(objects(&folder).is_empty() && services.owners("metered").is_empty(), "something was started");
}

/// A bucket's service that refuses everything, for as long as the test runs.
fn refusing_s3(status: &'static str, code: &'static str) -> String {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            let mut request = [0; 65_536];
            let _whatever_was_asked = socket.read(&mut request);
            let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>no</Message></Error>");
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/xml\r\nconnection: close");
            let _the_client_may_have_left = write!(socket, "{head}\r\ncontent-length: {length}\r\n\r\n{body}");
        }
    });
    format!("http://{address}")
}

#[test]
fn a_missing_bucket_and_a_denied_permission_are_one_line_with_a_remedy() {
    let services = Services::start();
    services.create_stream("bucket", 1);
    let file = services.path("bucket.toml");
    let toml = pipeline_toml("bucket", "bucket", std::path::Path::new("/unused"), "");
    std::fs::write(&file, toml.replace("file:///unused", "s3://no-such-bucket/orders")).unwrap();
    for (status, code, said) in
        [("404 Not Found", "NoSuchBucket", "bucket"), ("403 Forbidden", "AccessDenied", "allow s3:PutObject")]
    {
        let endpoint = refusing_s3(status, code);
        let mut command = services.kinesink();
        command.env("AWS_ENDPOINT_URL_S3", endpoint).args(["--log-level", "error", "run"]).arg(&file);
        let run = output(&mut command);
        let says = text(&run.stderr);
        assert_eq!(run.status.code(), Some(3), "{says}");
        assert_eq!(says.lines().count(), 1, "{says}");
        assert!(says.contains("no-such-bucket") && says.contains(said), "{says}");
        assert!(services.owners("bucket").is_empty(), "no lease was taken");
    }
}

/// Credentials as a person sets them, and a service that is not there.
fn nothing_answers(command: &mut std::process::Command) -> &mut std::process::Command {
    let keys = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];
    command.envs(keys).env("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
}

#[test]
fn the_insides_of_an_sdk_error_stood_before_the_message_about_credentials() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("orders.toml");
    std::fs::write(&file, GOOD).unwrap();
    let mut command = kinesink();
    let run = output(command.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/").arg("run").arg(&file));
    let said = text(&run.stderr);
    assert_eq!((run.status.code(), said.lines().count()), (Some(3), 1), "{said}");
    assert!(said.starts_with("error: cannot get AWS credentials: ") && said.contains("refused"), "{said}");
    assert!(!said.contains("ProviderError"), "{said}");
}

#[test]
fn a_check_asked_where_nothing_answers_for_much_longer_than_a_start() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("orders.toml");
    std::fs::write(&file, GOOD.replace("file:///tmp/kinesink-never-made", "s3://bucket/orders")).unwrap();
    let check = output(nothing_answers(&mut kinesink()).arg("check").arg(&file).arg("--connect"));
    let said = text(&check.stderr);
    assert_eq!(check.status.code(), Some(3), "{said}");
    let errors: Vec<_> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!((errors.len(), said.lines().count()), (2, 2 * 5), "five requests to each: {said}");
    assert!(errors[0].starts_with("error: stream: cannot list the shards of stream orders: no answer from "), "{said}");
    assert!(errors[1].starts_with("error: sink s3: cannot write to s3://bucket/orders: no answer from "), "{said}");
    assert!(errors.iter().all(|error| error.ends_with("`endpoint` in the file or AWS_ENDPOINT_URL, if set")), "{said}");
}

#[test]
fn a_check_that_makes_tables_said_nothing_of_buckets_which_it_does_not_make() {
    let services = Services::start();
    let file = services.path("orders.toml");
    let sink = |name: &str, more: &str| format!("[[sink]]\ntype = \"s3\"\nname = \"{name}\"\n{more}\n");
    let toml = [
        GOOD.replace("file:///tmp/kinesink-never-made", "s3://one/orders"),
        sink("again", "url = \"s3://one/again\""),
        sink("far", "url = \"s3://two/orders\"\nregion = \"eu-west-1\""),
        sink("else", "url = \"s3://one/else\"\nendpoint = \"http://127.0.0.1:1\""),
        sink("files", "url = \"file:///var/orders\""),
        "[dead_letter]\nurl = \"s3://dead/orders\"\n".into(),
    ];
    std::fs::write(&file, toml.concat()).unwrap();
    let check = |arguments: &[&str]| {
        let check = output(services.kinesink().arg("check").arg(&file).args(arguments));
        assert_eq!(check.status.code(), Some(0), "{}", text(&check.stderr));
        let said = text(&check.stdout);
        said.lines().filter(|line| line.contains("bucket")).map(str::to_owned).collect::<Vec<_>>()
    };
    let says = |bucket: &str, command: &str| {
        format!("  bucket {bucket} is not made by --create; where it is missing: aws s3 mb {command}")
    };
    let told = [
        says("one", "s3://one --region us-east-1"),
        says("two", "s3://two --region eu-west-1"),
        says("one", "s3://one --region us-east-1 --endpoint-url http://127.0.0.1:1"),
        says("dead", "s3://dead --region us-east-1"),
    ];
    assert_eq!(check(&["--create"]), told);
    assert_eq!(check(&[]), [""; 0]);
}

#[test]
fn a_replay_of_a_mistyped_stream_or_place_was_no_records_or_ended_otherwise_than_a_start() {
    let services = Services::start();
    let (file, dead) = (services.path("letters.toml"), services.path("dead"));
    let replayed = |stream: &str, url: &str| {
        let toml = pipeline_toml("letters", stream, &services.path("objects"), "");
        std::fs::write(&file, format!("{toml}\n[dead_letter]\nurl = \"{url}\"\n")).unwrap();
        let replay = output(services.kinesink().arg("replay").arg(&file));
        (replay.status.code(), text(&replay.stdout) + &text(&replay.stderr))
    };
    let place = format!("file://{}", dead.display());
    let (code, said) = replayed("orders", &place);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("dead letters: cannot list") && said.contains("dead"), "{said}");
    let (code, said) = replayed("orders", "s3://no-such-bucket/dead");
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("dead letters: ") && said.contains("mend the `url` that names it"), "{said}");

    std::fs::create_dir(&dead).unwrap();
    assert_eq!(
        replayed("orders", &place),
        (Some(0), format!("there are no dead letters in {place}: nothing to replay\n"))
    );
    for stream in ["orders", "payments"] {
        let folder = dead.join(stream).join("shardId-000000000000");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("1.0-1.0-x.ndjson"), "").unwrap();
    }
    let (code, said) = replayed("ordres", &place);
    assert_eq!(code, Some(3), "{said}");
    let says = format!("error: there are no dead letters of stream ordres in {place}, but of orders, payments: mend");
    assert!(said.starts_with(&says), "{said}");
    let (code, said) = replayed("orders", &place);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("0 records of 0 windows"), "{said}");
}

#[test]
fn a_line_of_the_log_named_its_shard_twice() {
    let services = Services::start();
    services.create_stream("lines", 1);
    services.put("lines", &[br#"{"n":1}"#.to_vec()]);
    let more =
        format!("[dead_letter]\nurl = \"file://{}\"\n[transform]\njq = \"error\"\n", services.path("dead").display());
    let file = services.path("lines.toml");
    std::fs::write(&file, pipeline_toml("lines", "lines", &services.path("objects"), &more)).unwrap();
    let mut command = services.kinesink();
    command.arg("run").arg(&file);
    let process = Process::start(command, &services.path("lines.log"));
    let split = services.kinesis.split_shard().stream_name("lines").shard_to_split("shardId-000000000000");
    services.block_on(split.new_starting_hash_key("85070591730234615865843651857942052864").send()).unwrap();
    eventually("both are logged", || {
        let log = process.log();
        (log.contains("records are refused") && log.contains("is read to its end")).then_some(())
    });
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "{log}");
    for line in log.lines() {
        assert!(line.matches("shard=").count() <= 1 && line.matches("stream=").count() <= 1, "{line}");
    }
    for named in ["records are refused", "is read to its end"] {
        assert!(log.lines().any(|line| line.contains(named) && line.contains("shard=shardId-000000000000")), "{log}");
    }
    assert!(log.contains(" ended read=1 filtered=0 committed=1 dead_letters=1"), "{log}");
}
