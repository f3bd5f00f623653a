//! Options and the usual chain, to clients.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};

use crate::Error;

const CONNECT_MAX: Duration = Duration::from_secs(5);
/// KCL gives a GetRecords 30 s as well.
const REQUEST_MAX: Duration = Duration::from_secs(30);

/// What the caller knows. Whatever is `None` comes from the usual chain: environment, profile, role of the machine,
/// `AWS_ENDPOINT_URL*` included.
#[derive(Debug, Clone, Default)]
pub struct AwsOptions {
    /// Such as `eu-west-1`.
    pub region: Option<String>,
    /// A profile of the shared AWS files.
    pub profile: Option<String>,
    /// Where Kinesis is, such as `http://127.0.0.1:4567`.
    pub kinesis_endpoint: Option<String>,
    /// Where DynamoDB is.
    pub dynamodb_endpoint: Option<String>,
    /// Where S3 is. Nothing is built from it here; it is handed on in [`Clients`].
    pub s3_endpoint: Option<String>,
    /// Used instead of the chain.
    pub credentials: Option<StaticCredentials>,
}

/// A fixed pair of keys, for local services. `Debug` does not show the secret.
#[derive(Clone)]
pub struct StaticCredentials {
    /// The public half.
    pub access_key: String,
    /// The secret half.
    pub secret_key: String,
}

impl fmt::Debug for StaticCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticCredentials").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

/// The clients of one account and region. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Clients {
    /// The stream's service.
    pub kinesis: aws_sdk_kinesis::Client,
    /// The lease table's service.
    pub dynamodb: aws_sdk_dynamodb::Client,
    /// What the clients were built from, for further ones.
    pub sdk_config: SdkConfig,
    /// [`AwsOptions::s3_endpoint`].
    pub s3_endpoint: Option<String>,
}

impl Clients {
    /// The region.
    #[must_use]
    pub fn region(&self) -> &str {
        self.sdk_config.region().map_or("", Region::as_ref)
    }

    /// The SDK's credentials, for clients that are not the SDK's. The provider may ask a service, so cache.
    #[must_use]
    pub fn credentials(&self) -> Option<SharedCredentialsProvider> {
        self.sdk_config.credentials_provider()
    }
}

/// Builds the clients and asks the chain for credentials once, so that their absence is said before the first request.
///
/// # Errors
/// [`Error::NoRegion`] and [`Error::NoCredentials`]. Cancel safe.
pub async fn connect(options: &AwsOptions) -> Result<Clients, Error> {
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_MAX).operation_timeout(REQUEST_MAX).build();
    let mut loader =
        aws_config::defaults(BehaviorVersion::latest()).retry_config(RetryConfig::disabled()).timeout_config(timeouts);
    if let Some(region) = &options.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(profile) = &options.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(pair) = &options.credentials {
        let credentials = Credentials::new(&pair.access_key, &pair.secret_key, None, None, "kinesink");
        loader = loader.credentials_provider(credentials);
    }
    let sdk_config = loader.load().await;
    if sdk_config.region().is_none() {
        return Err(Error::NoRegion);
    }
    check_credentials(&sdk_config).await?;

    let mut kinesis = aws_sdk_kinesis::config::Builder::from(&sdk_config);
    if let Some(endpoint) = &options.kinesis_endpoint {
        kinesis = kinesis.endpoint_url(endpoint);
    }
    let mut dynamodb = aws_sdk_dynamodb::config::Builder::from(&sdk_config);
    if let Some(endpoint) = &options.dynamodb_endpoint {
        dynamodb = dynamodb.endpoint_url(endpoint);
    }
    Ok(Clients {
        kinesis: aws_sdk_kinesis::Client::from_conf(kinesis.build()),
        dynamodb: aws_sdk_dynamodb::Client::from_conf(dynamodb.build()),
        sdk_config,
        s3_endpoint: options.s3_endpoint.clone(),
    })
}

async fn check_credentials(sdk_config: &SdkConfig) -> Result<(), Error> {
    let provider = sdk_config.credentials_provider();
    let provider = provider.ok_or_else(|| Error::NoCredentials { reason: "no provider is configured".into() })?;
    match provider.provide_credentials().await {
        Ok(_) => Ok(()),
        Err(error) => {
            let cause = error.source().map_or_else(String::new, |source| format!(": {source}"));
            Err(Error::NoCredentials { reason: format!("{error}{cause}") })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> AwsOptions {
        let credentials = StaticCredentials { access_key: "local".into(), secret_key: "hidden".into() };
        AwsOptions { region: Some("eu-west-1".into()), credentials: Some(credentials), ..AwsOptions::default() }
    }

    #[tokio::test]
    async fn what_is_given_is_used_and_the_sdk_does_not_retry() {
        let endpoint = Some("http://127.0.0.1:1".to_owned());
        let clients = connect(&AwsOptions { s3_endpoint: endpoint.clone(), ..options() }).await.unwrap();
        assert_eq!((clients.region(), clients.s3_endpoint.clone()), ("eu-west-1", endpoint));
        assert_eq!(clients.kinesis.config().retry_config().unwrap().max_attempts(), 1);
        assert_eq!(clients.dynamodb.config().retry_config().unwrap().max_attempts(), 1);
        let credentials = clients.credentials().unwrap().provide_credentials().await.unwrap();
        assert_eq!(credentials.secret_access_key(), "hidden");
    }

    #[test]
    fn debug_shows_no_secret() {
        assert!(!format!("{:?}", options()).contains("hidden"));
    }
}
