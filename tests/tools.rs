//! `local`, `put`, `tail`, `check`, completions, and the examples.

use std::io::Write as _;
use std::process::Stdio;

use crate::harness::{Process, Services, eventually, kinesink, numbered, output, text};

#[test]
fn local_prints_shell_lines_and_nothing_else_once_every_port_answers() {
    let directory = tempfile::tempdir().unwrap();
    let script =
        r#"echo "$AWS_ENDPOINT_URL_KINESIS $AWS_ENDPOINT_URL_DYNAMODB $AWS_REGION $AWS_ACCESS_KEY_ID"; exit 7"#;
    let run = output(kinesink().args(["local", "--", "sh", "-c", script]));
    assert_eq!(run.status.code(), Some(7), "the command's code: {}", text(&run.stderr));
    let seen = text(&run.stdout);
    assert!(seen.starts_with("http://127.0.0.1:") && seen.contains(" us-east-1 local"), "{seen}");

    let mut child = kinesink().arg("local").arg(directory.path()).stdout(Stdio::piped()).spawn().unwrap();
    let stdout = child.stdout.take().unwrap();
    let lines: Vec<String> =
        std::io::BufRead::lines(std::io::BufReader::new(stdout)).take(6).map(Result::unwrap).collect();
    assert!(lines.iter().all(|line| line.starts_with("export AWS_")), "{lines:?}");
    let address = lines[0].split_once("=http://").unwrap().1.to_owned();
    assert!(std::net::TcpStream::connect(address).is_ok(), "printed before the port answers");
    assert!(std::process::Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_local_prints_is_safe_to_evaluate_whatever_its_directory_is_called() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("it's $(touch expanded) `touch expanded`;touch expanded&\"*");
    let lines = directory.path().join("local.env");
    let mut child = kinesink().args(["local", "--tls", "--env"]).arg(&lines).arg(&state).spawn().unwrap();
    eventually("the file is written", || lines.metadata().is_ok_and(|file| file.len() > 0).then_some(()));
    let script = r#"set -eu; . "$1"; cd "$2"; printf %s "$AWS_CA_BUNDLE"; test -f "$AWS_CA_BUNDLE"; ls"#;
    let shell = ["-c", script, "sh"].map(std::ffi::OsString::from);
    let mut sh = std::process::Command::new("sh");
    let seen = output(sh.args(shell).arg(&lines).arg(directory.path()).current_dir(directory.path()));
    assert!(std::process::Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let printed = text(&seen.stdout);
    assert!(seen.status.success() && printed.starts_with(state.to_str().unwrap()), "{printed} {}", text(&seen.stderr));
    assert!(!directory.path().join("expanded").exists(), "{printed}");
}

#[test]
fn a_port_in_use_and_a_directory_in_use_are_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let refused = output(kinesink().args(["local", "--kinesis-port", &port]));
    assert_eq!(refused.status.code(), Some(3));
    assert!(text(&refused.stderr).contains(&format!("127.0.0.1:{port}")), "{}", text(&refused.stderr));

    let services = Services::start();
    let refused = output(kinesink().arg("local").arg(services.path("local")));
    assert_eq!(refused.status.code(), Some(3));
    let pid = std::fs::read_to_string(services.path("local/lock")).unwrap();
    assert!(text(&refused.stderr).contains(&format!("process {}", pid.trim())), "{}", text(&refused.stderr));
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
fn a_reader_that_leaves_is_no_error() {
    let services = Services::start();
    services.create_stream("pipe", 1);
    services.put("pipe", &numbered(0, 2_000));
    let mut child = services.kinesink();
    child.args(["tail", "pipe", "--from", "trim-horizon"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    drop(child.stdout.take());
    let left = child.wait_with_output().unwrap();
    assert_eq!(left.status.code(), Some(0), "{}", text(&left.stderr));
}

#[test]
fn put_names_the_line_that_it_cannot_send() {
    let services = Services::start();
    services.create_stream("lines", 1);
    let mut child = services.kinesink();
    child
        .args(["put", "lines", "-", "--key", "id"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"{\"id\":1}\n{\"no\":2}\n").unwrap();
    let refused = child.wait_with_output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let stderr = text(&refused.stderr);
    assert!(stderr.contains("line 2") && stderr.contains("\"id\""), "{stderr}");
}

#[test]
fn completions_and_the_man_page_come_from_the_same_definitions() {
    let bash = text(&output(kinesink().args(["completions", "bash"])).stdout);
    let man = text(&output(kinesink().arg("man")).stdout);
    for command in ["demo", "run", "local", "tail"] {
        assert!(bash.contains(command) && man.contains(command), "{command}");
    }
}

#[test]
fn the_user_example_prints_what_it_says() {
    let tests = std::env::current_exe().unwrap();
    let example = tests.parent().unwrap().parent().unwrap().join("examples/user");
    assert!(
        example.exists(),
        "{} is missing: run the tests without --test, which builds the examples",
        example.display()
    );
    let run = output(&mut std::process::Command::new(example));
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    assert_eq!(
        text(&run.stdout),
        "hello Ada, 36\nhello Cleo, 51\nhello Dan, 18\nrefused: not a user in JSON\nDrained\n"
    );
}

#[test]
fn state_survives_a_restart_of_the_local_services() {
    let directory = tempfile::tempdir().unwrap();
    let local = directory.path().join("local");
    let log = directory.path().join("log");
    let file = directory.path().join("records");
    std::fs::write(&file, "{\"a\":1}\n{\"a\":2}\n").unwrap();
    let put = output(
        kinesink()
            .arg("local")
            .arg(&local)
            .args(["--", env!("CARGO_BIN_EXE_kinesink"), "put", "kept"])
            .arg(&file)
            .args(["--create", "1"]),
    );
    assert_eq!(put.status.code(), Some(0), "{}", text(&put.stderr));
    // A kill -9 in between: what was acknowledged is there.
    let env = directory.path().join("env");
    let mut command = kinesink();
    command.arg("local").arg(&local).arg("--env").arg(&env);
    let process = Process::start(command, &log);
    eventually("the services are up", || env.exists().then_some(()));
    process.kill();
    let tail = ["--", env!("CARGO_BIN_EXE_kinesink"), "tail", "kept", "--from", "trim-horizon", "--records", "2"];
    let seen = output(kinesink().arg("local").arg(&local).args(tail));
    assert_eq!(text(&seen.stdout), "{\"a\":1}\n{\"a\":2}\n", "{}", text(&seen.stderr));
}

#[test]
fn a_signal_reaches_the_command_of_local() {
    let directory = tempfile::tempdir().unwrap();
    let ready = directory.path().join("ready");
    let script = format!("trap 'exit 9' TERM; touch {}; while :; do sleep 0.1; done", ready.display());
    let mut command = kinesink();
    command.args(["local", "--", "sh", "-c", &script]);
    let process = Process::start(command, &directory.path().join("log"));
    eventually("the command runs", || ready.exists().then_some(()));
    process.signal("-TERM");
    assert_eq!(process.wait().code(), Some(9));
}

#[test]
fn a_line_that_is_too_long_is_named_and_nothing_is_counted_twice() {
    let services = Services::start();
    services.create_stream("long", 1);
    let file = services.path("long.ndjson");
    std::fs::write(&file, format!("{{}}\n\"{}\"\n", "x".repeat(2_000_000))).unwrap();
    let refused = output(services.kinesink().args(["put", "long"]).arg(&file));
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("line 2: it is larger than 1 MiB"), "{}", text(&refused.stderr));
    let refused = output(services.kinesink().args(["put", "nowhere"]).arg(&file));
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused.stderr));
}
