//! Dead letters that one replay does not settle: the next one sends the rest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::harness::{Process, Services, eventually, lines, objects};
use crate::replay::{record, replayed, write_file};

const RECORDS: usize = 200;
const STRICT: &str = r#"if .bad then error("bad") else . end"#;

/// Every fifth record is in the dead letters, the others in `objects`.
fn refused(services: &Services, folder: &Path) -> PathBuf {
    services.create_stream("letters", 1);
    let file = write_file(services, folder, STRICT);
    services.put("letters", &(0..RECORDS).map(record).collect::<Vec<_>>());
    let mut command = services.kinesink();
    command.arg("run").arg(&file);
    let process = Process::start(command, &services.path("run.log"));
    eventually("what is good lands", || (lines(folder).len() == RECORDS - RECORDS / 5).then_some(()));
    assert_eq!(process.terminate().0, 0);
    file
}

fn all_once() -> BTreeMap<Vec<u8>, usize> {
    (0..RECORDS).map(|n| (record(n), 1)).collect()
}

/// Objects of dead letters, in the order of their windows.
fn letters(services: &Services) -> Vec<PathBuf> {
    let folder = services.path("dead/letters/shardId-000000000000");
    let mut found: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "ndjson"));
    found.sort();
    found
}

#[test]
fn what_one_replay_was_refused_goes_into_objects_of_the_next_and_nothing_is_there_twice() {
    let services = Services::start();
    let folder = services.path("objects");
    let file = refused(&services, &folder);
    // Every second one of them is mended.
    write_file(&services, &folder, r#"if .n % 10 == 0 then error("bad") else . end"#);
    let (code, told) = replayed(&services, &file);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("20 outputs delivered, 0 filtered, 20 refused again"), "{told}");
    write_file(&services, &folder, ".");
    let (code, told) = replayed(&services, &file);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.starts_with("20 records of") && told.contains("20 outputs delivered"), "{told}");
    assert!(told.contains("20 outputs had been delivered by earlier replays"), "{told}");
    assert!(lines(&folder) == all_once());
    let landed = objects(&folder);
    let names = |end: &str| landed.iter().filter(|(path, _)| path.to_string_lossy().ends_with(end)).count();
    assert!(names("-replay.ndjson") > 1 && names("-replay.ndjson") == names("-replay-2.ndjson"));
    let (code, told) = replayed(&services, &file);
    assert!(code == Some(0) && told.starts_with("0 records"), "{told}");
    assert!(objects(&folder) == landed);
}

#[test]
fn what_a_sink_refuses_of_a_round_waits_for_the_next_replay() {
    let services = Services::start();
    let folder = services.path("objects");
    let file = refused(&services, &folder);
    write_file(&services, &folder, r#"if .n % 10 == 0 then .n = "no number" else . end"#);
    let text = std::fs::read_to_string(&file).unwrap();
    let parquet = "format = \"parquet\"\ncolumns = { n = \"int64\", bad = \"boolean\" }\n";
    std::fs::write(&file, text.replace("format = \"ndjson\"\n", parquet)).unwrap();
    let (code, told) = replayed(&services, &file);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("20 outputs delivered, 0 filtered, 20 refused again"), "{told}");
}

/// The outputs of a record that has fewer now had been told apart by the numbers that they had: one of them was lost, one there twice.
#[test]
fn what_a_program_of_other_outputs_makes_is_not_sent_until_it_makes_as_many() {
    let services = Services::start();
    services.create_stream("letters", 1);
    let (folder, of_letters) = (services.path("objects"), services.path("letters.toml"));
    let write = |jq: &str| {
        write_file(&services, &folder, jq);
        let text = std::fs::read_to_string(&of_letters).unwrap();
        let parquet = "format = \"parquet\"\ncolumns = { id = \"int64\" }\n";
        std::fs::write(&of_letters, text.replace("format = \"ndjson\"\n", parquet)).unwrap();
    };
    write(".items[]");
    services.put("letters", &[br#"{"items":[{"id":null},{"id":"7"},{"id":3}]}"#.to_vec()]);
    let mut command = services.kinesink();
    command.arg("run").arg(&of_letters);
    let process = Process::start(command, &services.path("run.log"));
    let folder_of_letters = services.path("dead/letters/shardId-000000000000");
    eventually("the refused output is a letter", || folder_of_letters.exists().then_some(()));
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "{log}");
    let before = objects(&folder);

    write(".items[] | select(.id != null) | .id |= tonumber");
    let (code, told) = replayed(&services, &of_letters);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("0 outputs delivered, 0 filtered, 1 refused again"), "{told}");
    assert!(told.contains("had 3 outputs when one of them was refused and has 2 now"), "{told}");
    assert!(objects(&folder) == before);
    write(".items[] | .id |= (tonumber? // .)");
    let (code, told) = replayed(&services, &of_letters);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("1 outputs delivered, 0 filtered, 0 refused again"), "{told}");
}

