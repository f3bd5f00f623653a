//! SDK errors as decisions. Judged here once; everything above reads the class.

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::time::Duration;

use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use kinesink_core::{Class, Failure};

/// How deep a chain of causes is written out.
const CAUSES_MAX: usize = 5;

/// The service's code of the error, such as `ExpiredIteratorException`; none if no service answered.
#[must_use]
pub fn code<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<&str> {
    error.as_service_error().and_then(ProvideErrorMetadata::code)
}

/// Whether a conditional write found another state than it required.
#[must_use]
pub fn is_condition_failed<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    code(error) == Some("ConditionalCheckFailedException")
}

/// Whether a shard iterator was older than five minutes.
#[must_use]
pub fn is_expired_iterator<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    code(error) == Some("ExpiredIteratorException")
}

/// Whether a stream, shard or table is not there.
#[must_use]
pub fn is_resource_not_found<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    code(error) == Some("ResourceNotFoundException")
}

/// Whether a stream or table is there already, or busy changing.
#[must_use]
pub fn is_resource_in_use<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    code(error) == Some("ResourceInUseException")
}

/// Whether the service did not accept an argument, such as an iterator or a timestamp in its future.
#[must_use]
pub fn is_invalid_argument<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    code(error) == Some("InvalidArgumentException")
}

/// Whether the service asks for fewer requests.
#[must_use]
pub fn is_throttled<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    code(error).is_some_and(is_throttling_code)
}

/// Judges a failed request. `attempt` and `resource` continue "cannot …": `failure("read", "shard X of stream Y", &e)`.
#[must_use]
pub fn failure<E>(attempt: &str, resource: &str, error: &SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    let (class, remedy) = judge(error, status);
    let mut message = format!("cannot {attempt} {resource}: {}", reason(error));
    if let Some(remedy) = remedy {
        message.push_str("; ");
        message.push_str(remedy);
    }
    Failure { class, message, retry_after: retry_after(error) }
}

fn judge<E: ProvideErrorMetadata>(
    error: &SdkError<E, HttpResponse>,
    status: Option<u16>,
) -> (Class, Option<&'static str>) {
    match error {
        SdkError::ServiceError(_) => judge_code(code(error).unwrap_or_default(), status),
        SdkError::ConstructionFailure(_) => {
            (Class::Configuration, Some("check the endpoint and the credentials of the AWS configuration"))
        }
        SdkError::DispatchFailure(failure) if failure.is_user() => {
            (Class::Configuration, Some("check the endpoint of the AWS configuration"))
        }
        // Timeouts, refused, cut and garbled connections.
        _ => (Class::Transient, None),
    }
}

fn judge_code(code: &str, status: Option<u16>) -> (Class, Option<&'static str>) {
    match code {
        "ResourceNotFoundException" => {
            (Class::Configuration, Some("create it, or correct its name, the region or the account"))
        }
        "AccessDeniedException" | "AccessDenied" | "KMSAccessDeniedException" => {
            (Class::Configuration, Some("grant this permission to the credentials in use"))
        }
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "IncompleteSignatureException"
        | "MissingAuthenticationTokenException"
        | "ExpiredTokenException"
        | "OptInRequired" => (Class::Configuration, Some("renew or correct the credentials in use")),
        "KMSDisabledException" | "KMSInvalidStateException" | "KMSNotFoundException" | "KMSOptInRequired" => {
            (Class::Configuration, Some("enable the key that encrypts the stream"))
        }
        "ResourceInUseException" => (Class::Transient, None),
        code if is_throttling_code(code) => (Class::Transient, None),
        _ if status.is_none_or(|status| status >= 500 || status == 429 || status == 408) => (Class::Transient, None),
        _ => (Class::Fatal, None),
    }
}

fn is_throttling_code(code: &str) -> bool {
    matches!(
        code,
        "ProvisionedThroughputExceededException"
            | "ThrottlingException"
            | "Throttling"
            | "ThrottledException"
            | "RequestLimitExceeded"
            | "LimitExceededException"
            | "KMSThrottlingException"
            | "TooManyRequestsException"
            | "SlowDown"
    )
}

