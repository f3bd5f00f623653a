//! The latest reading of each sensor in a DynamoDB table, by a transformer of one's own that makes attributes. Runs on local services,
//! so it needs no account:
//!
//! ```text
//! cargo run --example latest
//! ```
//!
//! What is JSON already needs no code: `docs/dynamodb.md` has the pipeline file for it.

#![expect(clippy::print_stdout, reason = "an example shows what it did")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use kinesink::aws::dynamodb::types::AttributeValue;
use kinesink::aws::kinesis::primitives::Blob;
use kinesink::local::{Local, LocalOptions};
use kinesink::sinks::dynamodb::{Attributes, DynamoDbConfig, DynamoDbEmitter, KeyAttribute, KeySource};
use kinesink::{Connector, Pipeline, Record, Reject, Sink, Stop, Transformer, WindowLimits, create_stream};
use prometheus_client::registry::Registry;

const STREAM: &str = "readings";
const TABLE: &str = "latest-readings";
/// Sensor and degrees.
const RECORDS: [&str; 5] = ["cellar,14.0", "roof,31.5", "cellar,14.5", "roof,29.25", "cellar,13.75"];

/// Lines of two columns to items.
struct Readings;

impl Transformer for Readings {
    type Model = Attributes;
    type Output = Attributes;

    fn to_model(&self, record: &Record, models: &mut Vec<Attributes>) -> Result<(), Reject> {
        let line = str::from_utf8(&record.data).map_err(|_| Reject::new("not text"))?;
        let (sensor, degrees) = line.split_once(',').ok_or_else(|| Reject::new("not two columns"))?;
        models.push(Attributes::from([
            ("sensor".to_owned(), AttributeValue::S(sensor.into())),
            ("degrees".to_owned(), AttributeValue::N(degrees.into())),
        ]));
        Ok(())
    }

    fn to_output(&self, item: Attributes) -> Result<Attributes, Reject> {
        Ok(item)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let local = Local::start(&LocalOptions::default()).await?;
    let clients = kinesink::aws::connect(&local.aws_options()).await?;
    let dynamodb = clients.dynamodb.clone();
    create_stream(&clients.kinesis, STREAM, 2).await?;
    for line in RECORDS {
        let sensor = line.split(',').next().unwrap_or(line);
        let put = clients.kinesis.put_record().stream_name(STREAM).partition_key(sensor);
        put.data(Blob::new(line)).send().await?;
    }

    // Records are put by sensor, so that the stream orders those of each.
    let source = KeySource::Field(".sensor".parse()?);
    let key = vec![KeyAttribute { name: "sensor".into(), source, key_type: None }];
    let sink = DynamoDbEmitter::open(DynamoDbConfig::new(dynamodb.clone(), TABLE, key))?;
    sink.create_table().await?;
    let pipeline = Pipeline::new(Readings, Sink::new("latest", Arc::new(sink)))
        .limits(WindowLimits { age: Duration::from_millis(200), ..WindowLimits::default() });
    let connector = Connector::builder("latest-by-sensor", STREAM.parse()?, clients, pipeline)
        .start(kinesink::consumer::Start::TrimHorizon)
        .build(&mut Registry::default())?;
    let (stop, metrics) = (Stop::new(), connector.metrics());
    let all_are_written = async {
        while metrics.progress().committed < RECORDS.len() as u64 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        stop.drain.cancel();
    };
    let (outcome, ()) = tokio::join!(connector.run(&stop), all_are_written);
    println!("{:?}", outcome?);

    let mut lines = Vec::new();
    for item in dynamodb.scan().table_name(TABLE).send().await?.items() {
        let text = |name: &str| item.get(name).and_then(|value| value.as_s().or(value.as_n()).ok());
        lines.push(format!("{}: {}", text("sensor").map_or("?", |v| v), text("degrees").map_or("?", |v| v)));
    }
    local.stop().await;
    lines.sort();
    lines.iter().for_each(|line| println!("{line}"));
    Ok(())
}
