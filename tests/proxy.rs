//! A proxy before one of the services that answers itself what a test says, and passes on the rest.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

/// What a proxy answers itself: the status, the type of the text and the text.
pub(crate) struct Answer {
    pub(crate) status: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) text: &'static str,
}

/// Starts a proxy that stands before the service at `upstream` for as long as the tests run, and returns its URL. `answer` is
/// asked with the head of each request.
pub(crate) fn start(upstream: &str, answer: impl Fn(&str) -> Option<Answer> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (upstream, answer) = (upstream.to_owned(), Arc::new(answer));
    std::thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let (upstream, answer) = (upstream.clone(), Arc::clone(&answer));
            std::thread::spawn(move || serve(&socket, &upstream, &*answer));
        }
    });
    url
}

/// One request a connection: the reply closes it, so that no answer is lost between two of them.
fn serve(mut client: &TcpStream, upstream: &str, answer: &dyn Fn(&str) -> Option<Answer>) -> Option<()> {
    let mut reader = BufReader::new(client);
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
            "expect" => {
                client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
                continue;
            }
            _ => {}
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    if let Some(Answer { status, kind, text }) = answer(&head) {
        let head = format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\nconnection: close");
        return write!(client, "{head}\r\ncontent-length: {}\r\n\r\n{text}", text.len()).ok();
    }
    let mut service = TcpStream::connect(upstream).ok()?;
    write!(service, "{head}connection: close\r\n\r\n").ok()?;
    service.write_all(&body).ok()?;
    let mut reply = Vec::new();
    service.read_to_end(&mut reply).ok()?;
    client.write_all(&reply).ok()
}
