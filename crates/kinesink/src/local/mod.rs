//! Local Kinesis, DynamoDB and S3 on loopback, for any AWS SDK.
//!
//! Not a second code path: the services listen on ports, and the ordinary SDK clients are pointed at them.

mod directory;

use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kinesink_emulator::{Certificate, Emulator, S3};
pub use kinesink_emulator::{Limit, Limits};
use tempfile::NamedTempFile;
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use self::directory::VERSION;
use crate::aws::{AwsOptions, StaticCredentials};
use crate::config::Config;
use crate::sinks::Location;

/// Any region does; the local services do not tell them apart.
const REGION: &str = "us-east-1";
/// Accepted without a check, as by every local service.
const ACCESS_KEY: &str = "local";

/// Why the local services did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process has the directory.
    #[error("cannot open {directory}: process {pid} has it; stop that process or choose another directory")]
    InUse {
        /// The directory.
        directory: PathBuf,
        /// Who holds it, as it wrote itself down.
        pid: String,
    },
    /// The directory was written by a newer kinesink.
    #[error(
        "cannot open {directory}: its layout version {found} was written by kinesink {writer}, and this is kinesink \
         {this} with version {VERSION}; use that kinesink or a newer one",
        this = env!("CARGO_PKG_VERSION")
    )]
    Newer {
        /// The directory.
        directory: PathBuf,
        /// Its layout version.
        found: u32,
        /// The program version that wrote it.
        writer: String,
    },
    /// A port cannot be had.
    #[error("cannot listen on 127.0.0.1:{port} for {service}: {source}; choose another with --{service}-port")]
    Port {
        /// `kinesis`, `dynamodb` or `s3`.
        service: &'static str,
        /// The port that was asked for.
        port: u16,
        /// What the system said.
        source: std::io::Error,
    },
    /// A service ended by itself.
    #[error("the local {service} ended by itself: {why}; what was acknowledged is stored: start it again")]
    Ended {
        /// `kinesis`, `dynamodb` or `s3`.
        service: &'static str,
        /// What it said.
        why: String,
    },
    /// TLS was asked for and cannot be had.
    #[error("cannot serve in TLS: {0}")]
    Certificate(#[source] kinesink_emulator::Error),
    /// A bucket of the pipeline file cannot be made.
    #[error(transparent)]
    Bucket(kinesink_emulator::Error),
    /// The directory or a file in it cannot be used.
    #[error("cannot use {path}: {message}")]
    Storage {
        /// What was touched.
        path: PathBuf,
        /// Why, and what to do.
        message: String,
    },
}

/// Where the local services keep their state and which ports they take.
#[derive(Debug, Clone, Default)]
pub struct LocalOptions {
    /// State survives a restart in this directory; without one it lives in memory.
    pub directory: Option<PathBuf>,
    /// 0 takes any free port.
    pub kinesis_port: u16,
    /// 0 takes any free port.
    pub dynamodb_port: u16,
    /// 0 takes any free port.
    pub s3_port: u16,
    /// Which of the service's limits the local Kinesis keeps; all by default.
    pub limits: Limits,
    /// How long a stream of the local Kinesis is being created, updated or deleted; no time by default.
    pub transitions: Duration,
    /// Whether the local Kinesis and S3 are served in TLS, with a certificate made for them.
    pub tls: bool,
}

