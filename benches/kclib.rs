//! The Java Kinesis Connector Library under a meter, beside `kinesink run`.

use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::harness::{Services, cpu_s, drain, eventually, free_port, memory_kib, metric};
use crate::records::STREAM;

const KCLIB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/kclib");

/// One run of one job. What it took before its first record is part of neither `cpu_s` less `start_s` nor `wall_s`, where that is
/// told apart.
pub(crate) struct Run {
    pub(crate) wall_s: f64,
    pub(crate) cpu_s: f64,
    pub(crate) start_s: f64,
    pub(crate) rss_mib: f64,
}

/// Whether the library is there; how to get it, otherwise.
pub(crate) fn is_built() -> bool {
    let built = Path::new(KCLIB).join("classes").is_dir();
    if !built {
        println!("Java is left out: build it with `mvn -q -f benches/kclib compile`\n");
    }
    built
}

impl Services {
    /// A class of `benches/kclib` until so many records are delivered. `properties` are the library's, of its destination.
    pub(crate) fn java(&self, class: &str, app: &str, records: usize, properties: &[(&str, &str)]) -> Run {
        let mut command = Command::new("java");
        // Its Jackson is of 2015, and reaches into java.lang.
        command.args(["-Xmx1g", "--add-opens", "java.base/java.lang=ALL-UNNAMED", "-cp"]);
        command.arg(format!("{KCLIB}/classes:{KCLIB}/lib/*")).arg(class).arg(records.to_string());
        let usual = [
            ("appName", app),
            ("workerID", "java"),
            ("kinesisEndpoint", &self.kinesis),
            ("dynamoDBEndpoint", &self.dynamodb),
            ("kinesisInputStream", STREAM),
            ("initialPositionInStream", "TRIM_HORIZON"),
            ("regionName", "us-east-1"),
            ("maxRecords", "10000"),
            ("idleTimeBetweenReads", "200"),
            ("bufferRecordCountLimit", "10000"),
            ("bufferByteSizeLimit", "8388608"),
            ("bufferMillisecondsLimit", "500"),
        ];
        for (name, value) in usual.iter().chain(properties) {
            command.arg(format!("{name}={value}"));
        }
        command.envs(self.environment()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let start_s = lines.next().unwrap().strip_prefix("cpu ").unwrap().parse().unwrap();
        let start = Instant::now();
        assert_eq!(lines.next().unwrap(), "done");
        let wall_s = start.elapsed().as_secs_f64();
        let (cpu_s, rss_mib) = (cpu_s(child.id()), memory_kib(child.id(), "VmHWM:") / 1024.0);
        drop(child.stdin.take());
        child.wait().unwrap();
        Run { wall_s, cpu_s, start_s, rss_mib }
    }

    /// `kinesink run` until so many records are committed, with the buffer that Java has.
    pub(crate) fn kinesink(&self, app: &str, sink: &str, records: usize) -> Run {
        let port = free_port();
        let file = self.pipeline(app, sink, port);
        let start = Instant::now();
        let mut child = self.run(&file, &self.dynamodb);
        eventually(|| (metric(port, "kinesink_records_committed_total ")? >= records as f64).then_some(()));
        let wall_s = start.elapsed().as_secs_f64();
        let (cpu_s, rss_mib) = (cpu_s(child.id()), memory_kib(child.id(), "VmHWM:") / 1024.0);
        drain(&mut child);
        Run { wall_s, cpu_s, start_s: 0.0, rss_mib }
    }

    pub(crate) fn pipeline(&self, app: &str, sink: &str, port: u16) -> PathBuf {
        let (file, dead) = (self.path(&format!("{app}.toml")), self.path("dead"));
        let text = format!(
            "version = 1\napp = \"{app}\"\nmemory = \"64MiB\"\n\n[source]\nstream = \"{STREAM}\"\nregion = \"us-east-1\"\nstart = \
             \"trim-horizon\"\nidle = \"200ms\"\n\n[buffer]\nrecords = 10_000\nbytes = \"8MiB\"\nage = \
             \"500ms\"\n\n[metrics]\nlisten = \"127.0.0.1:{port}\"\n\n[dead_letter]\nurl = \"file://{}\"\n\n[[sink]]\n{sink}\n",
            dead.display(),
        );
        std::fs::write(&file, text).unwrap();
        file
    }
}