/// The replay ended there, and gave up all later windows.
#[test]
fn a_window_that_cannot_be_replayed_is_told_with_its_remedy_and_the_others_are_sent() {
    let services = Services::start();
    let folder = services.path("objects");
    let file = refused(&services, &folder);
    write_file(&services, &folder, ".");
    // In the way of the first window's replay, and damaged letters of the second.
    let first = letters(&services).swap_remove(0).file_name().unwrap().to_string_lossy().into_owned();
    let in_the_way = folder.join(format!("letters/shardId-000000000000/{}-replay.ndjson", first.get(..131).unwrap()));
    std::fs::write(&in_the_way, "in the way\n").unwrap();
    let damaged = letters(&services).swap_remove(1);
    let text = std::fs::read_to_string(&damaged).unwrap();
    std::fs::write(&damaged, format!("{text}no letter\n")).unwrap();
    let of_two: usize = letters(&services)[..2].iter().map(|path| text_lines(path)).sum::<usize>() - 1;

    for delivered in [40 - of_two, 0] {
        let (code, told) = replayed(&services, &file);
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains(&format!("{delivered} outputs delivered")), "{told}");
        assert!(told.contains("2 of the windows could not be replayed:\n  records "), "{told}");
        assert!(told.contains(" of shardId-000000000000: ") && told.contains("move it away"), "{told}");
        assert!(told.contains(": mend the line, or remove it"), "{told}");
        assert!(told.contains("error: 2 of the windows could not be replayed: mend what is said of each"), "{told}");
    }
    std::fs::remove_file(&in_the_way).unwrap();
    std::fs::write(&damaged, text).unwrap();
    let (code, told) = replayed(&services, &file);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains(&format!("{of_two} outputs delivered")), "{told}");
    assert!(lines(&folder) == all_once());
}

/// Each of them was shown as refused, by its position, and no remedy.
#[test]
fn letters_for_a_sink_that_the_file_has_not_are_told_once_with_the_remedy() {
    let services = Services::start();
    let file = write_file(&services, &services.path("objects"), ".");
    let folder = services.path("dead/letters/shardId-000000000000");
    std::fs::create_dir_all(&folder).unwrap();
    for (number, sink) in [(1, "gone"), (2, "s3"), (3, "gone")] {
        let letter = format!(
            "{{\"version\":1,\"stage\":\"sink:{sink}\",\"stream\":\"letters\",\"shard\":\"shardId-000000000000\",\
             \"sequence\":\"{number}\",\"sub_sequence\":0,\"ordinal\":0,\"arrival\":\"2026-01-02T03:04:05Z\",\
             \"partition_key\":null,\"reason\":\"then\",\"data\":\"e30=\"}}\n"
        );
        std::fs::write(folder.join(format!("{number}.0-{number}.0-x.ndjson")), letter).unwrap();
    }
    let remedy = "letters are for sink gone, which the file has not: give its name to the sink that is to have them";
    for delivered in [1, 0] {
        let (code, told) = replayed(&services, &file);
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains(&format!("{delivered} outputs delivered, 0 filtered, 0 refused again")), "{told}");
        assert_eq!(told.matches(remedy).count(), 1, "{told}");
    }
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("format = \"ndjson\"\n", "format = \"ndjson\"\nname = \"gone\"\n")).unwrap();
    let (code, told) = replayed(&services, &file);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("2 outputs delivered") && !told.contains("letters are for"), "{told}");
}

fn text_lines(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap().lines().count()
}

