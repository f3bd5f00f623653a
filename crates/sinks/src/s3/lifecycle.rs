//! Whether a bucket ends the uploads that nobody goes on with: killed writers leave some, and their parts cost storage.

use kinesink_aws::s3::error::ProvideErrorMetadata as _;
use kinesink_aws::s3::types::{ExpirationStatus, LifecycleRule};

use super::bucket::Bucket;
use super::error;

/// What a bucket does with uploads of killed writers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeftUploads {
    /// It ends them, or whether it does could not be seen.
    Fact(String),
    /// It keeps them; what to do about it.
    Warning(String),
}

impl Bucket {
    /// Looks at its lifecycle rules, if that is allowed.
    pub(super) async fn left_uploads(&self) -> LeftUploads {
        let get = self.client.get_bucket_lifecycle_configuration().bucket(&self.name);
        let rules = match get.set_expected_bucket_owner(self.settings.owner.clone()).send().await {
            Ok(found) => found.rules.unwrap_or_default(),
            Err(error) if error.code() == Some("NoSuchLifecycleConfiguration") => Vec::new(),
            Err(error) => {
                let why = kinesink_aws::code(&error).map_or_else(
                    || error::service("ask for them", &self.name, &error).message,
                    |code| format!("{code} for s3:GetLifecycleConfiguration"),
                );
                return LeftUploads::Fact(format!(
                    "whether lifecycle rules end the uploads of killed writers cannot be seen ({why}); one that does: {}",
                    self.rule()
                ));
            }
        };
        if let Some((rule, days)) = rules.iter().find_map(|rule| Some((rule, self.days(rule)?))) {
            let id = rule.id().unwrap_or_default();
            return LeftUploads::Fact(format!(
                "its lifecycle rule `{id}` ends uploads of killed writers after {days} days"
            ));
        }
        let remedy = if rules.is_empty() {
            format!(
                "aws s3api put-bucket-lifecycle-configuration --bucket {} --lifecycle-configuration '{{\"Rules\": [{}]}}'",
                self.name,
                self.rule()
            )
        } else {
            format!("add to its rules: {}", self.rule())
        };
        LeftUploads::Warning(format!(
            "no lifecycle rule ends the uploads of killed writers, which cost storage; {remedy}"
        ))
    }

    /// After how many days the rule ends uploads of this sink, if it does.
    fn days(&self, rule: &LifecycleRule) -> Option<i32> {
        // Older rules have their prefix beside the filter.
        #[expect(deprecated, reason = "services still answer so")]
        let beside = rule.prefix();
        let prefix = rule.filter().and_then(|filter| filter.prefix()).or(beside).unwrap_or_default();
        let is_ours = *rule.status() == ExpirationStatus::Enabled && self.folder().starts_with(prefix);
        rule.abort_incomplete_multipart_upload().filter(|_| is_ours)?.days_after_initiation()
    }

    /// A rule that ends uploads of this sink.
    fn rule(&self) -> String {
        format!(
            "{{\"ID\": \"uploads\", \"Status\": \"Enabled\", \"Filter\": {{\"Prefix\": {}}}, \
             \"AbortIncompleteMultipartUpload\": {{\"DaysAfterInitiation\": 1}}}}",
            serde_json::Value::from(self.folder())
        )
    }
}
