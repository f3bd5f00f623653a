//! Counts what a process asks of DynamoDB.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Passes connections on to DynamoDB and counts the operations that their requests name.
pub(crate) struct Relay {
    pub(crate) address: String,
    counts: Arc<Mutex<BTreeMap<String, u64>>>,
}

const TARGET: &[u8] = b"DynamoDB_20120810.";

impl Relay {
    pub(crate) async fn start(upstream: &str) -> Self {
        let upstream = upstream.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let counts = Arc::<Mutex<BTreeMap<String, u64>>>::default();
        let counted = Arc::clone(&counts);
        // Runs as long as the benchmark.
        #[expect(clippy::disallowed_methods, reason = "ends with the runtime")]
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&upstream).await.unwrap();
                tokio::spawn(relay(client, server, Arc::clone(&counted)));
            }
        });
        Self { address, counts }
    }

    pub(crate) fn take_counts(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut *self.counts.lock().unwrap())
    }
}

async fn relay(mut client: TcpStream, mut server: TcpStream, counts: Arc<Mutex<BTreeMap<String, u64>>>) {
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let requests = async {
        let mut buffer = vec![0; 64 * 1024];
        let mut seen = Vec::new();
        while let Ok(bytes @ 1..) = from_client.read(&mut buffer).await {
            seen.extend_from_slice(&buffer[..bytes]);
            count(&mut seen, &counts);
            if to_server.write_all(&buffer[..bytes]).await.is_err() {
                break;
            }
        }
    };
    // Whichever side closes first ends the connection.
    tokio::select! {
        () = requests => {}
        _closed = tokio::io::copy(&mut from_server, &mut to_client) => {}
    }
}

/// Counts each whole header that names an operation, and keeps what may be the start of one.
fn count(seen: &mut Vec<u8>, counts: &Mutex<BTreeMap<String, u64>>) {
    while let Some(place) = seen.windows(TARGET.len()).position(|window| window == TARGET) {
        let name = &seen[place + TARGET.len()..];
        let Some(end) = name.iter().position(|byte| *byte == b'\r') else { return };
        let operation = String::from_utf8_lossy(&name[..end]).into_owned();
        *counts.lock().unwrap().entry(operation).or_default() += 1;
        seen.drain(..place + TARGET.len() + end);
    }
    let kept = seen.len().saturating_sub(TARGET.len());
    seen.drain(..kept);
}