fn reason<E>(error: &SdkError<E, HttpResponse>) -> String
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    if let Some(service) = error.as_service_error()
        && let Some(code) = service.code()
    {
        return match service.message() {
            Some(message) => format!("{code}: {}", message.trim_end_matches('.')),
            None => code.to_owned(),
        };
    }
    let mut reason = error.to_string();
    let mut cause = error.source();
    for _ in 0..CAUSES_MAX {
        let Some(error) = cause else { break };
        // Writing into a string cannot fail.
        let _ = write!(reason, ": {error}").is_ok();
        cause = error.source();
    }
    reason
}

fn retry_after<E>(error: &SdkError<E, HttpResponse>) -> Option<Duration> {
    let headers = error.raw_response()?.headers();
    if let Some(millis) = headers.get("x-amz-retry-after").and_then(|value| value.parse().ok()) {
        return Some(Duration::from_millis(millis));
    }
    headers.get("retry-after").and_then(|value| value.parse().ok()).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use aws_sdk_kinesis::error::ErrorMetadata;
    use aws_sdk_kinesis::operation::get_records::GetRecordsError;
    use aws_smithy_runtime_api::client::result::ConnectorError;
    use aws_smithy_types::body::SdkBody;

    use super::*;

    fn answered(
        code: &str,
        status: u16,
        headers: &[(&'static str, &'static str)],
    ) -> SdkError<GetRecordsError, HttpResponse> {
        let mut response = HttpResponse::new(status.try_into().unwrap(), SdkBody::empty());
        for (name, value) in headers {
            response.headers_mut().insert(*name, *value);
        }
        let error = GetRecordsError::generic(ErrorMetadata::builder().code(code).message("Why it is so.").build());
        SdkError::service_error(error, response)
    }

    #[test]
    fn each_kind_of_answer_has_its_class() {
        for (code, status, class) in [
            ("ProvisionedThroughputExceededException", 400, Class::Transient),
            ("ThrottlingException", 400, Class::Transient),
            ("LimitExceededException", 400, Class::Transient),
            ("ResourceInUseException", 400, Class::Transient),
            ("InternalFailure", 500, Class::Transient),
            ("ServiceUnavailable", 503, Class::Transient),
            ("ResourceNotFoundException", 400, Class::Configuration),
            ("AccessDeniedException", 400, Class::Configuration),
            ("ExpiredTokenException", 400, Class::Configuration),
            ("KMSDisabledException", 400, Class::Configuration),
            ("ValidationException", 400, Class::Fatal),
        ] {
            assert_eq!(failure("read", "shard 1", &answered(code, status, &[])).class, class, "{code}");
        }
    }

    #[test]
    fn the_message_names_attempt_resource_code_and_remedy() {
        let failure = failure("read", "stream orders", &answered("ResourceNotFoundException", 400, &[]));
        assert_eq!(
            failure.message,
            "cannot read stream orders: ResourceNotFoundException: Why it is so; create it, or correct its name, the \
             region or the account"
        );
    }

    #[test]
    fn no_answer_is_transient_and_its_causes_are_told() {
        let refused = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "connection refused");
        let error: SdkError<GetRecordsError, HttpResponse> =
            SdkError::dispatch_failure(ConnectorError::io(refused.into()));
        let failure = failure("read", "stream orders", &error);
        assert_eq!(failure.class, Class::Transient);
        assert!(failure.message.contains("connection refused"), "{failure}");
    }

    #[test]
    fn the_services_hint_is_kept() {
        let seconds = answered("ThrottlingException", 400, &[("retry-after", "3")]);
        assert_eq!(failure("read", "x", &seconds).retry_after, Some(Duration::from_secs(3)));
        let millis = answered("ThrottlingException", 400, &[("x-amz-retry-after", "250")]);
        assert_eq!(failure("read", "x", &millis).retry_after, Some(Duration::from_millis(250)));
        assert_eq!(failure("read", "x", &answered("ThrottlingException", 400, &[])).retry_after, None);
    }
}
