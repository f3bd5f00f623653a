//! Clients of sinks that are reached in another way than everything else.

use aws_config::Region;
use aws_config::sts::AssumeRoleProvider;

use crate::Clients;

/// What CloudTrail says of who assumed a role.
const SESSION: &str = "kinesink";

/// How a sink's service is reached. `Default` is as everything else.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ServiceOptions {
    /// The sink's region, where it is not the stream's.
    pub region: Option<String>,
    /// Another service that speaks the same.
    pub endpoint: Option<String>,
    /// ARN of the role that writes there.
    pub role: Option<String>,
    /// What the role's owner wants to be told.
    pub external_id: Option<String>,
}

impl Clients {
    /// A client for one table. Sends nothing.
    pub async fn dynamodb(&self, options: &ServiceOptions) -> aws_sdk_dynamodb::Client {
        let mut config = self.dynamodb.config().to_builder();
        if let Some(endpoint) = &options.endpoint {
            config = config.endpoint_url(endpoint);
        }
        if let Some(region) = &options.region {
            config = config.region(Region::new(region.clone()));
        }
        if let Some(role) = &options.role {
            config = config.credentials_provider(self.assume(role, options.external_id.as_deref()).await);
        }
        aws_sdk_dynamodb::Client::from_conf(config.build())
    }

    pub(crate) async fn assume(&self, role: &str, external_id: Option<&str>) -> AssumeRoleProvider {
        let mut provider = AssumeRoleProvider::builder(role).session_name(SESSION).configure(&self.config);
        if let Some(external_id) = external_id {
            provider = provider.external_id(external_id);
        }
        // Boxed, because it is much larger than what it is part of.
        Box::pin(provider.build()).await
    }
}
