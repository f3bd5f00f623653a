//! What benchmarks share: the local services in a process of their own, and what Linux says of a process.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_kinesis::{Client, Config};

const TICKS_PER_SECOND: f64 = 100.0;
const PATIENCE: Duration = Duration::from_secs(600);
/// Each look costs the other process a page of metrics.
const POLL: Duration = Duration::from_millis(100);

/// `kinesink local` without limits.
pub(crate) struct Services {
    directory: tempfile::TempDir,
    process: Child,
    pub(crate) kinesis: String,
    pub(crate) dynamodb: String,
}

impl Drop for Services {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Services {
    /// With buckets their state is in files: the objects of each are those in its folder `state/s3/NAME`.
    pub(crate) fn start(buckets: &[String]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (env, state) = (directory.path().join("env"), directory.path().join("state"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_kinesink"));
        command.args(["local", "--no-limits", "--env"]).arg(&env).stderr(Stdio::null());
        for name in buckets {
            std::fs::create_dir_all(state.join("s3").join(name)).unwrap();
        }
        let process = command.args((!buckets.is_empty()).then_some(state)).spawn().unwrap();
        eventually(|| std::fs::read_to_string(&env).ok().filter(|text| text.ends_with('\n')));
        let (kinesis, dynamodb) = (endpoint(&env, "KINESIS"), endpoint(&env, "DYNAMODB"));
        Self { process, kinesis, dynamodb, directory }
    }

    /// A file beside the services, gone with them.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What leads programs to these services.
    pub(crate) fn environment(&self) -> [(&'static str, &str); 5] {
        [
            ("AWS_ENDPOINT_URL_KINESIS", &self.kinesis),
            ("AWS_ENDPOINT_URL_DYNAMODB", &self.dynamodb),
            ("AWS_ACCESS_KEY_ID", "local"),
            ("AWS_SECRET_ACCESS_KEY", "local"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ]
    }

    /// Creates the stream and waits until it takes its first record, a partition key and data.
    pub(crate) async fn create_stream(&self, name: &str, shards: i32, (key, data): (&str, &str)) {
        let client = client(&self.kinesis);
        client.create_stream().stream_name(name).shard_count(shards).send().await.unwrap();
        let put =
            || client.put_record().stream_name(name).partition_key(key).data(data.as_bytes().to_vec().into()).send();
        while put().await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// `kinesink run FILE` against these services, its DynamoDB at `dynamodb`.
    pub(crate) fn run(&self, file: &Path, dynamodb: &str) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kinesink"));
        command.args(["--log-level", "warn", "run"]).arg(file);
        command.envs(self.environment()).env("AWS_ENDPOINT_URL_DYNAMODB", dynamodb);
        command.spawn().unwrap()
    }
}

/// What the benchmark was called with, but for what cargo adds.
pub(crate) fn arguments() -> Vec<String> {
    std::env::args().skip(1).filter(|argument| argument != "--bench").collect()
}

/// The numbers that were given as in `--records 1000`, each under one of these names, or what stands beside it.
pub(crate) fn numbers<const N: usize>(defaults: [(&str, usize); N]) -> [usize; N] {
    let arguments = arguments();
    let mut numbers = defaults.map(|(_, number)| number);
    for given in arguments.chunks(2) {
        let place = defaults.iter().position(|(name, _)| *name == given[0]);
        let number = given.get(1).and_then(|number| number.parse().ok());
        let Some((place, number)) = place.zip(number) else {
            panic!("{given:?} is none of {:?} with a number behind it", defaults.map(|(name, _)| name));
        };
        numbers[place] = number;
    }
    numbers
}

/// Where a service is, by the file that the services wrote.
pub(crate) fn endpoint(env: &Path, service: &str) -> String {
    let (text, name) = (std::fs::read_to_string(env).unwrap(), format!("export AWS_ENDPOINT_URL_{service}="));
    text.lines().find_map(|line| line.strip_prefix(&name)).unwrap().to_owned()
}

/// SIGTERM, and a clean exit.
pub(crate) fn drain(child: &mut Child) {
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// A port that is free now.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The first value of a metric whose line begins so, from /metrics.
pub(crate) fn metric(port: u16, line_start: &str) -> Option<f64> {
    use std::io::{Read as _, Write as _};
    let mut socket = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(socket, "GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n").ok()?;
    let mut reply = String::new();
    socket.read_to_string(&mut reply).ok()?;
    let line = reply.lines().find(|line| line.starts_with(line_start))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

/// User and system time of a process so far.
pub(crate) fn cpu_s(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / TICKS_PER_SECOND
}

/// A line of the process' memory, such as `VmRSS:`.
pub(crate) fn memory_kib(pid: u32, line: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = status.lines().find_map(|found| found.strip_prefix(line)).unwrap();
    value.trim().trim_end_matches(" kB").parse().unwrap()
}

pub(crate) fn eventually<T>(mut done: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(value) = done() {
            return value;
        }
        std::thread::park_timeout(POLL);
    }
    panic!("not within {PATIENCE:?}");
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}

pub(crate) fn client(endpoint: &str) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("local", "local", None, None, "bench"))
        .retry_config(RetryConfig::disabled())
        .endpoint_url(endpoint);
    Client::from_conf(config.build())
}
