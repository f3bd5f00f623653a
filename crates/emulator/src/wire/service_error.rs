//! The service's errors, as clients know them.

use std::borrow::Cow;

use serde::Serialize;

/// An answer other than success: the type that clients match on, and a message for people. These are its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ServiceError {
    #[serde(rename = "__type")]
    pub(crate) code: Cow<'static, str>,
    pub(crate) message: String,
    #[serde(skip)]
    pub(crate) status: u16,
}

impl ServiceError {
    fn client(code: &'static str, message: impl Into<String>) -> Self {
        Self { code: Cow::Borrowed(code), message: message.into(), status: 400 }
    }

    /// The error of that type, with the status that the service gives it.
    pub(crate) fn of_type(code: &str, message: impl Into<String>) -> Self {
        let status = match code {
            "InternalFailure" | "InternalFailureException" | "InternalServerError" => 500,
            "ServiceUnavailable" | "ServiceUnavailableException" => 503,
            _ => 400,
        };
        Self { code: Cow::Owned(code.to_owned()), message: message.into(), status }
    }

    pub(crate) fn internal_failure(message: impl Into<String>) -> Self {
        Self { code: Cow::Borrowed("InternalFailure"), message: message.into(), status: 500 }
    }

    pub(crate) fn resource_not_found(message: impl Into<String>) -> Self {
        Self::client("ResourceNotFoundException", message)
    }

    pub(crate) fn resource_in_use(message: impl Into<String>) -> Self {
        Self::client("ResourceInUseException", message)
    }

    pub(crate) fn invalid_argument(message: impl Into<String>) -> Self {
        Self::client("InvalidArgumentException", message)
    }

    pub(crate) fn limit_exceeded(message: impl Into<String>) -> Self {
        Self::client("LimitExceededException", message)
    }

    pub(crate) fn throughput_exceeded(message: impl Into<String>) -> Self {
        Self::client("ProvisionedThroughputExceededException", message)
    }

    pub(crate) fn expired_iterator(message: impl Into<String>) -> Self {
        Self::client("ExpiredIteratorException", message)
    }

    pub(crate) fn expired_next_token(message: impl Into<String>) -> Self {
        Self::client("ExpiredNextTokenException", message)
    }

    pub(crate) fn validation(message: impl Into<String>) -> Self {
        Self::client("ValidationException", message)
    }

    pub(crate) fn serialization(message: impl Into<String>) -> Self {
        Self::client("SerializationException", message)
    }

    pub(crate) fn dry_run(message: impl Into<String>) -> Self {
        Self::client("DryRunOperationException", message)
    }

    pub(crate) fn throttling(message: impl Into<String>) -> Self {
        Self::client("ThrottlingException", message)
    }

    pub(crate) fn missing_authentication_token(message: impl Into<String>) -> Self {
        Self::client("MissingAuthenticationTokenException", message)
    }

    pub(crate) fn incomplete_signature(message: impl Into<String>) -> Self {
        Self::client("IncompleteSignatureException", message)
    }

    pub(crate) fn unknown_operation(message: impl Into<String>) -> Self {
        Self::client("UnknownOperationException", message)
    }
}
