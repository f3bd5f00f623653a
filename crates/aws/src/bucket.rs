//! Clients of S3: each sink has its own, since buckets differ in region and in who may write to them.

use std::time::Duration;

use aws_config::Region;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::Builder;

use crate::Clients;

const CONNECT_MAX: Duration = Duration::from_secs(5);
/// What a request has beside the time for its bytes.
const ATTEMPT_MAX: Duration = Duration::from_secs(120);
/// A line that takes less of a request is too slow: one of 64 MiB ends after eleven minutes.
pub const SLOWEST_BYTES_PER_S: u64 = 128 * 1024;

/// How a bucket is reached. `Default` is as everything else.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct BucketOptions {
    /// The bucket's region, where it is not the stream's.
    pub region: Option<String>,
    /// Another service that speaks S3; else that of all buckets, `AWS_ENDPOINT_URL_S3` or AWS.
    pub endpoint: Option<String>,
    /// Whether the bucket stands in the path of a URL instead of its host. Without it, where there is an endpoint.
    pub path_style: Option<bool>,
    /// ARN of the role that writes there.
    pub role: Option<String>,
    /// What the role's owner wants to be told.
    pub external_id: Option<String>,
}

/// What a request with a body of so many bytes may take: two minutes, and a second more for each 128 KiB.
#[must_use]
pub fn bucket_timeouts(bytes: u64) -> TimeoutConfig {
    let attempt = ATTEMPT_MAX + Duration::from_secs(bytes / SLOWEST_BYTES_PER_S);
    TimeoutConfig::builder().connect_timeout(CONNECT_MAX).operation_attempt_timeout(attempt).build()
}

impl Clients {
    /// A client for one bucket. Sends nothing.
    pub async fn s3(&self, options: &BucketOptions) -> Client {
        let endpoint = options.endpoint.as_ref().or(self.s3_endpoint.as_ref());
        let mut config = Builder::from(&self.config)
            .timeout_config(bucket_timeouts(0))
            .force_path_style(options.path_style.unwrap_or(endpoint.is_some()));
        if let Some(endpoint) = endpoint {
            config = config.endpoint_url(endpoint);
        }
        if let Some(region) = &options.region {
            config = config.region(Region::new(region.clone()));
        }
        if let Some(role) = &options.role {
            config = config.credentials_provider(self.assume(role, options.external_id.as_deref()).await);
        }
        Client::from_conf(config.build())
    }
}
