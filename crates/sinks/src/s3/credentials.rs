//! Lends the SDK's credentials to the object store: its own chain knows no SSO, no credential process, no profiles.

use std::sync::Arc;

use async_trait::async_trait;
use kinesink_aws::credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;

#[derive(Debug)]
pub(super) struct SdkCredentials {
    provider: SharedCredentialsProvider,
}

impl SdkCredentials {
    pub(super) fn new(provider: SharedCredentialsProvider) -> Self {
        Self { provider }
    }
}

#[async_trait]
impl CredentialProvider for SdkCredentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let credentials = self
            .provider
            .provide_credentials()
            .await
            .map_err(|source| object_store::Error::Generic { store: "S3", source: Box::new(source) })?;
        Ok(Arc::new(AwsCredential {
            key_id: credentials.access_key_id().into(),
            secret_key: credentials.secret_access_key().into(),
            token: credentials.session_token().map(Into::into),
        }))
    }
}
