//! SDK clients from options and the usual chain.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_types::service_config::ServiceConfigKey;
use http::Uri;

use crate::Error;

const CONNECT_MAX: Duration = Duration::from_secs(5);
/// A reply of 10 MiB over a slow line takes a while.
const ATTEMPT_MAX: Duration = Duration::from_secs(30);

/// Keys that are given, for local services.
#[derive(Clone)]
pub struct StaticCredentials {
    /// The access key id.
    pub access_key: String,
    /// The secret key. Never shown.
    pub secret_key: String,
}

impl std::fmt::Debug for StaticCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StaticCredentials").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

/// What overrides the usual chain (environment, profile, role). `Default` overrides nothing.
#[derive(Debug, Clone, Default)]
pub struct AwsOptions {
    /// Such as `eu-west-1`.
    pub region: Option<String>,
    /// Another Kinesis, such as `http://127.0.0.1:4567`; else `AWS_ENDPOINT_URL_KINESIS` or AWS.
    pub kinesis_endpoint: Option<String>,
    /// Another DynamoDB; else `AWS_ENDPOINT_URL_DYNAMODB` or AWS.
    pub dynamodb_endpoint: Option<String>,
    /// Another S3; else `AWS_ENDPOINT_URL_S3` or AWS.
    pub s3_endpoint: Option<String>,
    /// Keys instead of the chain's.
    pub credentials: Option<StaticCredentials>,
}

/// Clients that retry nothing by themselves: who calls them decides. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Clients {
    /// The stream's.
    pub kinesis: aws_sdk_kinesis::Client,
    /// The lease table's.
    pub dynamodb: aws_sdk_dynamodb::Client,
    /// The region of all of them.
    pub region: String,
    /// The one that was given, or `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`, or the profile's, if any.
    pub s3_endpoint: Option<String>,
    /// What clients of further services are made from.
    pub config: SdkConfig,
}

/// Resolves region and credentials, and builds the clients. Asks the credential chain once, so that missing
/// credentials are known before anything is started.
///
/// # Errors
/// [`Error`] names what is missing and where to set it.
pub async fn connect(options: &AwsOptions) -> Result<Clients, Error> {
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_MAX).operation_attempt_timeout(ATTEMPT_MAX).build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(crate::http::client()?)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts);
    if let Some(region) = &options.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(keys) = &options.credentials {
        let keys = Credentials::new(&keys.access_key, &keys.secret_key, None, None, "kinesink local");
        loader = loader.credentials_provider(keys);
    }
    let config = loader.load().await;
    let region = region(&config)?;
    let s3_endpoint = options.s3_endpoint.clone().or_else(|| endpoint(&config, "S3"));
    for (service, given, set) in [
        ("Kinesis", &options.kinesis_endpoint, endpoint(&config, "Kinesis")),
        ("DynamoDB", &options.dynamodb_endpoint, endpoint(&config, "DynamoDB")),
        ("S3", &options.s3_endpoint, endpoint(&config, "S3")),
    ] {
        if let Some(url) = given.clone().or(set) {
            check_endpoint(service, &url)?;
        }
    }
    let credentials = config.credentials_provider().ok_or_else(|| Error::NoCredentials("the chain is empty".into()))?;
    credentials.provide_credentials().await.map_err(|error| Error::NoCredentials(crate::chain(&error)))?;

    // A service's builder takes AWS_ENDPOINT_URL_<SERVICE> and the profile's from the configuration by itself.
    let mut kinesis = aws_sdk_kinesis::config::Builder::from(&config);
    if let Some(endpoint) = &options.kinesis_endpoint {
        kinesis = kinesis.endpoint_url(endpoint);
    }
    let mut dynamodb = aws_sdk_dynamodb::config::Builder::from(&config);
    if let Some(endpoint) = &options.dynamodb_endpoint {
        dynamodb = dynamodb.endpoint_url(endpoint);
    }
    Ok(Clients {
        kinesis: aws_sdk_kinesis::Client::from_conf(kinesis.build()),
        dynamodb: aws_sdk_dynamodb::Client::from_conf(dynamodb.build()),
        region,
        s3_endpoint,
        config,
    })
}

/// A service's endpoint in the environment or the profile, else the one for all services. An SDK client's builder finds it
/// by itself, but does not say what is wrong with it.
fn endpoint(config: &SdkConfig, service: &str) -> Option<String> {
    let key =
        ServiceConfigKey::builder().service_id(service).env("AWS_ENDPOINT_URL").profile("endpoint_url").build().ok()?;
    let service = config.service_config().and_then(|service| service.load_config(key));
    service.or_else(|| config.endpoint_url().map(str::to_owned))
}

fn region(config: &SdkConfig) -> Result<String, Error> {
    let region = config.region().map(ToString::to_string).filter(|region| !region.is_empty()).ok_or(Error::NoRegion)?;
    check_region(&region)?;
    Ok(region)
}

/// Refuses what cannot be a region, of which there are more than this program knows.
///
/// # Errors
/// [`Error::Region`].
pub fn check_region(region: &str) -> Result<(), Error> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_one = (1..=63).contains(&region.len()) && region.bytes().all(allowed) && !region.starts_with('-');
    if is_one { Ok(()) } else { Err(Error::Region(region.into())) }
}

/// Refuses what cannot be the address of a service, saying what it is the endpoint of.
///
/// # Errors
/// [`Error::Endpoint`], which shows the address unless it holds a password.
pub fn check_endpoint(service: &str, url: &str) -> Result<(), Error> {
    let refuse =
        |shown: &str, why: &'static str| Err(Error::Endpoint { service: service.into(), url: shown.into(), why });
    if url.contains('@') {
        return refuse("...@...", "credentials do not stand in it");
    }
    match url.parse::<Uri>() {
        Ok(uri) if !matches!(uri.scheme_str(), Some("http" | "https")) => {
            refuse(url, "it does not begin with http:// or https://")
        }
        Ok(uri) if uri.host().is_none_or(str::is_empty) => refuse(url, "it names no host"),
        Ok(_) => Ok(()),
        Err(_) => refuse(url, "it is not a URL"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_url_with_scheme_and_host_and_no_password() {
        for url in ["http://127.0.0.1:4567", "https://kinesis.eu-west-1.amazonaws.com", "http://localhost/path"] {
            check_endpoint("Kinesis", url).unwrap();
        }
        for (url, why) in [
            ("127.0.0.1:4567", "does not begin with http"),
            ("localhost", "does not begin with http"),
            ("ftp://host", "does not begin with http"),
            ("http://", "is not a URL"),
            ("http://a b", "is not a URL"),
            ("", "is not a URL"),
        ] {
            let error = check_endpoint("Kinesis", url).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains(&format!("{url:?}")), "{error}");
        }
        let error = check_endpoint("S3", "http://me:secret@host").unwrap_err().to_string();
        assert!(error.contains("credentials") && !error.contains("secret"), "{error}");
    }
}
