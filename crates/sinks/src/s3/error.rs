//! Judges what the object store answers: once, here.

use std::error::Error as StdError;
use std::io::{self, ErrorKind};

use kinesink_aws::credential_types::provider::error::CredentialsError;
use kinesink_core::Failure;
use object_store::Error;

use crate::Location;

/// What `error` means for the batch. `attempt` reads like "write s3://bucket/key".
pub(super) fn classify(attempt: &str, location: &Location, error: &Error) -> Failure {
    match location {
        Location::Directory(_) => match cause::<io::Error>(error) {
            Some(io) => disk(attempt, io),
            None => Failure::transient(format!("cannot {attempt}: {}", deepest(error))),
        },
        Location::Bucket { bucket, .. } => service(attempt, bucket, error),
    }
}

/// What an I/O error in the directory means.
pub(super) fn disk(attempt: &str, error: &io::Error) -> Failure {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Failure::transient(format!(
            "cannot {attempt}: no space left on the device: make room; the sink pauses and tries again"
        )),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Failure::configuration(format!(
            "cannot {attempt}: {error}: let this user write there; the sink pauses and tries again"
        )),
        ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::InvalidFilename => {
            Failure::configuration(format!("cannot {attempt}: {error}: move what is in the way, or mend the url"))
        }
        _ => Failure::transient(format!("cannot {attempt}: {error}")),
    }
}

fn service(attempt: &str, bucket: &str, error: &Error) -> Failure {
    if let Some(error) = cause::<CredentialsError>(error) {
        return credentials(attempt, error);
    }
    if matches!(error, Error::NotImplemented { .. } | Error::NotSupported { .. } | Error::InvalidPath { .. }) {
        return Failure::configuration(format!("cannot {attempt}: {}", deepest(error)));
    }
    let text = cause_text(error);
    let (code, status) = (xml(&text, "Code").unwrap_or_default(), status(&text));
    let because = match (xml(&text, "Message"), code) {
        (Some(message), code) if !code.is_empty() => format!("{code}: {}", message.trim_end_matches('.')),
        _ => status.map_or_else(|| deepest(error), |status| format!("HTTP status {status}")),
    };
    let mend = |remedy: &str| Failure::configuration(format!("cannot {attempt}: {because}: {remedy}"));
    match (code, status) {
        ("NoSuchBucket", _) | ("", Some(404)) => mend(&format!("create the bucket {bucket} or mend the sink's url")),
        ("InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken", _) | (_, Some(401)) => {
            mend("the credentials are not valid: renew them")
        }
        ("RequestTimeTooSkewed", _) => mend("set this machine's clock"),
        ("ExpiredToken" | "RequestTimeout" | "ConditionalRequestConflict" | "OperationAborted", _) => {
            Failure::transient(format!("cannot {attempt}: {because}"))
        }
        ("AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException", _)
        | (_, Some(300..=399)) => mend(&format!("set `region` to that of the bucket {bucket}")),
        (_, None) if text.contains("redirect without LOCATION") => {
            mend(&format!("set `region` to that of the bucket {bucket}"))
        }
        (_, Some(403)) => mend(&format!("allow s3:PutObject and s3:GetObject on the objects of {bucket}")),
        (_, Some(408 | 409 | 412 | 429)) => Failure::transient(format!("cannot {attempt}: {because}")),
        (_, None) => Failure::transient(format!(
            "cannot {attempt}: {because}: no answer from the service: check the sink's endpoint, or \
             AWS_ENDPOINT_URL_S3, and the network"
        )),
        (_, Some(400..=499)) => mend("the service refuses the request as it is; check the sink's url and endpoint"),
        _ => Failure::transient(format!("cannot {attempt}: {because}")),
    }
}

fn credentials(attempt: &str, error: &CredentialsError) -> Failure {
    match error {
        CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) => {
            Failure::configuration(format!(
                "cannot {attempt}: no AWS credentials: {}: set AWS_PROFILE or AWS_ACCESS_KEY_ID and \
                 AWS_SECRET_ACCESS_KEY, or attach a role",
                deepest(error)
            ))
        }
        _ => Failure::transient(format!("cannot {attempt}: no AWS credentials now: {}", deepest(error))),
    }
}

fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// The first cause of type `E`.
fn cause<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    chain(error).find_map(|error| error.downcast_ref())
}

/// The last cause says most: the ones before it repeat it, or say only that something failed.
fn deepest(error: &(dyn StdError + 'static)) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}

/// The text that holds status and body. The store's own error type for a reply cannot be named from outside, so its
/// message is read; a test over a socket holds the form.
fn cause_text(error: &(dyn StdError + 'static)) -> String {
    chain(error).map(ToString::to_string).find(|text| status(text).is_some()).unwrap_or_else(|| error.to_string())
}

fn status(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("status code: ")?;
    rest.get(..3)?.parse().ok()
}

/// The text of the first element of that name. Only `Code` and `Message` are ever shown: other elements of an error
/// hold key ids.
fn xml<'a>(text: &'a str, element: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{element}>"))?;
    let (content, _) = rest.split_once(&format!("</{element}>"))?;
    Some(content)
}
