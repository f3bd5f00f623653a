//! What an SDK error means for whoever sent the request.

use std::error::Error as StdError;
use std::time::Duration;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use kinesink_core::{Class, Failure};

/// Codes of requests that the service had no room or no time for.
const THROTTLES: &[&str] = &[
    "KMSThrottlingException",
    "LimitExceededException",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ThrottlingException",
];

/// Codes that pass by themselves.
const PASSING: &[&str] = &[
    "ExpiredIteratorException",
    "ExpiredNextTokenException",
    "InternalFailure",
    "InternalServerError",
    "RequestTimeoutException",
    "ResourceInUseException",
    "ServiceUnavailable",
    "TransactionConflictException",
];

/// Codes that someone has to mend outside, with what to do.
const MENDABLE: &[(&str, &str)] = &[
    ("AccessDeniedException", "grant the permission to this role"),
    ("ExpiredTokenException", "renew the session's credentials"),
    ("IncompleteSignature", "check the credentials"),
    ("InvalidClientTokenId", "check the credentials"),
    ("InvalidSignatureException", "check the secret key and this machine's clock"),
    ("KMSAccessDeniedException", "grant kms:Decrypt on the stream's key to this role"),
    ("KMSDisabledException", "enable the stream's key"),
    ("KMSInvalidStateException", "check the state of the stream's key"),
    ("KMSNotFoundException", "check the stream's key"),
    ("MissingAuthenticationTokenException", "set credentials"),
    ("OptInRequired", "enable the region for this account"),
    ("ResourceNotFoundException", "check name, region and account; run and put create it with --create"),
    ("UnrecognizedClientException", "check the credentials"),
];

/// The verdict on an error of an SDK call: what was attempted (a verb phrase such as "read"), on what, why, what to
/// do.
pub fn failure<E>(attempt: &str, what: &str, error: &SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    let (class, remedy) = class_of(error);
    let why = why(error);
    let remedy = remedy.map(|remedy| format!("; {remedy}")).unwrap_or_default();
    Failure { class, message: format!("cannot {attempt} {what}: {why}{remedy}"), retry_after: retry_after(error) }
}

/// The verdict on an event stream that ended with an error: transient, since opening it again shows whether that lasts.
pub fn broken_stream<E, R>(attempt: &str, what: &str, error: &SdkError<E, R>) -> Failure
where
    E: ProvideErrorMetadata + StdError + 'static,
    R: std::fmt::Debug,
{
    let why = match error {
        SdkError::ServiceError(service) => of_metadata(service.err()),
        other => Some(chain(other)),
    };
    let why = why.unwrap_or_else(|| "the service answered with an error".into());
    Failure::transient(format!("cannot {attempt} {what}: {why}"))
}

/// The service's code of an error, such as `ExpiredIteratorException`.
pub fn code<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<&str> {
    match error {
        SdkError::ServiceError(service) => service.err().code(),
        _ => None,
    }
}

/// Whether the service had no room for the request.
pub fn is_throttle<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    code(error).is_some_and(|code| THROTTLES.contains(&code))
}

fn class_of<E: ProvideErrorMetadata + StdError + 'static>(
    error: &SdkError<E, HttpResponse>,
) -> (Class, Option<&'static str>) {
    match error {
        SdkError::TimeoutError(_) | SdkError::ResponseError(_) => (Class::Transient, None),
        SdkError::DispatchFailure(_) | SdkError::ConstructionFailure(_) if chain(error).contains("credentials") => {
            (Class::Configuration, Some("set credentials, a profile or a role"))
        }
        SdkError::DispatchFailure(_) => (
            Class::Transient,
            Some(
                "check the network, the region, and what names that address: `endpoint` in the file or AWS_ENDPOINT_URL, if set",
            ),
        ),
        SdkError::ServiceError(service) => of_service(service.err().code(), service.raw().status().as_u16()),
        _ => (Class::Fatal, None),
    }
}

fn of_service(code: Option<&str>, status: u16) -> (Class, Option<&'static str>) {
    let code = code.unwrap_or_default();
    if THROTTLES.contains(&code) || PASSING.contains(&code) {
        return (Class::Transient, None);
    }
    if let Some((_, remedy)) = MENDABLE.iter().find(|(mendable, _)| *mendable == code) {
        return (Class::Configuration, Some(remedy));
    }
    match status {
        429 | 500.. => (Class::Transient, None),
        401 | 403 => (Class::Configuration, Some("check credentials and permissions")),
        _ => (Class::Fatal, None),
    }
}

