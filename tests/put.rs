//! `put`: what it says was sent is in the stream, no more and no less.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use crate::harness::{Process, Services, eventually, kinesink, numbered, output, text};

/// Puts these lines into a stream of its own.
fn put(services: &Services, stream: &str, lines: &[Vec<u8>], more: &[&str]) -> Output {
    let file = services.path(&format!("{stream}.ndjson"));
    std::fs::write(&file, lines.join(&b'\n')).unwrap();
    output(services.kinesink().args(["put", stream]).arg(&file).args(more))
}

/// What `tail` prints of so many records, which is what a reader of user records gets.
fn tailed(services: &Services, stream: &str, records: usize) -> Vec<Vec<u8>> {
    let count = records.to_string();
    let tail = output(services.kinesink().args(["tail", stream, "--from", "trim-horizon", "--records", &count]));
    assert_eq!(tail.status.code(), Some(0), "{}", text(&tail.stderr));
    tail.stdout.split_inclusive(|byte| *byte == b'\n').map(|line| line.trim_ascii_end().to_vec()).collect()
}

#[test]
fn what_put_sends_tail_prints_also_when_aggregated() {
    let services = Services::start();
    let file = services.path("records.ndjson");
    let records = numbered(0, 500);
    std::fs::write(&file, records.iter().flat_map(|line| [line.as_slice(), b"\n"].concat()).collect::<Vec<u8>>())
        .unwrap();
    for (stream, more) in [("plain", vec![]), ("packed", vec!["--aggregate"])] {
        let put = output(
            services.kinesink().args(["put", stream]).arg(&file).args(["--key", "n", "--create", "2"]).args(&more),
        );
        assert_eq!(put.status.code(), Some(0), "{}", text(&put.stderr));
        assert!(text(&put.stdout).starts_with("500 lines sent"), "{}", text(&put.stdout));
        let in_stream = services.read_stream(stream).len();
        assert_eq!(in_stream == 500, more.is_empty(), "{stream} holds {in_stream} Kinesis records");
        let tail = output(services.kinesink().args(["tail", stream, "--from", "trim-horizon", "--records", "500"]));
        assert_eq!(tail.status.code(), Some(0), "{}", text(&tail.stderr));
        let mut printed: Vec<Vec<u8>> = text(&tail.stdout).lines().map(|line| line.as_bytes().to_vec()).collect();
        printed.sort();
        let mut expected = records.clone();
        expected.sort();
        assert_eq!(printed, expected, "{stream}");
    }
}

#[test]
fn put_sends_no_line_before_its_rate_allows() {
    let services = Services::start();
    services.create_stream("paced", 1);
    let file = services.path("records.ndjson");
    let records = numbered(0, 21);
    std::fs::write(&file, records.join(&b'\n')).unwrap();
    // The times are those of the service: from before the command was started to its last line.
    services.put("paced", &[b"before".to_vec()]);
    let put = output(services.kinesink().args(["put", "paced", "--rate", "10"]).arg(&file));
    assert_eq!(put.status.code(), Some(0), "{}", text(&put.stderr));
    let (data, arrivals_ms): (Vec<_>, Vec<_>) = services.arrivals_ms("paced").into_iter().unzip();
    assert_eq!(data, [vec![b"before".to_vec()], records].concat());
    let took_ms = arrivals_ms[21] - arrivals_ms[0];
    assert!(took_ms >= 2_000, "the last of 21 lines at 10 a second was sent after {took_ms} ms");
}

#[test]
fn the_lines_before_one_that_cannot_be_sent_are_in_the_stream() {
    let services = Services::start();
    let lines = [&b"{\"id\":1}"[..], b"{\"id\":2}", b"{\"no\":3}", b"{\"id\":4}"].map(<[u8]>::to_vec);
    for (stream, more) in [("plain", &["--key", "id"][..]), ("packed", &["--key", "id", "--aggregate"])] {
        services.create_stream(stream, 1);
        let refused = put(&services, stream, &lines, more);
        assert_eq!(refused.status.code(), Some(1));
        let said = text(&refused.stderr);
        assert!(said.contains("line 3") && said.contains("\"id\""), "{said}");
        assert!(said.contains("2 lines before it were taken"), "{said}");
        assert_eq!(tailed(&services, stream, 2), lines[..2], "{stream}");
        assert_eq!(services.read_stream(stream).len(), if more.len() == 2 { 2 } else { 1 }, "{stream} holds more");
    }
}

