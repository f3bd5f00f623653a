//! A worker as a process: the shipped consumer in a runtime of its own, so that it can be killed and stopped as one.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::auth::AuthSchemeId;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeTransmitInterceptorContextMut;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use fastrand::Rng;
use kinesink_aws::kinesis::config::retry::RetryConfig;
use kinesink_aws::kinesis::config::timeout::TimeoutConfig;
use kinesink_aws::kinesis::config::{BehaviorVersion, Region};
use kinesink_aws::{Clients, SdkConfig, dynamodb, kinesis};
use kinesink_consumer::{Consumer, Error, Retrieval, Start};
use kinesink_core::Budget;
use prometheus_client::registry::Registry;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::SimClock;
use crate::network::{Network, Service};
use crate::pipeline::{Habits, Pipeline};
use crate::witness::Witness;

pub(crate) const STREAM: &str = "orders";
pub(crate) const APP: &str = "orders-to-s3";
/// As the shipped clients have it.
const ATTEMPT_MAX: Duration = Duration::from_secs(30);

/// What every process of a run has in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) seed: u64,
    pub(crate) failover: Duration,
    pub(crate) start: Start,
    pub(crate) idle: Duration,
    pub(crate) shard_sync: Duration,
    pub(crate) budget_bytes: usize,
    pub(crate) habits: Habits,
}

/// A process under way.
pub(crate) struct Process {
    pub(crate) number: usize,
    pub(crate) worker: String,
    pub(crate) clock: SimClock,
    pub(crate) drain: CancellationToken,
    /// Nothing of it is polled until then.
    pub(crate) paused_until: Option<Duration>,
    runtime: Runtime,
    main: JoinSet<Result<(), Error>>,
}

pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime without I/O")
}

/// Stands for a signature: of the right form, which is all that is looked at. To sign would be a sixth of all work.
#[derive(Debug)]
struct Signed;

impl Intercept for Signed {
    fn name(&self) -> &'static str {
        "Signed"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let headers = context.request_mut().headers_mut();
        headers.insert("authorization", "AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=host, Signature=0");
        headers.insert("x-amz-date", "20260301T000000Z");
        Ok(())
    }
}

/// Clients as the shipped ones, on other wires.
pub(crate) fn clients(clock: &SimClock, table: SharedHttpClient, stream: SharedHttpClient) -> Clients {
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT_MAX).build();
    macro_rules! client {
        ($service:ident, $http:ident) => {{
            let config = $service::Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::new("us-east-1"))
                .allow_no_auth()
                .auth_scheme_preference([AuthSchemeId::from("noAuth")])
                .interceptor(Signed)
                .retry_config(RetryConfig::disabled())
                .timeout_config(timeouts.clone())
                .time_source(clock.clone())
                .endpoint_url("http://in-process")
                .http_client($http);
            $service::Client::from_conf(config.build())
        }};
    }
    Clients {
        kinesis: client!(kinesis, stream),
        dynamodb: client!(dynamodb, table),
        region: "us-east-1".into(),
        s3_endpoint: None,
        config: SdkConfig::builder().build(),
    }
}

impl Process {
    pub(crate) fn start(
        settings: &Settings,
        worker: &str,
        now: Duration,
        network: &Network,
        upstream: SharedHttpClient,
        witness: &Arc<Mutex<Witness>>,
        retrieval: Retrieval,
    ) -> Self {
        let runtime = runtime();
        let entered = runtime.enter();
        let clock = SimClock::new(now);
        let number = witness.lock().expect("no panic").process(now, worker);
        let table = network.line(number, clock.clone(), Service::Table, None);
        let stream = network.line(number, clock.clone(), Service::Stream, Some(upstream));
        let seed = settings.seed ^ ((number as u64) << 32);
        let consumer = Consumer::builder(APP, STREAM.parse().expect("a name"), clients(&clock, table, stream))
            .worker_id(worker)
            .start(settings.start)
            .failover(settings.failover)
            .idle(settings.idle)
            .retrieval(retrieval)
            .shard_sync(settings.shard_sync)
            .budget(Budget::new(settings.budget_bytes))
            .clock(Arc::new(clock.clone()))
            .seed(seed)
            .build(&mut Registry::default())
            .expect("settings that are in range");
        let pipeline = Pipeline {
            process: number,
            clock: clock.clone(),
            witness: Arc::clone(witness),
            rng: Mutex::new(Rng::with_seed(seed)),
            habits: settings.habits,
        };
        let (drain, mut main) = (CancellationToken::new(), JoinSet::new());
        let draining = drain.clone();
        main.spawn(async move { consumer.run(Arc::new(pipeline), draining, CancellationToken::new()).await });
        drop(entered);
        Self { number, worker: worker.to_owned(), clock, drain, paused_until: None, runtime, main }
    }

    /// Lets it run until `until`; how it ended, if it did.
    pub(crate) fn step(&mut self, until: Duration) -> Option<Result<(), Error>> {
        let (clock, main) = (&self.clock, &mut self.main);
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                Some(ended) = main.join_next() => Some(ended.expect("the consumer's task does not panic")),
                () = clock.sleep_until(until) => None,
            }
        })
    }

    /// After a pause: all of its time has passed at once.
    pub(crate) fn resume(&mut self, now: Duration) {
        self.paused_until = None;
        let missed = now.saturating_sub(self.runtime.block_on(async { self.clock.elapsed() }));
        self.runtime.block_on(tokio::time::advance(missed));
    }
}
