//! What lies between a process and the two services: time, loss, and a service that has no room.
//!
//! A request is on its way by itself: who sent it may have given it up, or be dead, when it arrives.

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use fastrand::Rng;
use http_body::{Body, Frame};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep_until};

use crate::clock::SimClock;
use crate::store::{KEY, Store};
use crate::witness::Witness;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Service {
    Table,
    Stream,
}

/// How a line between a process and a service is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Whoever sends is told.
    Refuses,
    /// Nobody is told anything.
    Swallows,
}

/// How often what happens to a call, from 0 to 1.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weather {
    pub(crate) lost: f64,
    pub(crate) answer_lost: f64,
    /// The request arrives twice, and the second answer comes back.
    pub(crate) twice: f64,
    pub(crate) throttled: f64,
    /// It takes seconds.
    pub(crate) slow: f64,
}

/// A request on its way.
struct Parcel {
    from: usize,
    service: Service,
    sent: Duration,
    /// The sender's.
    clock: SimClock,
    request: HttpRequest,
    connector: Option<SharedHttpConnector>,
    answer: oneshot::Sender<Delivery>,
}

/// An answer, or that the connection broke.
struct Delivery {
    at: Duration,
    answer: Option<HttpResponse>,
}

/// What happens to a parcel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Arrives,
    Lost,
    AnswerLost,
    Twice,
    Throttled,
}

struct State {
    rng: Rng,
    weather: Weather,
    cuts: BTreeMap<(usize, Service), Cut>,
    /// A service that has no room for anybody.
    browned_out: BTreeMap<Service, bool>,
}

/// The network. Clones share it.
#[derive(Clone)]
pub(crate) struct Network {
    clock: SimClock,
    state: Arc<Mutex<State>>,
    store: Arc<Mutex<Store>>,
    witness: Arc<Mutex<Witness>>,
    parcels: mpsc::UnboundedSender<Parcel>,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

/// Processes and services run in turns of this length, so that an answer may come so much later.
pub(crate) const QUANTUM: Duration = Duration::from_millis(50);
const ONE_WAY_MS_MIN: u64 = 5;
const ONE_WAY_MS_MAX: u64 = 80;
const SLOW_MS_MAX: u64 = 12_000;

impl Network {
    /// The network and what carries on it, which is to be run where the services are.
    pub(crate) fn new(
        clock: SimClock,
        rng: Rng,
        weather: Weather,
        store: Arc<Mutex<Store>>,
        witness: Arc<Mutex<Witness>>,
    ) -> (Self, impl Future<Output = ()>) {
        let (parcels, mut sent) = mpsc::unbounded_channel();
        let state = State { rng, weather, cuts: BTreeMap::new(), browned_out: BTreeMap::new() };
        let network = Self { clock, state: Arc::new(Mutex::new(state)), store, witness, parcels };
        let carrier = network.clone();
        let carry = async move {
            let mut under_way = JoinSet::new();
            while let Some(parcel) = sent.recv().await {
                let (fate, there, back, told) = carrier.fate(&parcel);
                let (from, operation, shard) = (parcel.from, operation(&parcel.request), shard(&parcel.request));
                let what = format_args!("p{from} sends {operation} {shard}: {fate:?}, {there:?}, {back:?}");
                carrier.witness().note(parcel.sent, what);
                under_way.spawn(carrier.clone().carry(parcel, fate, there, back, told));
                while under_way.try_join_next().is_some() {}
            }
        };
        (network, carry)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn witness(&self) -> MutexGuard<'_, Witness> {
        self.witness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        self.state().weather = weather;
    }

    pub(crate) fn cut(&self, from: usize, service: Service, cut: Option<Cut>) {
        match cut {
            Some(cut) => self.state().cuts.insert((from, service), cut),
            None => self.state().cuts.remove(&(from, service)),
        };
    }

    pub(crate) fn brown_out(&self, service: Service, on: bool) {
        self.state().browned_out.insert(service, on);
    }

    /// A client's way to a service, from a process. What `service` needs beyond the table is asked of `upstream`.
    pub(crate) fn line(
        &self,
        from: usize,
        clock: SimClock,
        service: Service,
        upstream: Option<SharedHttpClient>,
    ) -> SharedHttpClient {
        SharedHttpClient::new(Line { from, service, clock, upstream, parcels: self.parcels.clone(), connector: None })
    }

