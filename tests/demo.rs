//! The main job, and that its verification can say no.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::harness::{Process, eventually, http, kinesink, objects, output, text};

#[test]
fn the_demo_verifies_what_landed_and_sees_a_tampered_object() {
    let directory = tempfile::tempdir().unwrap();
    let demo = directory.path().join("a demo's");
    let run = |more: &[&str]| output(kinesink().arg("demo").arg("--dir").arg(&demo).args(more));

    let first = run(&[]);
    let (stdout, stderr) = (text(&first.stdout), text(&first.stderr));
    assert_eq!(first.status.code(), Some(0), "{stdout}\n{stderr}");
    for said in
        ["20000 records of New York flights", "filtered", "records/s", "verified:", "try next:", "kinesink check"]
    {
        assert!(stdout.contains(said), "{said:?} is missing in\n{stdout}");
    }
    let words = stdout.lines().find_map(|line| line.strip_prefix("  kinesink check ")).unwrap();
    let pasted = output(std::process::Command::new("sh").arg("-c").arg(format!("cat {words}")));
    assert!(text(&pasted.stdout).contains("[[sink]]"), "{words} is not one word: {}", text(&pasted.stderr));
    assert!(!stdout.contains('\u{1b}'), "plain lines where there is no terminal:\n{stdout}");

    let found = objects(&demo.join("objects"));
    let lines: usize = found.iter().map(|(_, lines)| lines.len()).sum();
    assert!(found.len() >= 4 && lines > 1_000, "{} objects, {lines} lines", found.len());
    let victim: PathBuf = found[0].0.clone();
    let name = victim.file_name().unwrap().to_str().unwrap().to_owned();
    let whole = std::fs::read(&victim).unwrap();
    let sees = |what: &str| {
        let check = run(&["--verify"]);
        let stderr = text(&check.stderr);
        assert_eq!(check.status.code(), Some(1), "{what}: {stderr}");
        assert!(stderr.contains(&name), "{what}: {name} is not named in\n{stderr}");
    };

    assert_eq!(run(&["--verify"]).status.code(), Some(0), "untouched");

    std::fs::remove_file(&victim).unwrap();
    sees("deleted");

    std::fs::write(&victim, &whole).unwrap();
    let twin = victim.with_extension("twin");
    std::fs::copy(&victim, &twin).unwrap();
    sees("doubled");
    std::fs::remove_file(&twin).unwrap();

    let mut altered = whole.clone();
    let place = altered.iter().position(|byte| *byte == b'2').unwrap();
    altered[place] = b'3';
    std::fs::write(&victim, &altered).unwrap();
    sees("altered");

    std::fs::write(&victim, &whole).unwrap();
    assert_eq!(run(&["--verify"]).status.code(), Some(0), "restored");

    let again = run(&[]);
    assert_eq!(again.status.code(), Some(0), "a second demo replaces the first: {}", text(&again.stderr));
}

/// What a terminal was sent: everything, until the last process that held it has ended.
fn shown_on(terminal: OwnedFd) -> String {
    let mut shown = Vec::new();
    // A terminal that nobody holds any more is an error to read from, on Linux.
    let _ended = std::fs::File::from(terminal).read_to_end(&mut shown);
    text(&shown)
}

#[test]
fn a_terminal_sees_a_progress_bar_and_a_pipe_plain_lines() {
    let directory = tempfile::tempdir().unwrap();
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let side = std::fs::File::options().read(true).write(true).open(name).unwrap();
    let mut command = kinesink();
    command.env("TERM", "xterm").args(["--log-level", "warn", "demo", "--dir"]).arg(directory.path().join("seen"));
    let child = command.stdout(Stdio::piped()).stderr(side).spawn().unwrap();
    // It holds our side of the terminal too, which would then never end.
    drop(command);
    let shown = shown_on(terminal);
    let run = child.wait_with_output().unwrap();
    assert_eq!(run.status.code(), Some(0), "{shown}");
    assert!(shown.contains("\u{1b}[") && shown.contains("/20000 records"), "no bar: {shown:?}");
    let stdout = text(&run.stdout);
    assert!(
        !stdout.contains('\u{1b}') && !stdout.contains("records delivered"),
        "data is no place for a bar:\n{stdout}"
    );

    let mut command = kinesink();
    let run = output(command.args(["--log-level", "warn", "demo", "--dir"]).arg(directory.path().join("piped")));
    let (stdout, stderr) = (text(&run.stdout), text(&run.stderr));
    assert_eq!(run.status.code(), Some(0), "{stderr}");
    assert!(
        stdout.contains("\n20000 of 20000 records delivered or filtered\n"),
        "no plain line of progress:\n{stdout}"
    );
    assert!(!stdout.contains('\u{1b}') && stderr.is_empty(), "plain lines, and no bar:\n{stdout}{stderr:?}");
}

#[test]
fn a_directory_that_is_not_a_demos_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("precious"), "data").unwrap();
    let refused = output(kinesink().arg("demo").arg("--dir").arg(directory.path()));
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("it is not empty"), "{}", text(&refused.stderr));
    assert_eq!(directory.path().read_dir().unwrap().count(), 1);
}

#[test]
fn a_demo_whose_pipeline_fails_ends_at_once_and_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = kinesink();
    command.arg("demo").arg("--dir").arg(directory.path().join("demo"));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let (_, address) = line.split_once("Kinesis at http://").expect(&line);
    let denied = r#"[{"operation":"ListShards","times":1000,"kind":{"error":{"code":"AccessDeniedException"}}}]"#;
    let planted = http(address.split_once(',').unwrap().0, "POST", "/_kinesink/faults", denied);
    assert!(planted.starts_with("HTTP/1.1 2"), "{planted}");
    // To its end, so that it is never held up.
    stdout.read_to_string(&mut line).unwrap();
    let failed = child.wait_with_output().unwrap();
    let said = text(&failed.stderr);
    assert_eq!(failed.status.code(), Some(3), "{said}");
    assert!(said.contains("AccessDeniedException") && said.contains("grant the permission"), "{said}");
}

#[test]
fn one_signal_ends_the_demo() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = kinesink();
    command.arg("demo").arg("--dir").arg(directory.path().join("demo"));
    let process = Process::start(command, &directory.path().join("log"));
    eventually("a lease is taken", || process.log().contains("lease taken").then_some(()));
    process.signal("-INT");
    let log = directory.path().join("log");
    assert_eq!(process.wait().code(), Some(4));
    let said = std::fs::read_to_string(log).unwrap();
    assert!(said.contains("stopped by a signal before the demo was done"), "{said}");
}

#[test]
fn an_edited_pipeline_of_a_demo_is_not_written_over() {
    let directory = tempfile::tempdir().unwrap();
    let demo = directory.path().join("demo");
    std::fs::create_dir(&demo).unwrap();
    std::fs::write(demo.join(".kinesink-demo"), "1 0.1.0\n").unwrap();
    std::fs::write(demo.join("flights.toml"), "mine").unwrap();
    let refused = output(kinesink().arg("demo").arg("--dir").arg(&demo));
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("flights.toml was edited"), "{}", text(&refused.stderr));
    assert_eq!(std::fs::read(demo.join("flights.toml")).unwrap(), b"mine");
    assert!(!demo.join("objects").exists(), "something was begun");
}
