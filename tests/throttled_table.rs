//! A proxy of the lease table's service that refuses calls on demand, and the real binary behind it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{Process, Services, eventually, lines, numbered, pipeline_toml};

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
