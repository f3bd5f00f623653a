//! Every `--help` is held by a golden file and shows an example. `UPDATE_GOLDEN=1` writes them anew.

use std::path::Path;

use crate::harness::{kinesink, output, text};

const COMMANDS: [&str; 10] = ["demo", "run", "check", "leases", "local", "put", "tail", "replay", "completions", "man"];

#[test]
#[expect(clippy::disallowed_methods, reason = "a test's switch, read nowhere else")]
fn help_is_as_the_golden_files_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/help");
    let whole = [vec!["--help"]].into_iter().chain(COMMANDS.iter().map(|command| vec![*command, "--help"]));
    for arguments in whole {
        let shown = output(kinesink().args(&arguments).env("COLUMNS", "100"));
        assert_eq!(shown.status.code(), Some(0), "{arguments:?}");
        let shown = text(&shown.stdout);
        assert!(shown.contains("Example"), "{arguments:?} shows no example:\n{shown}");
        let name = if arguments.len() == 1 { "kinesink" } else { arguments[0] };
        let golden = folder.join(format!("{name}.txt"));
        if std::env::var("UPDATE_GOLDEN").is_ok_and(|value| value == "1") {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&golden, &shown).unwrap();
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(
            shown,
            expected,
            "{} is stale: run the tests with UPDATE_GOLDEN=1 and look at the difference",
            golden.display()
        );
    }
}

#[test]
fn the_exit_codes_in_help_are_those_of_the_readme() {
    let help = text(&output(kinesink().arg("--help")).stdout);
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md")).unwrap();
    let rows: Vec<_> = readme.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | ")).collect();
    let codes: Vec<_> = rows.iter().filter(|(code, _)| code.parse::<u8>().is_ok()).collect();
    assert_eq!(codes.len(), 6);
    for (code, meaning) in codes {
        let meaning = meaning.trim_end_matches(" |");
        assert!(help.contains(&format!("{code}  {meaning}")), "{code} {meaning} is missing in\n{help}");
    }
}