/// Running local services. [`stop`](Self::stop) ends them; a drop ends them at once.
#[derive(Debug)]
pub struct Local {
    kinesis: SocketAddr,
    dynamodb: SocketAddr,
    s3: SocketAddr,
    buckets: S3,
    services: JoinSet<Result<(), String>>,
    names: Vec<(Id, &'static str)>,
    dynamodb_service: AbortHandle,
    shutdown: CancellationToken,
    /// Holds the authority of the certificate, and is gone with this.
    authority: Option<NamedTempFile>,
    _lock: Option<File>,
}

impl Local {
    /// Opens the directory, binds the ports and serves. All ports answer when this returns.
    ///
    /// # Errors
    /// [`Error`] names the directory, the port and the remedy; nothing is left running.
    pub async fn start(options: &LocalOptions) -> Result<Self, Error> {
        let lock = options.directory.as_deref().map(directory::open).transpose()?;
        let kinesis_listener = listen("kinesis", options.kinesis_port).await?;
        let dynamodb_listener = listen("dynamodb", options.dynamodb_port).await?;
        let s3_listener = listen("s3", options.s3_port).await?;
        // A log of gigabytes takes its time, and no worker of the runtime waits for it.
        let from = options.clone();
        let Opened { emulator, database, buckets } = blocking(move || open_services(&from)).await?;

        let shutdown = CancellationToken::new();
        let address =
            |listener: &TcpListener| listener.local_addr().map_err(|error| storage(Path::new("127.0.0.1"), &error));
        let (kinesis, dynamodb) = (address(&kinesis_listener)?, address(&dynamodb_listener)?);
        let s3 = address(&s3_listener)?;
        let certificate =
            if options.tls { Some(Certificate::self_signed().map_err(Error::Certificate)?) } else { None };
        let authority = certificate.as_ref().map(|certificate| authority_file(options, certificate)).transpose()?;
        let mut services = JoinSet::new();
        let (stopped, trusted) = (shutdown.clone().cancelled_owned(), certificate.clone());
        let kinesis_service = services.spawn(async move {
            let served = match &trusted {
                Some(certificate) => emulator.serve_tls(kinesis_listener, certificate, stopped).await,
                None => emulator.serve(kinesis_listener, stopped).await,
            };
            served.map_err(|error| error.to_string())
        });
        let (stopped, served) = (shutdown.clone().cancelled_owned(), buckets.clone());
        let s3_service = services.spawn(async move {
            let served = match &certificate {
                Some(certificate) => served.serve_tls(s3_listener, certificate, stopped).await,
                None => served.serve(s3_listener, stopped).await,
            };
            served.map_err(|error| error.to_string())
        });
        let stopped = shutdown.clone().cancelled_owned();
        let dynamodb_service =
            services.spawn(dynoxide::server::serve_with_shutdown(dynamodb_listener, database, stopped));
        let names =
            vec![(kinesis_service.id(), "kinesis"), (dynamodb_service.id(), "dynamodb"), (s3_service.id(), "s3")];
        let (authority, _lock) = (authority, lock);
        Ok(Self { kinesis, dynamodb, s3, buckets, services, names, dynamodb_service, shutdown, authority, _lock })
    }

    /// Makes the buckets that the pipeline file names and leaves to this S3.
    ///
    /// # Errors
    /// [`Error::Bucket`] names the bucket.
    pub async fn create_buckets(&self, config: &Config) -> Result<(), Error> {
        let sinks = config.sinks.iter().filter(|sink| sink.reached.endpoint.is_none()).map(|sink| &sink.url);
        let locations = sinks.chain(config.dead_letter.iter().map(|dead_letter| &dead_letter.url));
        let names = locations.filter_map(|location| match location {
            Location::Bucket { bucket, .. } => Some(bucket.clone()),
            Location::Directory(_) => None,
        });
        let (buckets, names) = (self.buckets.clone(), names.collect::<Vec<_>>());
        blocking(move || names.iter().try_for_each(|name| buckets.create_bucket(name)).map_err(Error::Bucket)).await
    }

    /// Resolves once a service has ended that nobody stopped: whoever is pointed at it waits for nothing. Cancel safe.
    pub async fn ended(&mut self) -> Error {
        let (id, why) = match self.services.join_next_with_id().await {
            Some(Ok((id, Ok(())))) => (id, "it was told to stop".to_owned()),
            Some(Ok((id, Err(why)))) => (id, why),
            Some(Err(error)) => (error.id(), error.to_string()),
            None => return std::future::pending().await,
        };
        let service = self.names.iter().find(|(named, _)| *named == id).map_or("service", |(_, name)| name);
        Error::Ended { service, why }
    }

