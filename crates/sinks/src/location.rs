//! Where objects go.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use crate::Error;

/// A place for objects: a bucket, or a directory that stands for one.
///
/// ```
/// use kinesink_sinks::Location;
/// let place: Location = "s3://my-bucket/orders".parse()?;
/// assert_eq!(place, Location::Bucket { bucket: "my-bucket".into(), prefix: "orders".into() });
/// assert!("orders".parse::<Location>().is_err());
/// # Ok::<(), kinesink_sinks::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// `s3://bucket/prefix`. The prefix has no slash at either end and may be empty.
    Bucket {
        /// The bucket's name.
        bucket: String,
        /// What every key begins with, without its last slash.
        prefix: String,
    },
    /// `file:///dir`: an absolute path, taken as it is, without percent-decoding.
    Directory(PathBuf),
}

impl Location {
    /// Where the object at `key` is, which is complete for a bucket and below the directory for one.
    #[cfg(feature = "s3")]
    pub(crate) fn object(&self, key: &str) -> String {
        match self {
            Self::Bucket { bucket, .. } => format!("s3://{bucket}/{key}"),
            Self::Directory(path) => path.join(key).display().to_string(),
        }
    }
}

impl Location {
    /// The place `name` in this one.
    #[must_use]
    pub fn below(&self, name: &str) -> Self {
        match self {
            Self::Bucket { bucket, prefix } if prefix.is_empty() => {
                Self::Bucket { bucket: bucket.clone(), prefix: name.into() }
            }
            Self::Bucket { bucket, prefix } => {
                Self::Bucket { bucket: bucket.clone(), prefix: format!("{prefix}/{name}") }
            }
            Self::Directory(path) => Self::Directory(path.join(name)),
        }
    }

    /// Whether who reads one of them finds what is written to the other.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.is_within(other) || other.is_within(self)
    }

    /// Whether what is written here is found by who reads `other`.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Bucket { bucket, prefix }, Self::Bucket { bucket: other, prefix: outer }) => {
                let inner = prefix.strip_prefix(outer.as_str());
                let begins = inner.is_some_and(|rest| outer.is_empty() || rest.is_empty() || rest.starts_with('/'));
                bucket == other && begins
            }
            (Self::Directory(path), Self::Directory(other)) => path.starts_with(other),
            _ => false,
        }
    }
}

impl FromStr for Location {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self, Error> {
        let refuse = |why: &str| Error::Url { url: url.into(), why: why.into() };
        if url.chars().any(char::is_control) {
            return Err(refuse("it holds a control character"));
        }
        if url.contains(['{', '}']) {
            return Err(refuse(
                "it is taken as it is, so that braces stand for nothing in it: a sink's template is its `key`, as in \
                 key = \"day={arrival:%F}/{first}\"",
            ));
        }
        if let Some(rest) = url.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if !is_bucket(bucket) {
                return Err(refuse("a bucket's name is 3 to 63 of a-z 0-9 . - as in s3://my-bucket/orders"));
            }
            let prefix = prefix.trim_end_matches('/');
            if !prefix.is_empty() && prefix.split('/').any(|part| matches!(part, "" | "." | "..")) {
                return Err(refuse("a prefix has no empty part, `.` or `..`"));
            }
            return Ok(Self::Bucket { bucket: bucket.into(), prefix: prefix.into() });
        }
        let Some(path) = url.strip_prefix("file://") else {
            return Err(refuse("write s3://bucket/prefix, or file:///absolute/directory"));
        };
        let path = Path::new(path);
        if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
            return Err(refuse("a directory is written in full, with three slashes, as in file:///var/orders"));
        }
        if path.parent().is_none() {
            return Err(refuse("name a directory below the root, as in file:///var/orders"));
        }
        Ok(Self::Directory(path.components().collect()))
    }
}

fn is_bucket(name: &str) -> bool {
    (3..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-".contains(&b))
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bucket { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::Bucket { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Directory(path) => write!(f, "file://{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_written_back() {
        for (url, back) in [
            ("s3://my-bucket", "s3://my-bucket"),
            ("s3://my-bucket/", "s3://my-bucket"),
            ("s3://my-bucket/a/b c/", "s3://my-bucket/a/b c"),
            ("file:///var/orders/", "file:///var/orders"),
        ] {
            assert_eq!(url.parse::<Location>().unwrap().to_string(), back);
        }
    }

    #[test]
    fn a_place_is_within_another_by_whole_names() {
        let place = |url: &str| url.parse::<Location>().unwrap();
        for (outer, inner) in
            [("s3://bucket", "s3://bucket/a"), ("s3://bucket/a", "s3://bucket/a/b"), ("file:///a", "file:///a/b")]
        {
            assert!(place(inner).is_within(&place(outer)) && place(inner).is_within(&place(inner)));
            assert!(!place(outer).is_within(&place(inner)));
            assert_eq!(place(outer).below(inner.rsplit('/').next().unwrap()), place(inner));
        }
        for (one, other) in [
            ("s3://bucket/a", "s3://bucket/ab"),
            ("s3://one", "s3://two"),
            ("file:///a", "file:///ab"),
            ("file:///a", "s3://aaa"),
        ] {
            assert!(!place(one).is_within(&place(other)) && !place(other).is_within(&place(one)), "{one} {other}");
        }
    }

    #[test]
    fn what_is_no_place_is_refused_with_the_way_it_is_written() {
        for (url, why) in [
            ("", "write s3://"),
            ("/var/orders", "file:///absolute"),
            ("file://orders", "three slashes"),
            ("file:///", "below the root"),
            ("file:///var/../etc", "in full"),
            ("s3://", "a bucket's name"),
            ("s3://My_Bucket/a", "a bucket's name"),
            ("s3://my-bucket//a", "no empty part"),
            ("s3://my-bucket/a/../b", "no empty part"),
            ("s3://my-bucket/a\nb", "control character"),
            ("s3://my-bucket/{day}", "a sink's template is its `key`"),
        ] {
            let message = url.parse::<Location>().unwrap_err().to_string();
            assert!(message.contains(why), "{message}");
        }
    }
}