/// A window was given up and cut with another end: both want one name where a key has no `{last}`.
#[test]
fn letters_of_attempts_that_ended_elsewhere_are_each_sent_once_whenever_they_come() {
    for key in ["{stream}/{shard}/{first}", "{shard}/{first}-{last}", "{first}-{count}"] {
        let services = Services::start();
        let folder = services.path("objects");
        let file = refused(&services, &folder);
        // The first attempt was at half of the first window, a third began in it and went on behind it.
        let windows = letters(&services);
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        let (first, rest) = (name(&windows[0]), read(&windows[0]));
        let positions = |name: &str| (name.get(..65).unwrap().to_owned(), name.get(66..131).unwrap().to_owned());
        let (begin, _) = positions(&first);
        let (second_begin, second_end) = positions(&name(&windows[1]));
        let lines: Vec<&str> = rest.lines().collect();
        assert!(lines.len() > 2, "{rest}");
        let half = format!("{}\n", lines[..2].join("\n"));
        let of_third = format!("{}\n{}", lines[lines.len() - 1], read(&windows[1]));
        let position = |line: &str| {
            let letter: serde_json::Value = serde_json::from_str(line).unwrap();
            format!("{:0>56}.00000000", letter["sequence"].as_str().unwrap())
        };
        let path = |name: String| windows[0].with_file_name(name);
        let mended = |key: &str| {
            write_file(&services, &folder, ".");
            let text = std::fs::read_to_string(&file).unwrap();
            let text = text.replace("format = \"ndjson\"\n", &format!("format = \"ndjson\"\nkey = \"{key}\"\n"));
            std::fs::write(&file, text).unwrap();
        };
        mended(key);
        std::fs::remove_file(&windows[0]).unwrap();
        std::fs::remove_file(&windows[1]).unwrap();
        std::fs::write(path(format!("{begin}-{}-one.ndjson", position(lines[1]))), half).unwrap();
        let (code, told) = replayed(&services, &file);
        assert_eq!(code, Some(0), "{key}: {told}");
        let landed = objects(&folder);
        // The letters of the whole window, and of one that begins in it, come later.
        std::fs::write(path(first), &rest).unwrap();
        let third = format!("{}-{second_end}-three.ndjson", position(lines[lines.len() - 1]));
        assert!(third < second_begin);
        std::fs::write(path(third), of_third).unwrap();
        for replay in 0..2 {
            let (code, told) = replayed(&services, &file);
            assert_eq!(code, Some(0), "{key}: {told}");
            assert!(replay == 0 || told.starts_with("0 records"), "{key}: {told}");
            assert!(crate::harness::lines(&folder) == all_once(), "{key}: {told}");
        }
        assert!(landed.iter().all(|object| objects(&folder).contains(object)), "{key}: what is there is not changed");
    }
}

/// Both stood, each where the file of its time had put it, and the replay ended with 0.
#[test]
fn a_round_that_was_killed_is_not_sent_again_by_a_file_that_was_changed_since() {
    let services = Services::start();
    let folder = services.path("objects");
    let file = refused(&services, &folder);
    let mended = |jq: &str| {
        write_file(&services, &folder, jq);
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.replace("format = \"ndjson\"\n", "format = \"ndjson\"\nkey = \"bad={.bad}/{first}-{last}\"\n");
        std::fs::write(&file, text).unwrap();
    };
    mended(".");
    assert_eq!(replayed(&services, &file).0, Some(0));
    assert!(lines(&folder) == all_once());
    let landed = objects(&folder);
    // As a kill between the object and the note leaves it.
    let name = letters(&services).swap_remove(0).file_name().unwrap().to_string_lossy().into_owned();
    let note = services.path(&format!("dead/letters/shardId-000000000000/.{}-replay-1", name.get(..65).unwrap()));
    std::fs::remove_file(format!("{}-done.json", note.display())).unwrap();

    mended(".bad = \"mended\"");
    for _ in 0..2 {
        let (code, told) = replayed(&services, &file);
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains("1 of the windows could not be replayed:\n  records "), "{told}");
        assert!(told.contains(&format!("remove {}.json", note.display())), "{told}");
        assert!(objects(&folder) == landed, "{told}");
    }
    mended(".");
    let (code, told) = replayed(&services, &file);
    assert_eq!(code, Some(0), "{told}");
    assert!(objects(&folder) == landed, "{told}");
}
