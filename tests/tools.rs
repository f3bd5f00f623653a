//! `local`, `check`, completions, readers that leave, and the examples.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::harness::{Process, Services, eventually, kinesink, numbered, output, pipeline_toml, text};

#[test]
fn local_prints_shell_lines_and_nothing_else_once_every_port_answers() {
    let directory = tempfile::tempdir().unwrap();
    let script = r#"echo "$AWS_ENDPOINT_URL_KINESIS $AWS_ENDPOINT_URL_DYNAMODB $AWS_ENDPOINT_URL_S3 $AWS_REGION $AWS_ACCESS_KEY_ID"; exit 7"#;
    let run = output(kinesink().args(["local", "--", "sh", "-c", script]));
    assert_eq!(run.status.code(), Some(7), "the command's code: {}", text(&run.stderr));
    let seen = text(&run.stdout);
    assert_eq!(seen.matches("http://127.0.0.1:").count(), 3, "{seen}");
    assert!(seen.ends_with(" us-east-1 local\n"), "{seen}");

    let mut child = kinesink().arg("local").arg(directory.path()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut lines = vec![String::new(); 7];
    for line in &mut lines {
        stdout.read_line(line).unwrap();
    }
    assert!(lines.iter().all(|line| line.starts_with("export AWS_")), "{lines:?}");
    let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
    let addresses: Vec<_> = lines.iter().filter_map(|line| line.split_once("=http://")).collect();
    assert_eq!(addresses.len(), 3);
    for (name, address) in addresses {
        assert!(std::net::TcpStream::connect(address).is_ok(), "{name} is printed before its port answers");
    }
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(stdout.lines().map(Result::unwrap).collect::<Vec<_>>(), [""; 0], "nothing else was printed");
}

#[test]
fn kinesink_trusts_the_local_kinesis_in_tls_by_its_bundle_alone() {
    let directory = tempfile::tempdir().unwrap();
    let lines = directory.path().join("lines");
    std::fs::write(&lines, "{}\n").unwrap();
    let put = |script: &str| {
        let mut local = kinesink();
        local.args(["local", "--tls", "--", "sh", "-c", script, "sh"]).arg(env!("CARGO_BIN_EXE_kinesink")).arg(&lines);
        output(&mut local)
    };
    let trusted = put(r#""$1" put secured "$2" --create 1"#);
    assert_eq!(trusted.status.code(), Some(0), "{}", text(&trusted.stderr));
    assert_eq!(text(&trusted.stdout), "1 lines sent to secured in 1 Kinesis records\n");
    let doubted = put(r#"unset AWS_CA_BUNDLE; "$1" tail secured"#);
    assert_eq!(doubted.status.code(), Some(3));
    let said = text(&doubted.stderr);
    assert!(said.contains("no answer from https://127.0.0.1:") && said.contains("certificate"), "{said}");
}

#[test]
fn a_sample_is_of_all_shards_from_the_oldest_record_on_though_iterators_expire() {
    let services = Services::start();
    services.create_stream("sampled", 2);
    let records: Vec<_> = (0..300).map(|id| format!(r#"{{"id":{id},"at":"2026-01-31"}}"#).into_bytes()).collect();
    services.put("sampled", &records);
    services.fault(r#"[{"operation":"GetRecords","times":1,"kind":"expire"}]"#);
    let file = services.path("sampled.toml");
    std::fs::write(&file, pipeline_toml("sampled", "sampled", &services.path("objects"), "")).unwrap();
    let proposed = |count: &str| {
        let run = output(services.kinesink().arg("check").arg(&file).args(["--sample", count]));
        assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
        text(&run.stdout)
    };
    let all = proposed("1000");
    assert!(all.contains("300 records") && all.contains("id = \"int64\"") && all.contains("at = \"date\""), "{all}");
    assert!(proposed("20").contains("20 records"));
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
    let mut sh = Command::new("sh");
    let seen = output(sh.args(shell).arg(&lines).arg(directory.path()).current_dir(directory.path()));
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let printed = text(&seen.stdout);
    assert!(seen.status.success() && printed.starts_with(state.to_str().unwrap()), "{printed} {}", text(&seen.stderr));
    assert!(!directory.path().join("expanded").exists(), "{printed}");
}

#[test]
fn a_port_in_use_and_a_directory_in_use_are_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let directory = tempfile::tempdir().unwrap();
    let env = directory.path().join("env");
    std::fs::write(&env, "export AWS_ENDPOINT_URL_KINESIS=of-an-earlier-run\n").unwrap();
    let refused = output(kinesink().args(["local", "--kinesis-port", &port, "--env"]).arg(&env));
    assert_eq!(refused.status.code(), Some(3));
    assert!(text(&refused.stderr).contains(&format!("127.0.0.1:{port}")), "{}", text(&refused.stderr));
    assert!(!env.exists(), "the file points at services that are not there");

    std::fs::write(&env, "SECRET=mine\n").unwrap();
    let refused = output(kinesink().args(["local", "--env"]).arg(&env));
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("did not write it"), "{}", text(&refused.stderr));
    assert_eq!(std::fs::read(&env).unwrap(), b"SECRET=mine\n");

    let services = Services::start();
    let refused = output(kinesink().arg("local").arg(services.path("local")));
    assert_eq!(refused.status.code(), Some(3));
    let pid = std::fs::read_to_string(services.path("local/lock")).unwrap();
    assert!(text(&refused.stderr).contains(&format!("process {}", pid.trim())), "{}", text(&refused.stderr));
}

#[test]
fn completions_and_the_man_page_come_from_the_same_definitions() {
    let bash = text(&output(kinesink().args(["completions", "bash"])).stdout);
    let man = text(&output(kinesink().arg("man")).stdout);
    for command in ["demo", "run", "local", "tail"] {
        assert!(bash.contains(command) && man.contains(command), "{command}");
    }
    let man = text(&output(kinesink().args(["man", "run"])).stdout);
    assert!(man.contains("kinesink\\-run") && man.contains("\\-\\-create") && !man.contains("transitions"), "{man}");
    let unknown = output(kinesink().args(["man", "walk"]));
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("\"walk\""), "{}", text(&unknown.stderr));
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let services = Services::start();
    services.create_stream("pipe", 1);
    services.put("pipe", &numbered(0, 2_000));
    let (file, records) = (services.path("pipe.toml"), services.path("records"));
    std::fs::write(&file, pipeline_toml("pipe", "pipe", &services.path("objects"), "")).unwrap();
    std::fs::write(&records, "{}\n").unwrap();
    let (file, records) = (file.to_str().unwrap(), records.to_str().unwrap());
    for arguments in [
        &["tail", "pipe", "--from", "trim-horizon"][..],
        &["put", "pipe", records],
        &["check", file],
        &["completions", "bash"],
        &["man"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let left = services.kinesink().args(arguments).stdout(writer).output().unwrap();
        assert_eq!(left.status.code(), Some(0), "{arguments:?}: {}", text(&left.stderr));
    }
}

/// An example as cargo built it beside the tests.
fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let example = tests.parent().unwrap().parent().unwrap().join("examples").join(name);
    let missing = example.display();
    assert!(example.exists(), "{missing} is missing: run the tests without --test, which builds the examples");
    example
}

#[test]
fn the_user_example_prints_what_it_says() {
    let run = output(&mut Command::new(example("user")));
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    assert_eq!(
        text(&run.stdout),
        "hello Ada, 36\nhello Cleo, 51\nhello Dan, 18\nrefused: not a user in JSON\nDrained\n"
    );
}

#[test]
fn the_latest_example_prints_what_it_says() {
    let run = output(&mut Command::new(example("latest")));
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    assert_eq!(text(&run.stdout), "Drained\ncellar: 13.75\nroof: 29.25\n");
}

#[test]
fn the_journal_example_writes_each_record_down_and_goes_on_where_it_ended() {
    let services = Services::start();
    services.create_stream("journal", 2);
    let journal = services.path("journal.tsv");
    let start = || {
        let mut command = Command::new(example("journal"));
        command.envs(services.environment()).args(["journal", "journal-app", "one"]).arg(&journal).arg("10000");
        Process::start(command, &services.path("journal.log"))
    };
    let written = || {
        let text = std::fs::read_to_string(&journal).unwrap_or_default();
        let records = text.lines().map(|line| line.split('\t').map(str::to_owned).collect::<Vec<_>>());
        let mut places: Vec<_> =
            records.filter(|words| words[2] == "record").map(|words| (words[3].clone(), words[4].clone())).collect();
        places.sort();
        places
    };
    for put in [300, 600] {
        services.put("journal", &numbered(put - 300, put));
        let process = start();
        eventually("the records are written down", || (written().len() >= put).then_some(()));
        process.signal("-INT");
        assert_eq!(process.wait().code(), Some(0));
    }
    let mut stored: Vec<_> =
        services.read_stream("journal").into_iter().map(|(shard, sequence, _)| (shard, sequence)).collect();
    stored.sort();
    assert_eq!(written(), stored, "a worker that was drained reads nothing again");
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