    fn fate(&self, parcel: &Parcel) -> (Fate, Duration, Duration, bool) {
        let mut state = self.state();
        let weather = state.weather;
        let roll = state.rng.f64();
        let mut below = 0.0;
        let mut is = |share: f64| {
            below += share;
            roll < below
        };
        let fate = if state.browned_out.get(&parcel.service) == Some(&true) {
            Fate::Throttled
        } else if is(weather.lost) {
            Fate::Lost
        } else if is(weather.answer_lost) {
            Fate::AnswerLost
        } else if is(weather.twice) {
            Fate::Twice
        } else if is(weather.throttled) {
            Fate::Throttled
        } else {
            Fate::Arrives
        };
        let way = |state: &mut State| {
            let slow = state.rng.f64() < weather.slow / 2.0;
            let ms = if slow { SLOW_MS_MAX } else { ONE_WAY_MS_MAX };
            Duration::from_millis(state.rng.u64(ONE_WAY_MS_MIN..=ms))
        };
        let (there, back) = (way(&mut state), way(&mut state));
        (fate, there, back, state.rng.bool())
    }

    fn is_cut(&self, parcel: &Parcel) -> Option<Cut> {
        self.state().cuts.get(&(parcel.from, parcel.service)).copied()
    }

    async fn carry(self, parcel: Parcel, fate: Fate, there: Duration, back: Duration, told: bool) {
        self.clock.sleep_until(parcel.sent + there).await;
        // An answer that nobody is told of is dropped: the other side waits.
        let broken = |parcel: Parcel, told: bool| {
            if told {
                drop(parcel.answer.send(Delivery { at: self.clock.elapsed() + back, answer: None }));
            }
        };
        if let Some(cut) = self.is_cut(&parcel) {
            return broken(parcel, cut == Cut::Refuses);
        }
        let operation = operation(&parcel.request);
        let answer = match fate {
            Fate::Lost => return broken(parcel, told),
            Fate::Throttled => throttled(&operation),
            Fate::Arrives | Fate::AnswerLost | Fate::Twice => {
                let again = (fate == Fate::Twice).then(|| parcel.request.try_clone()).flatten();
                let answer = self.serve(&parcel, &operation, parcel.request.try_clone()).await;
                if fate == Fate::AnswerLost {
                    return broken(parcel, told);
                }
                match again {
                    Some(again) => self.serve(&parcel, &operation, Some(again)).await,
                    None => answer,
                }
            }
        };
        if let Some(cut) = self.is_cut(&parcel) {
            return broken(parcel, cut == Cut::Refuses);
        }
        let Some((mut answer, at)) = answer.map(|answer| (answer, self.clock.elapsed() + back)) else {
            return broken(parcel, true);
        };
        if operation == "UpdateItem" && fate == Fate::Arrives && answer.status().is_success() {
            self.witness().answered(at + QUANTUM, parcel.from, parcel.sent, &shard(&parcel.request));
        }
        if operation != "SubscribeToShard" || !answer.status().is_success() {
            return drop(parcel.answer.send(Delivery { at, answer: Some(answer) }));
        }
        let (events, received) = mpsc::unbounded_channel();
        let body = Events { received, clock: parcel.clock.clone(), next: None };
        let upstream = std::mem::replace(answer.body_mut(), SdkBody::from_body_1_x(body));
        let (from, service) = (parcel.from, parcel.service);
        drop(parcel.answer.send(Delivery { at, answer: Some(answer) }));
        self.forward(from, service, upstream, &events, back).await;
    }

