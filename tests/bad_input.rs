//! What a person mistypes or forgets: the message, the exit code, and nothing started.

use crate::harness::{Services, kinesink, objects, output, pipeline_toml, text};

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
    assert!(said.contains("missing") && said.contains("--create"), "{said}");
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
    assert!(matches!(run.status.code(), Some(2 | 3)), "{said}");
    assert!(said.contains("region"), "{said}");
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
}
