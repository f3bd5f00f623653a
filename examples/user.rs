//! A pipeline of a type of one's own: JSON records become `User`s, minors are filtered out, and an emitter of the
//! example's own greets them. Runs on local services, so it needs no account:
//!
//! ```text
//! cargo run --example user
//! ```

#![expect(clippy::print_stdout, reason = "an example shows what it did")]

use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kinesink::aws::kinesis::primitives::Blob;
use kinesink::local::{Local, LocalOptions};
use kinesink::{
    Batch, Connector, Emitted, Emitter, Failure, Pipeline, Record, Reject, Sink, Stop, Transformer, WindowLimits,
    create_stream,
};
use prometheus_client::registry::Registry;
use serde::Deserialize;

const STREAM: &str = "users";
const RECORDS: [&str; 5] = [
    r#"{"name":"Ada","age":36}"#,
    r#"{"name":"Ben","age":12}"#,
    r#"{"name":"Cleo","age":51}"#,
    r#"not a user"#,
    r#"{"name":"Dan","age":18}"#,
];

/// The model: what a record means.
#[derive(Debug, Clone, Deserialize)]
struct User {
    name: String,
    age: u8,
}

/// Records to users, users to greetings.
struct Greet;

impl Transformer for Greet {
    type Model = User;
    type Output = String;

    fn to_model(&self, record: &Record, models: &mut Vec<User>) -> Result<(), Reject> {
        let user = serde_json::from_slice(&record.data).map_err(|_| Reject::new("not a user in JSON"))?;
        models.push(user);
        Ok(())
    }

    fn to_output(&self, user: User) -> Result<String, Reject> {
        Ok(format!("hello {}, {}", user.name, user.age))
    }
}

/// The destination: a list in memory that ends the example once it is complete.
struct Greetings {
    lines: Mutex<Vec<String>>,
    stop: Stop,
}

impl Greetings {
    /// Three adults and one dead letter.
    const EXPECTED: usize = 4;

    fn add(&self, new: impl Iterator<Item = String>) -> Result<Emitted, Failure> {
        let mut lines = self.lines.lock().map_err(|_| Failure::fatal("the list of greetings is broken"))?;
        lines.extend(new);
        // Delivered at least once: after a lost lease, say, there may be more.
        if lines.len() >= Self::EXPECTED {
            self.stop.drain.cancel();
        }
        Ok(Emitted::all())
    }
}

#[async_trait]
impl Emitter<String> for Greetings {
    async fn emit(&self, batch: &Batch<'_, String>) -> Result<Emitted, Failure> {
        self.add(batch.items.iter().map(|item| item.value.clone()))
    }
}

/// The same list takes the dead letters, which are JSON.
struct DeadLetters(Arc<Greetings>);

#[async_trait]
impl Emitter<Bytes> for DeadLetters {
    async fn emit(&self, batch: &Batch<'_, Bytes>) -> Result<Emitted, Failure> {
        let reasons = batch.items.iter().map(|item| {
            let letter: serde_json::Value = serde_json::from_slice(&item.value).unwrap_or_default();
            format!("refused: {}", letter["reason"].as_str().unwrap_or("unknown"))
        });
        self.0.add(reasons)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let local = Local::start(&LocalOptions::default()).await?;
    let clients = kinesink::aws::connect(&local.aws_options()).await?;
    create_stream(&clients.kinesis, STREAM, 2).await?;
    for (number, data) in RECORDS.iter().enumerate() {
        let put = clients.kinesis.put_record().stream_name(STREAM).partition_key(number.to_string());
        put.data(Blob::new(*data)).send().await?;
    }

    let stop = Stop::new();
    let greetings = Arc::new(Greetings { lines: Mutex::default(), stop: stop.clone() });
    let pipeline = Pipeline::new(Greet, Sink::new("greetings", Arc::clone(&greetings) as _))
        .filter(Arc::new(|user: &User| user.age >= 18))
        .limits(WindowLimits { age: Duration::from_millis(200), ..WindowLimits::default() })
        .dead_letters(Arc::new(DeadLetters(Arc::clone(&greetings))));
    let connector = Connector::builder("greet-users", STREAM.parse()?, clients, pipeline)
        .start(kinesink::consumer::Start::TrimHorizon)
        .build(&mut Registry::default())?;
    let outcome = connector.run(&stop).await?;
    local.stop().await;

    let mut lines = greetings.lines.lock().map_err(|_| "the list of greetings is broken")?.clone();
    lines.sort();
    for line in lines {
        println!("{line}");
    }
    println!("{outcome:?}");
    Ok(())
}