    /// Events of a subscription, until one side ends it or the line is cut.
    async fn forward(&self, from: usize, service: Service, mut body: SdkBody, events: &Sender, back: Duration) {
        loop {
            let frame = tokio::select! {
                biased;
                () = events.closed() => return,
                frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context)) => frame,
            };
            let cut = self.state().cuts.get(&(from, service)).copied();
            let data = match (cut, frame) {
                (Some(Cut::Swallows), _) => {
                    // Neither side is told.
                    return events.closed().await;
                }
                (Some(Cut::Refuses), _) | (None, Some(Err(_))) => Err(()),
                (None, None) => return,
                (None, Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => Ok((self.clock.elapsed() + back, data)),
                    Err(_) => continue,
                },
            };
            let is_over = data.is_err();
            if events.send(data).is_err() || is_over {
                return;
            }
        }
    }

    async fn serve(&self, parcel: &Parcel, operation: &str, request: Option<HttpRequest>) -> Option<HttpResponse> {
        let request = request.expect("a request that can be sent twice");
        let now = self.clock.elapsed();
        let body = request.body().bytes().expect("a request in memory");
        match &parcel.connector {
            Some(connector) => {
                let body: Value = serde_json::from_slice(body).expect("JSON");
                let from = body["ShardIteratorType"].as_str().or(body["StartingPosition"]["Type"].as_str());
                if let Some(from) = from {
                    self.witness().asked_from(now, parcel.from, &shard(&request), from);
                }
                connector.call(request).await.ok()
            }
            None => {
                let body = serde_json::from_slice(body).expect("JSON");
                let (status, body, write) =
                    self.store.lock().unwrap_or_else(PoisonError::into_inner).call(operation, &body);
                if let Some(write) = write {
                    self.witness().wrote(now, parcel.from, parcel.sent, &write);
                }
                Some(respond(status, &body))
            }
        }
    }
}

/// The shard that a request is about, if it is about one.
fn shard(request: &HttpRequest) -> String {
    let body: Value = request.body().bytes().and_then(|body| serde_json::from_slice(body).ok()).unwrap_or_default();
    body["ShardId"].as_str().or(body["Key"][KEY]["S"].as_str()).unwrap_or_default().to_owned()
}

fn operation(request: &HttpRequest) -> String {
    request.headers().get("x-amz-target").and_then(|target| target.rsplit('.').next()).expect("a target").to_owned()
}

fn respond(status: u16, body: &Value) -> HttpResponse {
    HttpResponse::new(status.try_into().expect("a status"), SdkBody::from(body.to_string()))
}

fn throttled(operation: &str) -> Option<HttpResponse> {
    let code = match operation {
        "ListShards" | "CreateTable" | "DescribeTable" => "LimitExceededException",
        _ => "ProvisionedThroughputExceededException",
    };
    Some(respond(400, &json!({"__type": code, "message": "no room"})))
}

/// One process's way to one service.
#[derive(Clone)]
struct Line {
    from: usize,
    service: Service,
    clock: SimClock,
    upstream: Option<SharedHttpClient>,
    parcels: mpsc::UnboundedSender<Parcel>,
    connector: Option<SharedHttpConnector>,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("from", &self.from).field("service", &self.service).finish_non_exhaustive()
    }
}

impl HttpClient for Line {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let connector = self.upstream.as_ref().map(|upstream| upstream.http_connector(settings, components));
        SharedHttpConnector::new(Self { connector, ..self.clone() })
    }
}

impl HttpConnector for Line {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (answer, delivered) = oneshot::channel();
        let (from, service, sent) = (self.from, self.service, self.clock.elapsed());
        let connector = self.connector.clone();
        let clock = self.clock.clone();
        drop(self.parcels.send(Parcel { from, service, sent, clock: clock.clone(), request, connector, answer }));
        HttpConnectorFuture::new(async move {
            let broken = || ConnectorError::io("the connection broke".into());
            let Ok(Delivery { at, answer }) = delivered.await else { return std::future::pending().await };
            sleep_until(clock.instant(at)).await;
            answer.ok_or_else(broken)
        })
    }
}

type Sender = mpsc::UnboundedSender<Result<(Duration, Bytes), ()>>;

/// A subscription as its subscriber's side has it.
struct Events {
    received: mpsc::UnboundedReceiver<Result<(Duration, Bytes), ()>>,
    clock: SimClock,
    next: Option<(Pin<Box<Sleep>>, Bytes)>,
}

impl Body for Events {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.get_mut();
        if this.next.is_none() {
            match ready!(this.received.poll_recv(context)) {
                None => return Poll::Ready(None),
                Some(Err(())) => return Poll::Ready(Some(Err(std::io::Error::other("the connection broke")))),
                Some(Ok((at, data))) => this.next = Some((Box::pin(sleep_until(this.clock.instant(at))), data)),
            }
        }
        if let Some((sleep, _)) = &mut this.next {
            ready!(sleep.as_mut().poll(context));
        }
        Poll::Ready(this.next.take().map(|(_, data)| Ok(Frame::data(data))))
    }
}
