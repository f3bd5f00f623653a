//! The real binary into a bucket: a server on loopback that takes what S3 takes, objects created once and never changed.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::harness::{Process, Services, eventually, numbered, pipeline_toml};

/// Content and metadata, as the lines of a reply.
type Objects = Arc<Mutex<BTreeMap<String, (Vec<u8>, String)>>>;

/// A bucket's server, for as long as the tests run.
struct Bucket {
    endpoint: String,
    objects: Objects,
    overwritten: Arc<Mutex<Vec<String>>>,
    /// Somebody else answers each request with a success, and does nothing.
    captured: Arc<AtomicBool>,
}

impl Bucket {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (objects, overwritten, captured) = (Objects::default(), Arc::default(), Arc::default());
        let bucket = Self {
            endpoint,
            objects: Arc::clone(&objects),
            overwritten: Arc::clone(&overwritten),
            captured: Arc::clone(&captured),
        };
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let (objects, overwritten) = (Arc::clone(&objects), Arc::clone(&overwritten));
                let captured = Arc::clone(&captured);
                thread::spawn(move || while answer(&socket, &objects, &overwritten, &captured).is_some() {});
            }
        });
        bucket
    }

    /// The lines of every object, and how often each is there.
    fn lines(&self) -> BTreeMap<Vec<u8>, usize> {
        let mut counts = BTreeMap::new();
        for (key, (content, _)) in
            self.objects.lock().unwrap().iter().filter(|(key, _)| !key.contains("_kinesink_check"))
        {
            assert!(key.starts_with("/orders-bucket/orders/") && key.ends_with(".ndjson"), "{key}");
            for line in content.split_inclusive(|byte| *byte == b'\n') {
                *counts.entry(line.trim_ascii_end().to_vec()).or_insert(0) += 1;
            }
        }
        counts
    }
}

/// One request of a connection. `None` once there is no more.
fn answer(
    mut socket: &TcpStream,
    objects: &Objects,
    overwritten: &Mutex<Vec<String>>,
    captured: &AtomicBool,
) -> Option<()> {
    let mut reader = BufReader::new(socket);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let key = target.split('?').next()?.to_owned();
    let (mut length, mut create, mut in_pieces, mut metadata) = (0, false, false, String::new());
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap(),
            "if-none-match" => create = value.trim() == "*",
            "x-amz-decoded-content-length" => in_pieces = true,
            name if name.starts_with("x-amz-meta-") => metadata.push_str(&format!("{name}:{value}\r\n")),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    if captured.load(Ordering::SeqCst) {
        return write!(socket, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok();
    }
    if in_pieces {
        body = joined(&body);
    }
    let mut objects = objects.lock().unwrap();
    let (status, headers, content) = match (method.as_str(), objects.get(&key).cloned()) {
        ("PUT", Some(_)) if create => ("412 Precondition Failed", String::new(), Vec::new()),
        ("PUT", before) => {
            if before.is_some() {
                overwritten.lock().unwrap().push(key.clone());
            }
            objects.insert(key, (body, metadata));
            ("200 OK", String::new(), Vec::new())
        }
        ("HEAD", Some((_, metadata))) => ("200 OK", metadata, Vec::new()),
        ("DELETE", Some(_)) => {
            objects.remove(&key);
            ("204 No Content", String::new(), Vec::new())
        }
        _ => ("404 Not Found", String::new(), b"<Error><Code>NoSuchKey</Code><Message>no</Message></Error>".to_vec()),
    };
    drop(objects);
    let length = content.len();
    let date = "last-modified: Wed, 01 Jan 2025 00:00:00 GMT";
    write!(socket, "HTTP/1.1 {status}\r\netag: \"e\"\r\n{date}\r\n{headers}content-length: {length}\r\n\r\n").ok()?;
    socket.write_all(&content).ok()
}

/// The body that came as aws-chunked: pieces behind their length in hexadecimal, then trailers.
fn joined(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let end = body.windows(2).position(|pair| pair == b"\r\n").unwrap();
        let length = std::str::from_utf8(&body[..end]).unwrap().split(';').next().unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            return whole;
        }
        body = &body[end + 2..];
        whole.extend_from_slice(&body[..length]);
        body = &body[length + 2..];
    }
}

/// The pipeline from the stream into the bucket.
fn start(services: &Services, bucket: &Bucket) -> Process {
    let file = services.path("orders.toml");
    let text = pipeline_toml("orders", "orders", std::path::Path::new("/unused"), "");
    let sink = format!("s3://orders-bucket/orders\"\nendpoint = \"{}", bucket.endpoint);
    std::fs::write(&file, text.replace("file:///unused", &sink).replace("records = 200", "records = 20")).unwrap();
    let mut command = services.kinesink();
    command.arg("run").arg(&file);
    Process::start(command, &services.path("run.log"))
}

/// It counted as written, and was lost.
#[test]
fn what_somebody_else_answers_with_a_success_is_not_taken_for_written() {
    let services = Services::start();
    services.create_stream("orders", 1);
    let bucket = Bucket::start();
    let process = start(&services, &bucket);
    services.put("orders", &numbered(0, 100));
    eventually("something lands", || (bucket.lines().len() == 100).then_some(()));
    bucket.captured.store(true, Ordering::SeqCst);
    services.put("orders", &numbered(100, 300));
    eventually("it says so", || process.log().contains("see which proxy or login page answers").then_some(()));
    services.put("orders", &numbered(300, 400));
    bucket.captured.store(false, Ordering::SeqCst);
    eventually("the rest lands", || (bucket.lines().len() == 400).then_some(()));
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "{log}");
    assert_eq!(bucket.lines(), numbered(0, 400).into_iter().map(|line| (line, 1)).collect());
    assert_eq!(*bucket.overwritten.lock().unwrap(), Vec::<String>::new(), "an object was written twice");
}

#[test]
fn records_land_in_a_bucket_once_whatever_is_killed() {
    let services = Services::start();
    services.create_stream("orders", 2);
    let bucket = Bucket::start();
    let start = || start(&services, &bucket);
    let landed = |records: usize| (bucket.lines().len() == records).then_some(());
    for round in 1..=5 {
        services.put("orders", &numbered(400 * (round - 1), 400 * round));
        let process = start();
        eventually("something lands", || (bucket.lines().len() > 400 * (round - 1)).then_some(()));
        process.kill();
    }
    let process = start();
    eventually("every record lands", || landed(2_000));
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "{log}");
    assert_eq!(bucket.lines(), numbered(0, 2_000).into_iter().map(|line| (line, 1)).collect());
    assert_eq!(*bucket.overwritten.lock().unwrap(), Vec::<String>::new(), "an object was written twice");
    let probes = bucket.objects.lock().unwrap().keys().filter(|key| key.contains("_kinesink_check")).count();
    assert_eq!(probes, 0, "a start leaves nothing");
}