    /// The environment that points an AWS SDK, or the `aws` command, at these services.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let mut environment = vec![
            ("AWS_ENDPOINT_URL_KINESIS", self.kinesis_url()),
            ("AWS_ENDPOINT_URL_DYNAMODB", self.dynamodb_url()),
            ("AWS_ENDPOINT_URL_S3", self.s3_url()),
            ("AWS_REGION", REGION.into()),
            ("AWS_DEFAULT_REGION", REGION.into()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.into()),
            ("AWS_SECRET_ACCESS_KEY", ACCESS_KEY.into()),
        ];
        if let Some(authority) = &self.authority {
            environment.push(("AWS_CA_BUNDLE", authority.path().display().to_string()));
        }
        environment
    }

    /// The same, for this process's own clients.
    #[must_use]
    pub fn aws_options(&self) -> AwsOptions {
        AwsOptions {
            region: Some(REGION.into()),
            kinesis_endpoint: Some(self.kinesis_url()),
            dynamodb_endpoint: Some(self.dynamodb_url()),
            s3_endpoint: Some(self.s3_url()),
            credentials: Some(StaticCredentials { access_key: ACCESS_KEY.into(), secret_key: ACCESS_KEY.into() }),
        }
    }

    /// Where the local Kinesis listens.
    #[must_use]
    pub fn kinesis_url(&self) -> String {
        format!("{}://{}", self.scheme(), self.kinesis)
    }

    /// Where the local DynamoDB listens.
    #[must_use]
    pub fn dynamodb_url(&self) -> String {
        format!("http://{}", self.dynamodb)
    }

    /// Where the local S3 listens.
    #[must_use]
    pub fn s3_url(&self) -> String {
        format!("{}://{}", self.scheme(), self.s3)
    }

    fn scheme(&self) -> &'static str {
        if self.authority.is_some() { "https" } else { "http" }
    }

    /// Stops the services and gives the directory back. Requests to Kinesis and S3 that have begun are answered; what was
    /// acknowledged is stored already, so connections that are still open after a while are cut.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        // It would wait for its clients to close their connections.
        self.dynamodb_service.abort();
        while self.services.join_next().await.is_some() {}
    }
}

fn storage(path: &Path, error: &dyn std::error::Error) -> Error {
    Error::Storage { path: path.into(), message: causes(error) }
}

/// An error with every cause, since the one that is made of it keeps none.
fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// What the services serve.
struct Opened {
    emulator: Emulator,
    database: dynoxide::Database,
    buckets: S3,
}

/// Does what takes its time where no worker of the runtime waits for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await.map_err(JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // The runtime ends, and this with it.
        Err(Err(_cancelled)) => std::future::pending().await,
    }
}

/// Reads what the directory holds, all of the local Kinesis' log included.
fn open_services(options: &LocalOptions) -> Result<Opened, Error> {
    let mut builder = Emulator::builder().limits(options.limits).transitions(options.transitions);
    let (place, database) = if let Some(directory) = &options.directory {
        builder = builder.directory(directory.join("kinesis"));
        let file = directory.join("dynamodb.sqlite");
        let text = file
            .to_str()
            .ok_or_else(|| Error::Storage { path: file.clone(), message: "the path is not UTF-8".into() })?;
        let database = dynoxide::Database::new(text).map_err(|error| {
            let message = format!("{}; mend that, or move the file away: every table is empty then", causes(&error));
            Error::Storage { path: file.clone(), message }
        })?;
        (directory.as_path(), database)
    } else {
        let place = Path::new(":memory:");
        (place, dynoxide::Database::memory().map_err(|error| storage(place, &error))?)
    };
    let emulator = builder.build().map_err(|error| storage(place, &error))?;
    let buckets = match &options.directory {
        Some(directory) => S3::in_directory(&directory.join("s3")),
        None => S3::temporary(),
    };
    let buckets = buckets.map_err(|error| storage(place, &error))?;
    Ok(Opened { emulator, database, buckets })
}

async fn listen(service: &'static str, port: u16) -> Result<TcpListener, Error> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(|source| Error::Port { service, port, source })
}

