//! Dead letters come back once, whatever was killed while they were written.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use crate::harness::{Process, Services, eventually, lines, objects, pause, pipeline_toml};

const RECORDS: usize = 600;

fn record(n: usize) -> Vec<u8> {
    format!(r#"{{"n":{n},"bad":{}}}"#, n.is_multiple_of(5)).into_bytes()
}

fn write_file(services: &Services, folder: &Path, jq: &str) -> std::path::PathBuf {
    let file = services.path("letters.toml");
    let text = pipeline_toml("letters", "letters", folder, "").replace("records = 200", "records = 30");
    let dead = services.path("dead");
    let text = text.replacen("[[sink]]", &format!("[transform]\njq = '{jq}'\n[[sink]]"), 1);
    std::fs::write(&file, format!("{text}\n[dead_letter]\nurl = \"file://{}\"\n", dead.display())).unwrap();
    file
}

fn replayed(services: &Services, file: &Path) -> (Option<i32>, String) {
    let Output { status, stdout, .. } = services.kinesink().arg("replay").arg(file).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap())
}

#[test]
fn dead_letters_are_delivered_once_however_often_they_are_replayed() {
    let services = Services::start();
    services.create_stream("letters", 2);
    let folder = services.path("objects");
    let strict = r#"if .bad then error("bad") else . end"#;
    let file = write_file(&services, &folder, strict);
    let start = || {
        let mut command = services.kinesink();
        command.arg("run").arg(&file);
        Process::start(command, &services.path("run.log"))
    };
    for round in 0..3 {
        let records: Vec<_> = (RECORDS / 3 * round..RECORDS / 3 * (round + 1)).map(record).collect();
        let before = objects(&folder).len();
        let process = start();
        services.put("letters", &records);
        eventually("an object lands", || (objects(&folder).len() > before).then_some(()));
        pause(Duration::from_millis(40 * round as u64));
        process.kill();
    }
    let good = RECORDS - RECORDS / 5;
    let process = start();
    eventually("what is good lands", || (lines(&folder).len() == good).then_some(()));
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "{log}");

    // Nothing was mended.
    let (code, told) = replayed(&services, &file);
    assert_eq!(code, Some(1), "{told}");
    assert!(
        told.contains("120 records of") && told.contains("120 refused again") && told.contains("transform: "),
        "{told}"
    );
    assert_eq!(lines(&folder).len(), good);

    write_file(&services, &folder, ".");
    let (code, told) = replayed(&services, &file);
    assert_eq!(code, Some(0), "{told}");
    assert!(
        told.starts_with("120 records of") && told.contains("120 outputs delivered, 0 filtered, 0 refused"),
        "{told}"
    );
    let landed = objects(&folder);
    let (code, again) = replayed(&services, &file);
    assert_eq!((code, again), (Some(0), told));
    assert!(objects(&folder) == landed, "a second replay changes nothing");
    assert!(lines(&folder) == (0..RECORDS).map(|n| (record(n), 1)).collect(), "each record is there once");

    // A filter of then sees what it sees now.
    write_file(&services, &folder, "empty");
    let (code, told) = replayed(&services, &file);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("0 outputs delivered"), "{told}");
    assert!(objects(&folder) == landed);
}

#[test]
fn a_file_without_dead_letters_has_nothing_to_replay() {
    let services = Services::start();
    let file = services.path("none.toml");
    std::fs::write(&file, pipeline_toml("none", "none", &services.path("objects"), "")).unwrap();
    let output = services.kinesink().arg("replay").arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("none.toml has no [dead_letter] to read from: add it"), "{said}");
}
