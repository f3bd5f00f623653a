//! The lease table's service, in process: the real SDK client, no socket, faults on demand, a log of writes.

use std::collections::{BTreeMap, VecDeque};
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
use serde_json::Value;

const DENIED: &str = r#"{"__type":"x#AccessDeniedException","message":"not authorized"}"#;

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// None: a later call is meant.
    Pass,
    /// It has its effect; its answer is lost.
    LoseAnswer,
    /// It never arrives.
    Cut,
    /// It is refused for want of capacity.
    Throttle,
    /// It is refused for want of a permission.
    Deny,
    /// There is no such table.
    NoTable,
    /// It never arrives, and its caller is not told.
    Hang,
    /// Its caller's task panics.
    Panic,
    /// It has its effect at once, and its answer comes this much later.
    Slow(Duration),
}

/// A DynamoDB in memory. Clones share it.
#[derive(Clone)]
pub(crate) struct Dynamo {
    database: Database,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    faults: VecDeque<(&'static str, Fault)>,
    denied: Vec<String>,
    lasting: BTreeMap<&'static str, Fault>,
    log: Vec<(String, Value)>,
    served: BTreeMap<String, u64>,
}

impl fmt::Debug for Dynamo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dynamo").finish_non_exhaustive()
    }
}

impl Dynamo {
    pub(crate) fn new() -> Self {
        Self { database: Database::memory().unwrap(), shared: Arc::default() }
    }

    /// The same tables by another way, which has faults of its own.
    pub(crate) fn apart(&self) -> Self {
        Self { database: self.database.clone(), shared: Arc::default() }
    }

    pub(crate) fn client(&self) -> Client {
        let connector = SharedHttpConnector::new(Connector(self.clone()));
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .retry_config(RetryConfig::disabled())
            .endpoint_url("http://in-process")
            .http_client(http_client_fn(move |_settings, _components| connector.clone()));
        Client::from_conf(config.build())
    }

    /// The next call of the operation fails like this.
    pub(crate) fn fail(&self, operation: &'static str, fault: Fault) {
        self.shared.lock().unwrap().faults.push_back((operation, fault));
    }

    /// From now on nothing may be done with the table.
    pub(crate) fn deny(&self, table: &str) {
        self.shared.lock().unwrap().denied.push(table.to_owned());
    }

    /// From now on every call of the operation fails like this, or none.
    pub(crate) fn every(&self, operation: &'static str, fault: Option<Fault>) {
        let lasting = &mut self.shared.lock().unwrap().lasting;
        match fault {
            Some(fault) => lasting.insert(operation, fault),
            None => lasting.remove(operation),
        };
    }

    /// Faults that no call has met yet.
    pub(crate) fn faults_left(&self) -> usize {
        self.shared.lock().unwrap().faults.len()
    }

    /// Every write that had its effect, in order: operation and request.
    pub(crate) fn writes(&self) -> Vec<(String, Value)> {
        self.shared.lock().unwrap().log.clone()
    }

    /// How many calls of the operation came, refused ones included.
    pub(crate) fn served(&self, operation: &str) -> u64 {
        self.shared.lock().unwrap().served.get(operation).copied().unwrap_or_default()
    }

    /// None for a call without an end; otherwise when the answer comes, and which.
    fn exchange(&self, request: &HttpRequest) -> Option<(Duration, Result<HttpResponse, ConnectorError>)> {
        let operation = request.headers().get("x-amz-target").unwrap().rsplit('.').next().unwrap().to_owned();
        let body = request.body().bytes().unwrap();
        let fault = {
            let mut shared = self.shared.lock().unwrap();
            *shared.served.entry(operation.clone()).or_default() += 1;
            let index = shared.faults.iter().position(|(on, _)| *on == operation);
            let once = index.and_then(|index| shared.faults.remove(index)).map(|(_, fault)| fault);
            once.or(shared.lasting.get(&*operation).copied())
        };
        let at_once = |answer| Some((Duration::ZERO, answer));
        let broken = || Err(ConnectorError::io("the connection was cut".into()));
        match fault {
            Some(Fault::Cut) => return at_once(broken()),
            Some(Fault::Hang) => return None,
            Some(Fault::Panic) => panic!("made up"),
            Some(Fault::Throttle) => {
                return at_once(Ok(answer(400, r#"{"__type":"x#ThrottlingException","message":"slow down"}"#)));
            }
            Some(Fault::Deny) => {
                return at_once(Ok(answer(400, DENIED)));
            }
            Some(Fault::NoTable) => {
                return at_once(Ok(answer(400, r#"{"__type":"x#ResourceNotFoundException","message":"none"}"#)));
            }
            Some(Fault::Pass | Fault::LoseAnswer | Fault::Slow(_)) | None => {}
        }
        let table = serde_json::from_slice::<Value>(body).unwrap()["TableName"].as_str().unwrap_or_default().to_owned();
        if self.shared.lock().unwrap().denied.contains(&table) {
            return at_once(Ok(answer(400, DENIED)));
        }
        let response = match self.call(&operation, body) {
            Ok(json) => {
                if !["DescribeTable", "GetItem", "Query", "Scan"].contains(&operation.as_str()) {
                    let request = serde_json::from_slice(body).unwrap();
                    self.shared.lock().unwrap().log.push((operation, request));
                }
                answer(200, &json)
            }
            Err(error) => answer(error.status_code(), &error.to_json()),
        };
        match fault {
            Some(Fault::LoseAnswer) => at_once(broken()),
            Some(Fault::Slow(wait)) => Some((wait, Ok(response))),
            _ => at_once(Ok(response)),
        }
    }

    fn call(&self, operation: &str, body: &[u8]) -> Result<String, DynoxideError> {
        let database = &self.database;
        macro_rules! call {
            ($method:ident) => {
                serde_json::to_string(&database.$method(serde_json::from_slice(body).unwrap())?)
            };
        }
        let json = match operation {
            // Dynoxide has no backups.
            "UpdateContinuousBackups" => Ok("{}".to_owned()),
            "CreateTable" => call!(create_table),
            "DescribeTable" => call!(describe_table),
            "PutItem" => call!(put_item),
            "GetItem" => call!(get_item),
            "UpdateItem" => call!(update_item),
            "DeleteItem" => call!(delete_item),
            "Query" => call!(query),
            "Scan" => call!(scan),
            other => panic!("the lease table has no use for {other}"),
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
        match self.0.exchange(&request) {
            Some((Duration::ZERO, answer)) => HttpConnectorFuture::ready(answer),
            Some((wait, answer)) => HttpConnectorFuture::new(async move {
                tokio::time::sleep(wait).await;
                answer
            }),
            None => HttpConnectorFuture::new(std::future::pending()),
        }
    }
}
