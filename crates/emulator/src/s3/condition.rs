//! What a write or a removal depends on.

use http::{HeaderMap, header};
use s3s::{S3Result, s3_error};

use super::store::Head;

/// Under which condition an object is written or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Condition {
    Always,
    /// `If-None-Match: *`: there is no object of this key.
    Absent,
    /// `If-Match`: the object of this key has this ETag, or is there at all.
    Matches(String),
}

impl Condition {
    pub(super) fn from_headers(headers: &HeaderMap) -> S3Result<Self> {
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default().trim());
        match (text(header::IF_NONE_MATCH), text(header::IF_MATCH)) {
            (None, None) => Ok(Self::Always),
            (Some("*"), None) => Ok(Self::Absent),
            (None, Some(etag)) => Ok(Self::Matches(bare(etag).to_owned())),
            (Some(_), None) => {
                Err(s3_error!(NotImplemented, "If-None-Match of a write takes no other value than *, as in S3"))
            }
            (Some(_), Some(_)) => Err(s3_error!(NotImplemented, "a write has If-Match or If-None-Match, not both")),
        }
    }

    /// Refuses if the condition is false for what is there.
    pub(super) fn check(&self, current: Option<&Head>) -> S3Result<()> {
        match (self, current) {
            (Self::Always, _) | (Self::Absent, None) => Ok(()),
            (Self::Matches(etag), Some(head)) if etag == "*" || *etag == head.etag => Ok(()),
            (Self::Matches(_), None) => Err(s3_error!(NoSuchKey, "The specified key does not exist.")),
            (Self::Absent | Self::Matches(_), Some(_)) => Err(precondition_failed()),
        }
    }
}

/// An ETag without its quotes.
pub(super) fn bare(etag: &str) -> &str {
    etag.strip_prefix('"').and_then(|etag| etag.strip_suffix('"')).unwrap_or(etag)
}

pub(super) fn precondition_failed() -> s3s::S3Error {
    s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold")
}
