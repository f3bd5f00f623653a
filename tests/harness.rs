//! Processes, streams and objects as the tests see them. Shares no code with what is tested.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, Record, ShardIteratorType};

/// Whatever is waited for comes sooner than this, or the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(20);

pub(crate) fn kinesink() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kinesink"));
    command.stdin(Stdio::null());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AWS_")) {
        command.env_remove(name);
    }
    // No credentials of the machine, no metadata service.
    command.env("AWS_EC2_METADATA_DISABLED", "true").env("HOME", "/nonexistent");
    command
}

pub(crate) fn output(command: &mut Command) -> Output {
    command.output().expect("the binary starts")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Polls until `done` gives something.
pub(crate) fn eventually<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let tries = PATIENCE.as_millis() / POLL.as_millis();
    for _ in 0..tries {
        if let Some(value) = done() {
            return value;
        }
        pause(POLL);
    }
    panic!("{what}: not within {PATIENCE:?}");
}

/// Waits without a clock of its own: real processes run beside us.
pub(crate) fn pause(duration: Duration) {
    let (_sender, receiver) = std::sync::mpsc::channel::<()>();
    let _timed_out = receiver.recv_timeout(duration);
}

/// A process that is killed when the test ends.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    pub(crate) fn start(mut command: Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).unwrap();
        command.stdout(Stdio::null()).stderr(file);
        Self { child: command.spawn().expect("the binary starts"), log: log.into() }
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn wait(mut self) -> ExitStatus {
        eventually("the process ends", || self.child.try_wait().unwrap())
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn terminate(self) -> (i32, String) {
        self.signal("-TERM");
        let log = self.log.clone();
        let code = self.wait().code().expect("ended by itself");
        (code, std::fs::read_to_string(log).unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            let _ended_meanwhile = self.child.kill();
            let _reaped = self.child.wait();
        }
    }
}

/// `kinesink local DIR` in a process of its own, with clients of our own.
pub(crate) struct Services {
    pub(crate) directory: tempfile::TempDir,
    environment: BTreeMap<String, String>,
    process: Option<Process>,
    pub(crate) kinesis: aws_sdk_kinesis::Client,
    pub(crate) dynamodb: aws_sdk_dynamodb::Client,
    runtime: tokio::runtime::Runtime,
}