#[test]
fn a_line_that_no_record_holds_is_named_and_what_came_before_it_is_in_the_stream() {
    let services = Services::start();
    services.create_stream("long", 1);
    let first = br#"{"id":1}"#.to_vec();
    let long = format!(r#"{{"id":"{}"}}"#, "k".repeat(257)).into_bytes();
    for (second, more, why) in [
        (vec![b'x'; 2_000_000], &[][..], "it is larger than 1 MiB"),
        (vec![b'x'; 2_000_000], &["--key", "id"], "it is larger than 1 MiB"),
        (long, &["--key", "id"], "its key has 257 characters, and the service takes 256"),
    ] {
        let refused = put(&services, "long", &[first.clone(), second], more);
        assert_eq!(refused.status.code(), Some(1));
        let said = text(&refused.stderr);
        let said_all = [format!("line 2: {why}"), "1 lines before it were taken".into()];
        assert!(said_all.iter().all(|part| said.contains(part)), "{said}");
    }
    let refused = put(&services, "long", std::slice::from_ref(&first), &["--key", ".id"]);
    let said = text(&refused.stderr);
    assert!(said.contains("no value in the field \".id\" that --key names: name it without the dot"), "{said}");
    let stored = services.read_stream("long").into_iter().map(|(_, _, data)| data);
    assert_eq!(stored.collect::<Vec<_>>(), vec![first; 3]);
}

#[test]
fn a_line_that_fits_no_aggregate_is_sent_beside_them_in_its_place() {
    let services = Services::start();
    services.create_stream("mixed", 2);
    let large = |n: usize| format!(r#"{{"key":"same","n":{n},"pad":"{}"}}"#, "x".repeat(100_000)).into_bytes();
    let small = |n: usize| format!(r#"{{"key":"same","n":{n}}}"#).into_bytes();
    let lines: Vec<_> = (0..30).map(|n| if n % 10 == 5 { large(n) } else { small(n) }).collect();
    let sent = put(&services, "mixed", &lines, &["--key", "key", "--aggregate"]);
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent.stderr));
    assert_eq!(text(&sent.stdout), "30 lines sent to mixed in 7 Kinesis records\n");
    assert_eq!(services.read_stream("mixed").len(), 7, "four aggregates around three large lines");
    assert_eq!(tailed(&services, "mixed", 30), lines);
}

#[test]
fn a_missing_stream_and_a_missing_file_are_named() {
    let services = Services::start();
    let refused = put(&services, "nowhere", &[b"{}".to_vec()], &[]);
    assert_eq!(refused.status.code(), Some(3), "{}", text(&refused.stderr));
    let said = text(&refused.stderr);
    assert!(said.contains("stream nowhere") && said.contains("--create"), "{said}");
    for (stream, file, why) in
        [("bad name!", "lines", "bad name!"), ("", "lines", ""), ("nowhere", "/", "it is a directory")]
    {
        let refused = output(services.kinesink().args(["put", stream, file]));
        let said = text(&refused.stderr);
        assert!(refused.status.code() == Some(2) && said.contains(why), "{said}");
    }
    let missing = PathBuf::from("no-such-file.ndjson");
    let refused = output(services.kinesink().args(["put", "nowhere"]).arg(&missing));
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("no-such-file.ndjson"), "{}", text(&refused.stderr));
}

#[test]
fn a_standard_error_that_takes_nothing_ends_nothing() {
    let services = Services::start();
    let file = services.path("lines");
    std::fs::write(&file, "{}\n{}\n").unwrap();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut put = services.kinesink();
    put.args(["--log-level", "trace", "put", "unheard"]).arg(&file).args(["--create", "1"]).stderr(full);
    assert_eq!(put.status().unwrap().code(), Some(0));
    assert_eq!(tailed(&services, "unheard", 2), [b"{}", b"{}"]);
}

#[test]
fn a_line_of_a_slow_producer_is_in_the_stream_before_the_next_comes() {
    let services = Services::start();
    for (stream, more) in [("slow", &[][..]), ("slow-packed", &["--aggregate"])] {
        services.create_stream(stream, 1);
        let mut command = services.kinesink();
        command.args(["put", stream, "-"]).args(more).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut producer = command.spawn().unwrap();
        let mut lines = producer.stdin.take().unwrap();
        for line in 1..=2 {
            lines.write_all(b"{}\n").unwrap();
            eventually("the line is in the stream", || (services.read_stream(stream).len() == line).then_some(()));
        }
        drop(lines);
        assert!(producer.wait().unwrap().success());
    }
}

#[test]
fn an_address_that_refuses_is_named_while_put_tries_again_and_one_signal_ends_it() {
    let directory = tempfile::tempdir().unwrap();
    let (file, log) = (directory.path().join("lines"), directory.path().join("log"));
    std::fs::write(&file, "{}\n").unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = kinesink();
    command.env("AWS_ENDPOINT_URL", format!("http://{free}")).env("AWS_REGION", "us-east-1");
    command.env("AWS_ACCESS_KEY_ID", "local").env("AWS_SECRET_ACCESS_KEY", "local");
    command.args(["put", "orders"]).arg(&file);
    let process = Process::start(command, &log);
    let said = format!("cannot put records into stream orders: no answer from http://{free}");
    eventually("it is said", || process.log().contains(&said).then_some(()));
    process.signal("-INT");
    assert_eq!(process.wait().code(), Some(4));
}
