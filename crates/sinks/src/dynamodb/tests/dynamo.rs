//! DynamoDB in process, behind the real SDK client, with answers that go wrong on demand; or another one over the network.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use dynoxide::{Database, DynoxideError};
use kinesink_aws::dynamodb::Client;
use kinesink_aws::dynamodb::config::retry::RetryConfig;
use kinesink_aws::dynamodb::config::{BehaviorVersion, Config, Credentials, Region};
use serde_json::{Value, json};
use tokio::time::Instant;

/// Another DynamoDB than the one in process.
const ENDPOINT: &str = "KINESINK_TEST_DYNAMODB";

/// What happens to one call.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// Nothing.
    None,
    /// It has its effect; its answer is lost.
    LoseAnswer,
    /// It never arrives.
    Cut,
    /// It is answered so, with status 400: code and message.
    Answer(&'static str, &'static str),
    /// The transaction is cancelled for these reasons: a code and a message for each item.
    Cancel([(&'static str, &'static str); 2]),
    /// It is throttled for this reason, by the limit of this table.
    Throttle(&'static str, &'static str),
    /// Another one's call of the operation, with this body, has its effect before it.
    After(Value),
    /// Its body is larger than the front of the service lets through.
    TooLarge,
    /// Of a batch, the service has room for the first so many alone.
    RoomFor(usize),
}

/// Clones share it.
#[derive(Clone)]
pub(super) struct Dynamo {
    database: Arc<Database>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    faults: VecDeque<(&'static str, Fault)>,
    calls: Vec<(String, Value)>,
    room: Option<Room>,
}

/// For so many transactions in a second.
#[derive(Debug)]
struct Room {
    transactions_per_s: usize,
    since: Instant,
    taken: usize,
}

impl Room {
    fn has_any(&mut self) -> bool {
        if self.since.elapsed() >= Duration::from_secs(1) {
            (self.since, self.taken) = (Instant::now(), 0);
        }
        self.taken += 1;
        self.taken <= self.transactions_per_s
    }
}

impl fmt::Debug for Dynamo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dynamo").finish_non_exhaustive()
    }
}

fn config() -> kinesink_aws::dynamodb::config::Builder {
    Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .retry_config(RetryConfig::disabled())
}

/// Of the service that the caller of the tests names, else of one in process.
pub(super) fn any_client() -> Client {
    #[expect(clippy::disallowed_methods, reason = "one suite for two services: its caller says which")]
    match std::env::var(ENDPOINT) {
        Ok(endpoint) => Client::from_conf(config().endpoint_url(endpoint).build()),
        Err(_) => Dynamo::new().client(),
    }
}

impl Dynamo {
    pub(super) fn new() -> Self {
        Self { database: Arc::new(Database::memory().unwrap()), shared: Arc::default() }
    }

    pub(super) fn client(&self) -> Client {
        let connector = SharedHttpConnector::new(Connector(self.clone()));
        let client = http_client_fn(move |_settings, _components| connector.clone());
        Client::from_conf(config().endpoint_url("http://in-process").http_client(client).build())
    }

    /// The next call of the operation goes wrong like this.
    pub(super) fn fail(&self, operation: &'static str, fault: Fault) {
        self.shared.lock().unwrap().faults.push_back((operation, fault));
    }

    /// The table is short of room from now on: it takes so many transactions in a second of the test's clock.
    pub(super) fn has_room_for(&self, transactions_per_s: usize) {
        self.shared.lock().unwrap().room = Some(Room { transactions_per_s, since: Instant::now(), taken: 0 });
    }

    /// Faults that no call has met yet.
    pub(super) fn faults_left(&self) -> usize {
        self.shared.lock().unwrap().faults.len()
    }

    /// Every call of the operation that came so far.
    pub(super) fn calls(&self, operation: &str) -> Vec<Value> {
        let shared = self.shared.lock().unwrap();
        shared.calls.iter().filter(|(called, _)| called == operation).map(|(_, request)| request.clone()).collect()
    }

