//! The registered consumer that subscribes to shards.

use std::time::Duration;

use fastrand::Rng;
use kinesink_aws::kinesis::Client;
use kinesink_aws::kinesis::types::ConsumerStatus;
use kinesink_aws::{code, failure};
use kinesink_core::{Class, Failure, StreamName};
use tokio::sync::Mutex;
use tokio::time::sleep;
use tracing::{debug, info};

/// A new consumer is ACTIVE after some seconds; a stream of many that start at once answers that it is throttled.
const LOOKS_MAX: u32 = 30;
const PAUSE: Duration = Duration::from_secs(1);
const JITTER_MAX: Duration = Duration::from_millis(100);

/// A consumer of a stream as the service knows it: found or registered once for all shards, never deregistered, since
/// other workers of the application use it too.
#[derive(Debug)]
pub(crate) struct Registration {
    client: Client,
    stream: StreamName,
    /// None: the ARN was configured, and nothing is looked up.
    name: Option<String>,
    arn: Mutex<Option<String>>,
    rng: Mutex<Rng>,
}

impl Registration {
    /// Of the consumer with this name, or this ARN.
    pub(crate) fn new(client: Client, stream: StreamName, consumer: &str, seed: u64) -> Self {
        let is_arn = consumer.starts_with("arn:");
        Self {
            client,
            stream,
            name: (!is_arn).then(|| consumer.to_owned()),
            arn: Mutex::new(is_arn.then(|| consumer.to_owned())),
            rng: Mutex::new(Rng::with_seed(seed)),
        }
    }

    /// The consumer's ARN, once it is ACTIVE. Whoever asks meanwhile waits for the same answer.
    ///
    /// # Errors
    /// Transient, if it is not ACTIVE after 30 looks; else the service's.
    ///
    /// # Cancel safety
    /// The next call looks again; it finds what was registered.
    pub(crate) async fn arn(&self) -> Result<String, Failure> {
        let mut known = self.arn.lock().await;
        if let Some(arn) = &*known {
            return Ok(arn.clone());
        }
        let Some(name) = &self.name else { return Err(Failure::fatal("the consumer has neither a name nor an ARN")) };
        let arn = self.find_or_register(name).await?;
        info!(stream = %self.stream, consumer = name, "enhanced fan-out");
        *known = Some(arn.clone());
        Ok(arn)
    }

    /// The service does not know the consumer any more: someone deregistered it. The next [`arn`](Self::arn) registers
    /// it again.
    pub(crate) async fn forget(&self, arn: &str) {
        if self.name.is_some() {
            let mut known = self.arn.lock().await;
            known.take_if(|known| known == arn);
        }
    }

    async fn find_or_register(&self, name: &str) -> Result<String, Failure> {
        let stream_arn = self.stream_arn().await?;
        let what = format!("consumer {name} of stream {}", self.stream);
        let mut last = Failure::transient(format!("cannot use {what}: it did not become ACTIVE"));
        for look in 0..LOOKS_MAX {
            if look > 0 {
                let jitter = JITTER_MAX.mul_f64(self.rng.lock().await.f64());
                sleep(PAUSE + jitter).await;
            }
            let describe = self.client.describe_stream_consumer().stream_arn(&stream_arn).consumer_name(name);
            let found = match describe.send().await {
                Ok(reply) => reply.consumer_description,
                Err(error) if code(&error) == Some("ResourceNotFoundException") => None,
                Err(error) => {
                    last = transient(failure("describe", &what, &error))?;
                    continue;
                }
            };
            match found {
                Some(consumer) if consumer.consumer_status == ConsumerStatus::Active => {
                    return Ok(consumer.consumer_arn);
                }
                Some(consumer) => debug!(status = %consumer.consumer_status, "waiting for {what}"),
                None => {
                    let register = self.client.register_stream_consumer().stream_arn(&stream_arn).consumer_name(name);
                    match register.send().await {
                        Ok(_) => info!("registered {what}"),
                        // Another worker was faster.
                        Err(error) if code(&error) == Some("ResourceInUseException") => {}
                        Err(error) => last = transient(failure("register", &what, &error))?,
                    }
                }
            }
        }
        Err(last)
    }

    async fn stream_arn(&self) -> Result<String, Failure> {
        let describe = self.client.describe_stream_summary().stream_name(self.stream.as_str());
        let what = format!("stream {}", self.stream);
        let reply = describe.send().await.map_err(|error| failure("describe", &what, &error))?;
        let summary = reply.stream_description_summary;
        summary
            .map(|summary| summary.stream_arn)
            .ok_or_else(|| Failure::transient(format!("cannot describe {what}: the answer is empty")))
    }
}

/// A failure that another look may cure.
fn transient(failure: Failure) -> Result<Failure, Failure> {
    if failure.class == Class::Transient { Ok(failure) } else { Err(failure) }
}