impl Services {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("local");
        Self::start_on(&state, directory, &[])
    }

    /// Where a stream takes an hour to be made.
    pub(crate) fn start_slow() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("local");
        Self::start_on(&state, directory, &["--transitions", "1h"])
    }

    /// On state that outlives the process, which is handed out to be killed.
    pub(crate) fn start_in(state: &Path) -> (Self, Process) {
        let mut services = Self::start_on(&state.join("local"), tempfile::tempdir().unwrap(), &["--transitions", "0s"]);
        let process = services.process.take().unwrap();
        (services, process)
    }

    fn start_on(state: &Path, directory: tempfile::TempDir, more: &[&str]) -> Self {
        let env_file = directory.path().join("env");
        let mut command = kinesink();
        command.arg("local").arg(state).args(more).arg("--no-limits").arg("--env").arg(&env_file);
        let process = Process::start(command, &directory.path().join("local.log"));
        let text = eventually("the local services start", || {
            std::fs::read_to_string(&env_file).ok().filter(|text| text.ends_with('\n'))
        });
        let lines = text.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
        let environment: BTreeMap<_, _> = lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let credentials = Credentials::new("test", "test", None, None, "test");
        let kinesis = aws_sdk_kinesis::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(credentials.clone())
            .endpoint_url(&environment["AWS_ENDPOINT_URL_KINESIS"]);
        let dynamodb = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(credentials)
            .endpoint_url(&environment["AWS_ENDPOINT_URL_DYNAMODB"]);
        Self {
            kinesis: aws_sdk_kinesis::Client::from_conf(kinesis.build()),
            dynamodb: aws_sdk_dynamodb::Client::from_conf(dynamodb.build()),
            runtime: tokio::runtime::Runtime::new().unwrap(),
            environment,
            process: Some(process),
            directory,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn environment(&self) -> &BTreeMap<String, String> {
        &self.environment
    }

    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Where the services answer.
    pub(crate) fn endpoint(&self, service: &str) -> &str {
        self.environment[&format!("AWS_ENDPOINT_URL_{service}")].trim_start_matches("http://")
    }

    /// The binary, pointed at these services.
    pub(crate) fn kinesink(&self) -> Command {
        let mut command = kinesink();
        command.envs(&self.environment);
        command
    }

    pub(crate) fn create_stream(&self, name: &str, shards: i32) {
        self.block_on(async {
            self.kinesis.create_stream().stream_name(name).shard_count(shards).send().await.unwrap();
        });
        self.until_active(name);
    }

    pub(crate) fn until_active(&self, name: &str) {
        eventually("the stream becomes active", || {
            let request = self.kinesis.describe_stream_summary().stream_name(name).send();
            let reply = self.block_on(request).unwrap();
            let status = reply.stream_description_summary().unwrap().stream_status().as_str().to_owned();
            (status == "ACTIVE").then_some(())
        });
    }

    /// Puts records whose partition key is their place.
    pub(crate) fn put(&self, stream: &str, records: &[Vec<u8>]) {
        for (call, chunk) in records.chunks(250).enumerate() {
            let entries = chunk.iter().enumerate().map(|(place, data)| {
                let key = format!("{}", call * 250 + place);
                PutRecordsRequestEntry::builder().data(Blob::new(data.clone())).partition_key(key).build().unwrap()
            });
            let request = self.kinesis.put_records().stream_name(stream).set_records(Some(entries.collect()));
            let reply = self.block_on(request.send()).unwrap();
            assert_eq!(reply.failed_record_count(), Some(0));
        }
    }

    /// Every record of the stream, by plain GetRecords: (shard, sequence number, data).
    pub(crate) fn read_stream(&self, stream: &str) -> Vec<(String, String, Vec<u8>)> {
        let all = self.stored(stream).into_iter();
        all.map(|(shard, record)| (shard, record.sequence_number, record.data.into_inner())).collect()
    }

    /// When the service took each record, in milliseconds since 1970.
    pub(crate) fn arrivals_ms(&self, stream: &str) -> Vec<(Vec<u8>, i64)> {
        let all = self.stored(stream).into_iter();
        let arrival = |record: &Record| record.approximate_arrival_timestamp().unwrap().to_millis().unwrap();
        all.map(|(_, record)| (record.data.as_ref().to_vec(), arrival(&record))).collect()
    }

    fn stored(&self, stream: &str) -> Vec<(String, Record)> {
        self.block_on(async {
            let shards = self.kinesis.list_shards().stream_name(stream).send().await.unwrap();
            let mut records = Vec::new();
            for shard in shards.shards() {
                let request = self.kinesis.get_shard_iterator().stream_name(stream).shard_id(shard.shard_id());
                let reply = request.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.unwrap();
                let mut iterator = reply.shard_iterator;
                while let Some(current) = iterator.take() {
                    let reply = self.kinesis.get_records().shard_iterator(current).send().await.unwrap();
                    let at_tip = reply.records().is_empty() && reply.millis_behind_latest() == Some(0);
                    iterator = reply.next_shard_iterator.filter(|_| !at_tip);
                    records.extend(reply.records.into_iter().map(|record| (shard.shard_id().to_owned(), record)));
                }
            }
            records
        })
    }

    /// Checkpoints of the lease table: shard to sequence number or sentinel, as stored.
    pub(crate) fn checkpoints(&self, app: &str) -> BTreeMap<String, String> {
        self.attributes(app, "checkpoint")
    }

    pub(crate) fn owners(&self, app: &str) -> BTreeMap<String, String> {
        self.attributes(app, "leaseOwner")
    }

    fn attributes(&self, app: &str, name: &str) -> BTreeMap<String, String> {
        let reply = self.block_on(self.dynamodb.scan().table_name(app).send());
        let Ok(reply) = reply else { return BTreeMap::new() };
        let rows = reply.items().iter();
        let text = |value: &aws_sdk_dynamodb::types::AttributeValue| value.as_s().unwrap().clone();
        rows.filter_map(|row| Some((text(&row["leaseKey"]), text(row.get(name)?)))).collect()
    }

    /// Tells the local Kinesis to go wrong, over its admin route.
    pub(crate) fn fault(&self, json: &str) {
        let reply = http(self.endpoint("KINESIS"), "POST", "/_kinesink/faults", json);
        assert!(reply.starts_with("HTTP/1.1 2"), "{reply}");
    }
}

/// One HTTP request, the reply as text.
pub(crate) fn http(address: &str, method: &str, path: &str, body: &str) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(
        socket,
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut reply = Vec::new();
    socket.read_to_end(&mut reply).unwrap();
    text(&reply)
}

/// A pipeline file: `app`, NDJSON into `objects`, small windows, a lease that is found again at once.
pub(crate) fn pipeline_toml(app: &str, stream: &str, objects: &Path, more: &str) -> String {
    format!(
        r#"version = 1
app = "{app}"
memory = "32MiB"

[source]
stream = "{stream}"
region = "us-east-1"
start = "trim-horizon"
idle = "200ms"

[lease]
worker_id = "one"
failover = "3s"

[buffer]
records = 200
bytes = "1MiB"
age = "200ms"

[[sink]]
type = "s3"
url = "file://{}"
format = "ndjson"

{more}
"#,
        objects.display()
    )
}

/// Objects under a folder, in name order: path and lines. What is hidden is no object: labels, interrupted writes.
pub(crate) fn objects(folder: &Path) -> Vec<(PathBuf, Vec<Vec<u8>>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = folder.read_dir() else { continue };
        for entry in entries.map(Result::unwrap) {
            let path = entry.path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            // A starting sink writes an empty object and removes it again.
            let staging = name.starts_with('.') || name.starts_with("_kinesink_check");
            if path.is_dir() {
                folders.push(path);
            } else if !staging {
                // Names are listed before they are read; nothing that is an object is ever deleted.
                let mut bytes = std::fs::read(&path).unwrap();
                if name.ends_with(".gz") {
                    let mut plain = Vec::new();
                    flate2::read::MultiGzDecoder::new(&*bytes).read_to_end(&mut plain).unwrap();
                    bytes = plain;
                } else if name.ends_with(".zst") {
                    bytes = zstd::decode_all(&*bytes).unwrap();
                }
                let lines = bytes.split_inclusive(|byte| *byte == b'\n');
                let lines = lines.map(|line| line.strip_suffix(b"\n").unwrap_or(line).to_vec()).collect();
                found.push((path, lines));
            }
        }
    }
    found.sort();
    found
}

/// Files of writes that were never finished.
pub(crate) fn staged(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().unwrap().map(Result::unwrap) {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else if entry.file_name().to_string_lossy().contains('#') {
                found.push(entry.path());
            }
        }
    }
    found
}

/// How often each line is in the objects.
pub(crate) fn lines(folder: &Path) -> BTreeMap<Vec<u8>, usize> {
    let mut counts = BTreeMap::new();
    for line in objects(folder).into_iter().flat_map(|(_, lines)| lines) {
        *counts.entry(line).or_insert(0) += 1;
    }
    counts
}

pub(crate) fn numbered(from: usize, to: usize) -> Vec<Vec<u8>> {
    (from..to).map(|n| format!(r#"{{"n":{n},"pad":"{n:0>80}"}}"#).into_bytes()).collect()
}