/// The authority's certificate in a file, in the directory if there is one, else among the temporary files.
fn authority_file(options: &LocalOptions, certificate: &Certificate) -> Result<NamedTempFile, Error> {
    let mut file = tempfile::Builder::new();
    file.prefix("kinesis-authority-").suffix(".pem");
    let directory = options.directory.clone().unwrap_or_else(std::env::temp_dir);
    let written = file.tempfile_in(&directory).and_then(|mut file| {
        file.write_all(certificate.authority_pem().as_bytes())?;
        Ok(file)
    });
    written.map_err(|error| Error::Storage { path: directory, message: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_cannot_be_opened_is_named_with_its_cause() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("kinesis/kinesis.log")).unwrap();
        let options = LocalOptions { directory: Some(directory.path().into()), ..LocalOptions::default() };
        let error = Local::start(&options).await.unwrap_err().to_string();
        assert!(error.contains("kinesis.log: ") && error.contains("Is a directory"), "{error}");
    }

    #[tokio::test]
    async fn a_damaged_database_is_named_with_the_way_out() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("dynamodb.sqlite"), [b'x'; 8192]).unwrap();
        let options = LocalOptions { directory: Some(directory.path().into()), ..LocalOptions::default() };
        let error = Local::start(&options).await.unwrap_err().to_string();
        assert!(error.contains("dynamodb.sqlite: ") && error.contains("move the file away"), "{error}");
    }

    #[tokio::test]
    async fn a_second_process_on_one_directory_is_told_the_first_ones_pid() {
        let directory = tempfile::tempdir().unwrap();
        let options = LocalOptions { directory: Some(directory.path().into()), ..LocalOptions::default() };
        let first = Local::start(&options).await.unwrap();
        let error = Local::start(&options).await.unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        first.stop().await;
        Local::start(&options).await.unwrap().stop().await;
    }

    #[test]
    fn while_the_log_is_read_other_tasks_go_on() {
        let directory = tempfile::tempdir().unwrap();
        let options = LocalOptions { directory: Some(directory.path().into()), ..LocalOptions::default() };
        // The only thread for what takes long is busy, so that the start is not done before it is looked at.
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let (go_on, told) = std::sync::mpsc::channel::<()>();
            let busy = tokio::task::spawn_blocking(move || told.recv());
            let mut start = Box::pin(Local::start(&options));
            assert!(futures::poll!(start.as_mut()).is_pending());
            go_on.send(()).unwrap();
            start.await.unwrap().stop().await;
            busy.await.unwrap().unwrap();
        });
    }

    #[tokio::test]
    async fn a_service_that_ends_by_itself_is_noticed_and_named() {
        let mut local = Local::start(&LocalOptions::default()).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(50), local.ended()).await.is_err(), "both serve");
        local.dynamodb_service.abort();
        let error = local.ended().await.to_string();
        assert!(error.starts_with("the local dynamodb ended by itself"), "{error}");
        local.stop().await;
    }

    #[tokio::test]
    async fn a_newer_directory_is_refused_naming_its_writer() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("version"), "2 9.8.7\n").unwrap();
        let options = LocalOptions { directory: Some(directory.path().into()), ..LocalOptions::default() };
        let error = Local::start(&options).await.unwrap_err().to_string();
        assert!(error.contains("kinesink 9.8.7"), "{error}");
    }

    #[tokio::test]
    async fn tls_comes_with_the_authority_that_clients_have_to_trust() {
        let options = LocalOptions { tls: true, ..LocalOptions::default() };
        let local = Local::start(&options).await.unwrap();
        let environment: std::collections::HashMap<_, _> = local.environment().into_iter().collect();
        assert!(environment["AWS_ENDPOINT_URL_KINESIS"].starts_with("https://127.0.0.1:"));
        assert!(environment["AWS_ENDPOINT_URL_S3"].starts_with("https://127.0.0.1:"));
        assert!(environment["AWS_ENDPOINT_URL_DYNAMODB"].starts_with("http://127.0.0.1:"));
        let authority = PathBuf::from(&environment["AWS_CA_BUNDLE"]);
        assert!(std::fs::read_to_string(&authority).unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
        local.stop().await;
        assert!(!authority.exists());
    }

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = Local::start(&LocalOptions { kinesis_port: port, ..LocalOptions::default() }).await.unwrap_err();
        assert!(error.to_string().contains(&format!("127.0.0.1:{port} for kinesis")), "{error}");
    }
}