    fn exchange(&self, request: &HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let operation = request.headers().get("x-amz-target").unwrap().rsplit('.').next().unwrap().to_owned();
        let mut body: Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
        let fault = {
            let mut shared = self.shared.lock().unwrap();
            shared.calls.push((operation.clone(), body.clone()));
            let index = shared.faults.iter().position(|(on, _)| *on == operation);
            let room = shared.room.as_mut().filter(|_| operation == "TransactWriteItems");
            let throttled = Fault::Cancel([("ThrottlingError", "slow"), ("None", "")]);
            let throttled = room.is_some_and(|room| !room.has_any()).then_some(throttled);
            index.and_then(|index| shared.faults.remove(index)).map(|(_, fault)| fault).or(throttled)
        };
        let broken = || Err(ConnectorError::io("the connection was cut".into()));
        let mut left = None;
        match &fault {
            Some(Fault::Cut) => return broken(),
            Some(Fault::Answer(code, message)) => {
                return Ok(answer(400, &json!({ "__type": format!("x#{code}"), "message": message }).to_string()));
            }
            Some(Fault::Cancel(reasons)) => {
                let reasons = reasons.map(|(code, message)| json!({ "Code": code, "Message": message }));
                let code = "x#TransactionCanceledException";
                let body = json!({ "__type": code, "Message": "cancelled", "CancellationReasons": reasons });
                return Ok(answer(400, &body.to_string()));
            }
            Some(Fault::Throttle(reason, table)) => {
                let reasons = json!([{ "reason": reason, "resource": format!("arn:aws:dynamodb:x:0:table/{table}") }]);
                let code = "x#ProvisionedThroughputExceededException";
                let body = json!({ "__type": code, "message": "slow", "ThrottlingReasons": reasons });
                return Ok(answer(400, &body.to_string()));
            }
            Some(Fault::RoomFor(count)) => {
                let (table, requests) = body["RequestItems"].as_object().unwrap().iter().next().unwrap();
                let (taken, refused) = requests.as_array().unwrap().split_at(*count);
                left = Some(json!({ table: refused }));
                body = json!({ "RequestItems": { table: taken } });
            }
            Some(Fault::After(body)) => drop(self.call(&operation, body).unwrap()),
            Some(Fault::TooLarge) => return Ok(answer(413, "")),
            Some(Fault::LoseAnswer | Fault::None) | None => {}
        }
        let response = match self.call(&operation, &body) {
            Ok(mut reply) => {
                if let Some(left) = left {
                    reply["UnprocessedItems"] = left;
                }
                answer(200, &reply.to_string())
            }
            Err(error) => answer(error.status_code(), &error.to_json()),
        };
        if matches!(fault, Some(Fault::LoseAnswer)) { broken() } else { Ok(response) }
    }

    fn call(&self, operation: &str, body: &Value) -> Result<Value, DynoxideError> {
        let database = &self.database;
        macro_rules! call {
            ($method:ident) => {
                serde_json::to_value(&database.$method(serde_json::from_value(body.clone()).unwrap())?)
            };
        }
        let json = match operation {
            "CreateTable" => call!(create_table),
            "DeleteTable" => call!(delete_table),
            "DescribeTable" => call!(describe_table),
            "DescribeTimeToLive" => call!(describe_time_to_live),
            "UpdateTable" => call!(update_table),
            "UpdateTimeToLive" => call!(update_time_to_live),
            "PutItem" => call!(put_item),
            "GetItem" => call!(get_item),
            "BatchWriteItem" => call!(batch_write_item),
            "UpdateItem" => call!(update_item),
            "TransactWriteItems" => call!(transact_write_items),
            "Scan" => call!(scan),
            other => panic!("the sink has no use for {other}"),
        };
        Ok(json.unwrap())
    }
}

fn answer(status: u16, json: &str) -> HttpResponse {
    HttpResponse::new(status.try_into().unwrap(), SdkBody::from(json))
}

#[derive(Debug)]
struct Connector(Dynamo);

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::ready(self.0.exchange(&request))
    }
}
