//! A proxy of the lease table's service that refuses calls on demand, and the real binary behind it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{Process, Services, eventually, lines, numbered, pipeline_toml};
use crate::replay::{moment, record, write_file};

/// What DynamoDB answers when a table has no capacity left.
const THROTTLE: &str =
    r#"{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":"slow down"}"#;

/// Stands before a DynamoDB for as long as the test runs.
struct Proxy {
    address: String,
    /// So many calls are still to be refused, of every operation.
    refusals: Arc<AtomicUsize>,
}

impl Proxy {
    fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let refusals = Arc::new(AtomicUsize::new(0));
        let (upstream, left) = (upstream.to_owned(), Arc::clone(&refusals));
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let (upstream, left) = (upstream.clone(), Arc::clone(&left));
                std::thread::spawn(move || serve(socket, &upstream, &left));
            }
        });
        Self { address, refusals }
    }

    /// Refuses the next calls and waits until they were made.
    fn refuse(&self, calls: usize) {
        self.refusals.store(calls, Ordering::SeqCst);
        eventually("the calls are refused", || (self.refusals.load(Ordering::SeqCst) == 0).then_some(()));
    }
}

/// One request a connection: the reply closes it, so that no answer is lost between two of them.
fn serve(client: TcpStream, upstream: &str, refusals: &AtomicUsize) -> Option<()> {
    let mut reader = BufReader::new(client.try_clone().ok()?);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap(),
            "connection" => continue,
            _ => {}
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut client = client;
    let refuse = refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
    if refuse {
        let length = THROTTLE.len();
        let head = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/x-amz-json-1.0\r\nconnection: close";
        return write!(client, "{head}\r\ncontent-length: {length}\r\n\r\n{THROTTLE}").ok();
    }
    let mut service = TcpStream::connect(upstream).ok()?;
    write!(service, "{head}connection: close\r\n\r\n").ok()?;
    service.write_all(&body).ok()?;
    let mut reply = Vec::new();
    service.read_to_end(&mut reply).ok()?;
    client.write_all(&reply).ok()
}

#[test]
fn a_throttled_lease_table_delays_checkpoints_and_loses_and_doubles_nothing() {
    let services = Services::start();
    services.create_stream("table", 1);
    let proxy = Proxy::start(services.endpoint("DYNAMODB"));
    let (file, folder) = (services.path("table.toml"), services.path("objects"));
    // A lease that outlives the throttling, so that what is seen is a write that is tried again.
    let toml = pipeline_toml("table", "table", &folder, "").replace("failover = \"3s\"", "failover = \"30s\"");
    std::fs::write(&file, toml).unwrap();
    let mut command = services.kinesink();
    command.env("AWS_ENDPOINT_URL_DYNAMODB", format!("http://{}", proxy.address)).arg("run").arg(&file);

    // The first calls of a start: the table is looked for, made and read.
    proxy.refusals.store(4, Ordering::SeqCst);
    let process = Process::start(command, &services.path("run.log"));
    services.put("table", &numbered(0, 500));
    let all_checkpointed = |count: usize| {
        eventually("every record lands and the checkpoint is at the last", || {
            let last = services.read_stream("table").pop().unwrap().1;
            let at_last = services.checkpoints("table").values().eq([&last]);
            (lines(&folder).len() == count && at_last).then_some(())
        });
    };
    all_checkpointed(500);
    assert_eq!(proxy.refusals.load(Ordering::SeqCst), 0, "the start was not throttled");

    services.put("table", &numbered(500, 1_000));
    proxy.refuse(6);
    all_checkpointed(1_000);
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("ProvisionedThroughputExceededException"), "it says why it waits: {log}");
    assert!(lines(&folder).values().all(|count| *count == 1), "without a crash nothing is delivered twice");
    assert!(services.owners("table").is_empty(), "the lease is released");
}

/// What an earlier call had read was taken for nothing then, and the call waited for ever for shards that had ended.
#[test]
fn a_time_range_that_was_read_ends_or_says_why_not_where_its_lease_table_cannot_be_read_at_once() {
    let services = Services::start();
    services.create_stream("letters", 2);
    let file = write_file(&services, &services.path("objects"), ".");
    let records: Vec<_> = (0..100).map(record).collect();
    services.put("letters", &records);
    let proxy = Proxy::start(services.endpoint("DYNAMODB"));
    let (to, again) = (moment(&services), services.path("again"));
    let into = format!("file://{}", again.display());
    let replay = |refusals: usize| {
        proxy.refusals.store(refusals, Ordering::SeqCst);
        let mut command = services.kinesink();
        command.env("AWS_ENDPOINT_URL_DYNAMODB", format!("http://{}", proxy.address)).arg("replay").arg(&file);
        command.args(["--from", "2020-01-01T00:00:00Z", "--to", &to, "--into", &into]);
        let log = services.path(&format!("replay-{refusals}.log"));
        let code = Process::start(command, &log).wait().code();
        (code, std::fs::read_to_string(log).unwrap())
    };
    let (code, log) = replay(0);
    assert_eq!(code, Some(0), "{log}");
    let landed = lines(&again);
    assert!(landed == records.into_iter().map(|line| (line, 1)).collect());
    let (code, log) = replay(1);
    assert_eq!(code, Some(3), "{log}");
    assert!(log.contains("cannot read lease table letters-replay-") && log.contains("slow down"), "{log}");
    let (code, log) = replay(0);
    assert_eq!(code, Some(0), "{log}");
    assert!(lines(&again) == landed, "it had come to its end");
}
