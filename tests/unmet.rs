//! Settings that are allowed and that no record meets: somebody is told.

use crate::harness::{Process, Services, eventually, numbered, output, pipeline_toml, text};

/// A field that no record has, of objects and of what is counted: each sink says so once, amid the run or at its end.
#[test]
fn an_event_time_that_no_record_has_was_taken_for_the_arrival_in_silence() {
    let services = Services::start();
    services.create_stream("times", 1);
    services.put("times", &numbered(0, 1_100));
    let template = |app: &str, field: &str| {
        let toml = pipeline_toml(app, "times", &services.path(app), "");
        let event_time = format!("event_time = {{ field = \"{field}\", format = \"epoch-s\" }}");
        format!(
            "{toml}key = \"h={{event:%H}}/{{first}}\"\n{event_time}\n[[sink]]\ntype = \"dynamodb\"\ntable = \"minutes\"\n\
             key = {{ id = \"{{shard}}\", at = \"{{window}}\" }}\n[sink.aggregate]\nwindow = \"1m\"\ncount = \"n\"\n{event_time}\n\
             [dead_letter]\nurl = \"file://{}\"\n",
            services.path("dead").display()
        )
    };
    for (app, field, told) in [("missing", ".time", 2), ("there", ".n", 0)] {
        let file = services.path(&format!("{app}.toml"));
        std::fs::write(&file, template(app, field)).unwrap();
        let mut command = services.kinesink();
        command.arg("run").arg(&file).arg("--create");
        let process = Process::start(command, &services.path(&format!("{app}.log")));
        eventually("all is counted", || {
            let checkpoints = services.checkpoints(app);
            checkpoints.values().any(|checkpoint| checkpoint != "TRIM_HORIZON").then_some(())
        });
        if told > 0 {
            eventually("a thousand are enough to tell", || {
                process.log().contains("no record had an event time").then_some(())
            });
        }
        let (code, log) = process.terminate();
        assert_eq!(code, 0, "{log}");
        let lines: Vec<_> = log.lines().filter(|line| line.contains("no record had an event time")).collect();
        assert_eq!(lines.len(), told, "{log}");
        for line in lines {
            assert!(line.contains("WARN") && line.contains("field=.time") && line.contains("format=epoch-s"), "{line}");
        }
    }
}

/// A mistyped field in a key: the sink says so once, amid the run or at its end, and of no field that records have.
#[test]
fn a_key_field_that_no_record_has_sent_all_to_the_unknown_in_silence() {
    let services = Services::start();
    services.create_stream("fields", 1);
    let record = |n: usize| format!(r#"{{"kind":"{}"}}"#, ["a", "b"][n % 2]).into_bytes();
    services.put("fields", &(0..1_100).map(record).collect::<Vec<_>>());
    let run = |app: &str, key: &str| {
        let (file, folder) = (services.path(&format!("{app}.toml")), services.path(app));
        std::fs::write(&file, pipeline_toml(app, "fields", &folder, &format!("key = \"{key}\""))).unwrap();
        let mut command = services.kinesink();
        command.arg("run").arg(&file);
        let process = Process::start(command, &services.path(&format!("{app}.log")));
        eventually("some is written", || {
            let checkpoints = services.checkpoints(app);
            checkpoints.values().any(|checkpoint| checkpoint != "TRIM_HORIZON").then_some(())
        });
        let (code, log) = process.terminate();
        assert_eq!(code, 0, "{log}");
        let told = log.lines().filter(|line| line.contains("no record had a value for a key"));
        told.map(str::to_owned).collect::<Vec<_>>()
    };
    let told = run("mistyped", "{.knid}/{.kind}/{first}");
    let [line] = &told[..] else { panic!("{told:?}") };
    assert!(line.contains("WARN") && line.contains("field=.knid"), "{line}");
    assert!(line.contains("name a field in `key` that the records have"), "{line}");
    assert_eq!(run("right", "{.kind}/{first}"), [""; 0]);
}

#[test]
fn columns_of_a_sample_broke_a_file_whose_last_sink_was_another_or_had_some() {
    let services = Services::start();
    services.create_stream("sampled", 1);
    services.put("sampled", &[br#"{"n":1,"name":"a"}"#.to_vec()]);
    let file = services.path("sampled.toml");
    let sink = |name: &str, more: &str| {
        let folder = services.path(name);
        format!("[[sink]]\ntype = \"s3\"\nname = \"{name}\"\nurl = \"file://{}\"\n{more}", folder.display())
    };
    let head = "version = 1\napp = \"sampled\"\n[source]\nstream = \"sampled\"\n";
    let (rows, lines) = (sink("rows", "format = \"parquet\"\n"), sink("lines", "# the last one"));
    let sampled = |toml: &str| {
        std::fs::write(&file, toml).unwrap();
        let sample = output(services.kinesink().arg("check").arg(&file).args(["--sample", "5"]));
        assert_eq!(sample.status.code(), Some(0), "{}", text(&sample.stderr));
        text(&sample.stdout)
    };
    let checked = |toml: &str| {
        std::fs::write(&file, toml).unwrap();
        let check = output(services.kinesink().arg("check").arg(&file));
        (check.status.code(), text(&check.stderr))
    };

    // At the end, though that is amid a line.
    let toml = format!("{head}{lines}\n{}", rows.trim_end());
    let sample = sampled(&toml);
    assert!(sample.contains("\n[sink.columns]\n") && sample.contains("\nn = \"int64\"\n"), "{sample}");
    assert_eq!(checked(&(toml + &sample)), (Some(0), String::new()));

    // Behind another sink they say where they go, and the file is as good as before.
    let toml = format!("{head}{rows}{lines}");
    let sample = sampled(&toml);
    assert!(sample.lines().all(|line| line.is_empty() || line.starts_with("# ")), "{sample}");
    assert!(sample.contains("go below the keys of sink `rows`, before the next `[[sink]]`"), "{sample}");
    let (code, said) = checked(&format!("{toml}{sample}"));
    assert!(code == Some(2) && said.contains("sink `rows` writes Parquet files and has no columns"), "{said}");
    let columns: String = sample.split_inclusive('\n').filter_map(|line| line.strip_prefix("# ")).skip(1).collect();
    let columns = columns.split_once("[sink.columns]").unwrap().1;
    let pasted = format!("{head}{rows}[sink.columns]{columns}{lines}");
    assert_eq!(checked(&pasted), (Some(0), String::new()));

    // With columns, and without a sink that could have some.
    assert!(sampled(&pasted).contains("go in place of the columns of sink `rows`"));
    assert!(sampled(&format!("{head}{lines}")).contains("a sink with `format = \"parquet\"`, which this file has not"));

    services.fault(r#"[{"operation":"GetRecords","times":1000,"kind":{"error":{"code":"AccessDeniedException"}}}]"#);
    let denied = output(services.kinesink().arg("check").arg(&file).args(["--sample", "5"]));
    let said = text(&denied.stderr);
    assert!(denied.status.code() == Some(3) && said.contains("grant the permission to this role"), "{said}");
}
