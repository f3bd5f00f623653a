//! Judges what a destination answers: once, here.

use std::error::Error as StdError;
use std::io::{self, ErrorKind};

use kinesink_aws::credential_types::provider::error::CredentialsError;
use kinesink_aws::s3::error::ProvideErrorMetadata;
use kinesink_aws::{HttpResponse, SLOWEST_BYTES_PER_S, SdkError, chain};
use kinesink_core::Failure;

/// Something has the object's name.
#[derive(Debug)]
pub(super) struct Occupied;

/// What an I/O error in the directory means.
pub(super) fn disk(attempt: &str, error: &io::Error) -> Failure {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Failure::transient(format!("cannot {attempt}: no space left on the device: make room"))
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            Failure::configuration(format!("cannot {attempt}: {error}: let this user write there"))
        }
        // Of a file in place of the directory, or of one that is passed through to it.
        ErrorKind::AlreadyExists | ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::InvalidFilename => {
            Failure::configuration(format!("cannot {attempt}: {error}: move what is in the way, or mend the url"))
        }
        _ => Failure::transient(format!("cannot {attempt}: {error}")),
    }
}

/// What an I/O error means while an object is made: of the disk where it goes on.
pub(super) fn encoding(error: &io::Error) -> Failure {
    Failure::transient(format!("cannot encode an object: {error}"))
}

/// What became of a request that may only create: the object's ETag, if the answer has one. `attempt` reads like "write
/// s3://bucket/key".
pub(super) fn create_only<E>(
    attempt: &str,
    bucket: &str,
    sent: Result<Option<String>, SdkError<E, HttpResponse>>,
) -> Result<Result<(), Occupied>, Failure>
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    match sent {
        Ok(e_tag) => answered(attempt, e_tag).map(|_| Ok(())),
        // A completion may say so in the body of a reply whose status is 200.
        Err(error) if status(&error) == Some(412) || kinesink_aws::code(&error) == Some("PreconditionFailed") => {
            Ok(Err(Occupied))
        }
        Err(error) => Err(service(attempt, bucket, &error)),
    }
}

/// What S3 says in each such answer.
pub(super) fn answered<T>(attempt: &str, told: Option<T>) -> Result<T, Failure> {
    told.ok_or_else(|| of_another(attempt))
}

/// A success without what S3 says in one: someone else may have answered, and a success that is believed would be a loss.
fn of_another(attempt: &str) -> Failure {
    Failure::configuration(format!(
        "cannot {attempt}: the answer is a success without what S3 says in one, so nothing counts as written: see which proxy or login \
         page answers in place of the service, and check the sink's endpoint"
    ))
}

/// Why what is in the way of an object could not be looked at.
pub(super) fn occupant<E>(object: &str, bucket: &str, error: &SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    match status(error) {
        Some(404) => Failure::transient(format!("{object} existed and is gone: another process writes there")),
        _ => service(&format!("read {object}, which is in the way"), bucket, error),
    }
}

/// Why a place could not be listed.
pub(super) fn listing<E>(place: &str, bucket: &str, error: &SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    match kinesink_aws::code(error) {
        Some("AccessDenied") => Failure::configuration(format!(
            "cannot list {place}: AccessDenied: allow s3:ListBucket on {bucket}, which only reading back needs"
        )),
        _ => service(&format!("list {place}"), bucket, error),
    }
}

/// What a service's answer means for the batch.
pub(super) fn service<E>(attempt: &str, bucket: &str, error: &SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    if let Some(error) = cause(error) {
        return credentials(attempt, error);
    }
    if let SdkError::TimeoutError(_) = error {
        return Failure::transient(format!(
            "cannot {attempt}: no answer in time, or less than {} KiB of it a second came through: look at the line to the service; \
             where that is slow, send less at a time: lower `memory`, or `[buffer] bytes`",
            SLOWEST_BYTES_PER_S / 1024
        ));
    }
    let Some(status) = status(error) else {
        let (verb, what) = attempt.split_once(' ').unwrap_or((attempt, ""));
        return kinesink_aws::failure(verb, what, error);
    };
    let code = kinesink_aws::code(error).unwrap_or_default();
    let because = match message(error) {
        Some(message) if !code.is_empty() => format!("{code}: {}", message.trim_end_matches('.')),
        _ => format!("HTTP status {status}"),
    };
    let transient = || Failure::transient(format!("cannot {attempt}: {because}"));
    let mend = |remedy: &str| Failure::configuration(format!("cannot {attempt}: {because}: {remedy}"));
    match (code, status) {
        ("NoSuchBucket", _) => mend(&format!("create the bucket {bucket}, or mend the `url` that names it")),
        ("InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken", _) | (_, 401) => {
            mend("the credentials are not valid: renew them")
        }
        ("RequestTimeTooSkewed", _) => mend("set this machine's clock"),
        ("ExpiredToken" | "RequestTimeout" | "ConditionalRequestConflict" | "OperationAborted" | "SlowDown", _)
        // What arrived is not what was sent.
        | ("BadDigest" | "XAmzContentSHA256Mismatch" | "IncompleteBody", _)
        // An upload that another writer of the object has aborted, or a part of it that is not as it was.
        | ("NoSuchUpload" | "InvalidPart", _) => transient(),
        ("", 200..=299) => of_another(attempt),
        ("AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException", _)
        | (_, 300..=399) => mend(&format!("set `region` to that of the bucket {bucket}")),
        // An answer to HEAD has no code.
        ("" | "NotFound", 404) => mend(&format!("create the bucket {bucket}, or mend the `url` that names it")),
        (code, 403) if code.starts_with("KMS") || because.contains("kms:") => {
            mend("allow kms:GenerateDataKey and kms:Decrypt on the bucket's key")
        }
        (_, 403) => mend(&format!("allow s3:PutObject and s3:GetObject on the objects of {bucket}, and check `owner` if it is set")),
        // A success whose body was an error, which is looked at by its code.
        (_, ..300 | 408 | 409 | 412 | 429 | 500..) => transient(),
        _ => mend("the service refuses the request as it is; check `url` and `endpoint`"),
    }
}

fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    match error {
        SdkError::ServiceError(service) => Some(service.raw().status().as_u16()),
        _ => None,
    }
}

fn message<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<&str> {
    match error {
        SdkError::ServiceError(service) => service.err().message(),
        _ => None,
    }
}

/// Who asks is not known, if that is why nothing was sent.
fn cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a CredentialsError> {
    std::iter::successors(Some(error), |&error| error.source()).find_map(|error| error.downcast_ref())
}

fn credentials(attempt: &str, error: &CredentialsError) -> Failure {
    let why = chain(error.source().unwrap_or(error));
    match error {
        // Of STS, which says nothing of whether the role is there.
        CredentialsError::ProviderError(_) if why.contains("AccessDenied") => Failure::configuration(format!(
            "cannot {attempt}: the role cannot be assumed: {why}: set `role`, let it trust whoever runs this, and set \
             `external_id` if it asks for one"
        )),
        CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) => {
            Failure::configuration(format!(
                "cannot {attempt}: no AWS credentials: {why}: set AWS_PROFILE or AWS_ACCESS_KEY_ID and \
                 AWS_SECRET_ACCESS_KEY, or attach a role"
            ))
        }
        _ => Failure::transient(format!("cannot {attempt}: no AWS credentials now: {why}")),
    }
}