fn why<E: ProvideErrorMetadata + StdError + 'static>(error: &SdkError<E, HttpResponse>) -> String {
    match error {
        SdkError::ServiceError(service) => of_metadata(service.err())
            .unwrap_or_else(|| format!("the service answered with status {}", service.raw().status())),
        // It begins with where the request went.
        SdkError::DispatchFailure(failure) => {
            failure.as_connector_error().and_then(StdError::source).map_or_else(|| chain(error), chain)
        }
        other => chain(other),
    }
}

fn of_metadata(error: &impl ProvideErrorMetadata) -> Option<String> {
    match (error.code()?, error.message()) {
        (code, Some(message)) => Some(format!("{code}: {}", message.trim_end().trim_end_matches('.'))),
        (code, None) => Some(code.to_owned()),
    }
}

fn retry_after<E>(error: &SdkError<E, HttpResponse>) -> Option<Duration> {
    let header = error.raw_response()?.headers().get("retry-after")?;
    header.parse().ok().map(Duration::from_secs)
}

/// An error and its causes, in one line.
pub fn chain(error: &dyn StdError) -> String {
    let mut text = in_one_line(error);
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = in_one_line(error);
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        cause = error.source();
    }
    text
}

/// The credential chain reports one provider a line.
fn in_one_line(error: &dyn StdError) -> String {
    let text = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    text.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use aws_sdk_kinesis::error::ErrorMetadata;
    use aws_sdk_kinesis::operation::get_records::GetRecordsError;
    use aws_smithy_runtime_api::http::StatusCode;
    use aws_smithy_types::body::SdkBody;

    use super::*;

    fn service(code: &str, status: u16) -> SdkError<GetRecordsError, HttpResponse> {
        let metadata = ErrorMetadata::builder().code(code).message("no").build();
        let raw = HttpResponse::new(StatusCode::try_from(status).unwrap(), SdkBody::empty());
        SdkError::service_error(GetRecordsError::generic(metadata), raw)
    }

    #[test]
    fn codes_decide_and_unknown_ones_go_by_their_status() {
        for (code, status, class) in [
            ("ProvisionedThroughputExceededException", 400, Class::Transient),
            ("ExpiredIteratorException", 400, Class::Transient),
            ("AccessDeniedException", 400, Class::Configuration),
            ("ResourceNotFoundException", 400, Class::Configuration),
            ("NeverHeardOf", 503, Class::Transient),
            ("NeverHeardOf", 403, Class::Configuration),
            ("InvalidArgumentException", 400, Class::Fatal),
        ] {
            assert_eq!(failure("read", "shard s", &service(code, status)).class, class, "{code} {status}");
        }
    }

    #[test]
    fn the_message_says_attempt_object_cause_and_remedy() {
        let failure = failure("read", "stream orders", &service("AccessDeniedException", 400));
        let said = "cannot read stream orders: AccessDeniedException: no; grant the permission to this role";
        assert_eq!(failure.message, said);
        assert!(is_throttle(&service("LimitExceededException", 400)));
        assert!(!is_throttle(&service("AccessDeniedException", 400)));
    }

    #[test]
    fn a_full_stop_stood_before_the_remedy() {
        let metadata =
            ErrorMetadata::builder().code("ResourceNotFoundException").message("Stream orders not found.").build();
        let raw = HttpResponse::new(StatusCode::try_from(400).unwrap(), SdkBody::empty());
        let error = SdkError::service_error(GetRecordsError::generic(metadata), raw);
        let said = failure("read", "stream orders", &error).message;
        assert!(
            said.starts_with("cannot read stream orders: ResourceNotFoundException: Stream orders not found; "),
            "{said}"
        );
    }

    #[test]
    fn a_request_that_took_too_long_is_sent_again() {
        let error: SdkError<GetRecordsError, HttpResponse> = SdkError::timeout_error("30 s");
        assert_eq!(failure("read", "shard s", &error).class, Class::Transient);
    }
}
