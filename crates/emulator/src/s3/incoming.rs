//! A body on its way into a file: counted, added up, and compared with what its headers say.

use base64_simd::STANDARD;
use futures::StreamExt as _;
use http::{Extensions, HeaderMap, header};
use md5::{Digest as _, Md5};
use s3s::dto::StreamingBlob;
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;

use super::checksum::{self, Algorithm, Hasher, Sum};
use super::chunked::Trailers;
use super::hex;
use super::store::{Staged, Store};

/// Of one put or one part.
const BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;

/// A body that has arrived whole.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) staged: Staged,
    /// In hexadecimal digits.
    pub(super) md5: String,
    pub(super) checksum: Option<Sum>,
}

/// What the headers say about the body.
struct Expected {
    len_bytes: u64,
    md5: Option<Vec<u8>>,
    sha256: Option<Sum>,
    /// Sent before the body, or to come behind it.
    checksum: Option<Sum>,
    trailing: Option<Algorithm>,
    algorithm: Option<Algorithm>,
}

/// Writes the body into a file in staging.
///
/// # Errors
/// It is not what its headers say, or cannot be written. Nothing of it stays then.
///
/// # Cancel safety
/// Dropping the future removes the file.
pub(super) async fn receive(
    store: &Store,
    headers: &HeaderMap,
    extensions: &Extensions,
    mut body: Option<StreamingBlob>,
    algorithm: Option<Algorithm>,
) -> S3Result<Incoming> {
    let expected = Expected::from_headers(headers, algorithm)?;
    let staged = store.stage();
    let unwritten = |error: std::io::Error| {
        let message = format!("kinesink local cannot write {}: {error}", staged.path.display());
        S3Error::with_message(S3ErrorCode::InternalError, message)
    };
    let mut file = File::create_new(&staged.path).await.map_err(unwritten)?;
    let (mut len_bytes, mut md5) = (0, Md5::new());
    let mut sha256 = expected.sha256.as_ref().map(|_| Hasher::new(Algorithm::Sha256));
    let mut hasher = expected.algorithm.map(Hasher::new);
    while let Some(bytes) = match &mut body {
        Some(body) => body.next().await,
        None => None,
    } {
        let bytes = bytes.map_err(|error| incomplete(&error.to_string()))?;
        len_bytes += bytes.len() as u64;
        if len_bytes > expected.len_bytes {
            return Err(incomplete("it is longer than its headers say"));
        }
        md5.update(&bytes);
        for hasher in [&mut sha256, &mut hasher].into_iter().flatten() {
            hasher.update(&bytes);
        }
        file.write_all(&bytes).await.map_err(unwritten)?;
    }
    file.flush().await.map_err(unwritten)?;
    if len_bytes < expected.len_bytes {
        return Err(incomplete("it is shorter than its headers say"));
    }
    let md5 = md5.finalize();
    let (sha256, checksum) = (sha256.map(Hasher::finish), hasher.map(Hasher::finish));
    expected.compare(&md5, sha256.as_ref(), checksum.as_ref(), extensions)?;
    Ok(Incoming { staged, md5: hex::encode(&md5), checksum })
}

impl Expected {
    fn from_headers(headers: &HeaderMap, algorithm: Option<Algorithm>) -> S3Result<Self> {
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let length = text(header::CONTENT_LENGTH.as_str())
            .ok_or_else(|| s3_error!(MissingContentLength, "You must provide the Content-Length HTTP header."))?;
        let len_bytes =
            length.parse().map_err(|_| s3_error!(InvalidRequest, "Content-Length is no number of bytes"))?;
        if len_bytes > BYTES_MAX {
            return Err(s3_error!(
                EntityTooLarge,
                "Your proposed upload exceeds the maximum allowed size: {BYTES_MAX} bytes"
            ));
        }
        let md5 = text("content-md5").map(|text| {
            let bytes = STANDARD.decode_to_vec(text).ok().filter(|bytes| bytes.len() == 16);
            bytes.ok_or_else(|| s3_error!(InvalidDigest, "The Content-MD5 you specified was invalid."))
        });
        let hash = text("x-amz-content-sha256").filter(|hash| hash.len() == 64);
        let sha256 = hash.map(|hash| Sum {
            algorithm: Algorithm::Sha256,
            value: STANDARD.encode_to_string(hex::decode(hash)),
            is_composite: false,
        });
        let checksum = checksum::brought(headers)?;
        let trailing = checksum::announced(headers)?;
        let sent = checksum.as_ref().map(|sum| sum.algorithm).or(trailing).or(checksum::chosen(headers)?);
        if let (Some(sent), Some(algorithm)) = (sent, algorithm)
            && sent != algorithm
        {
            let (sent, algorithm) = (sent.name(), algorithm.name());
            return Err(s3_error!(
                InvalidRequest,
                "Checksum Type mismatch occurred, expected checksum Type: {algorithm}, actual checksum Type: {sent}"
            ));
        }
        Ok(Self { len_bytes, md5: md5.transpose()?, sha256, checksum, trailing, algorithm: sent.or(algorithm) })
    }

    fn compare(self, md5: &[u8], sha256: Option<&Sum>, sum: Option<&Sum>, extensions: &Extensions) -> S3Result<()> {
        if self.md5.is_some_and(|expected| expected != md5) {
            return Err(s3_error!(BadDigest, "The Content-MD5 you specified did not match what we received."));
        }
        if self.sha256.as_ref() != sha256 {
            let code = S3ErrorCode::Custom("XAmzContentSHA256Mismatch".into());
            let message = "The provided 'x-amz-content-sha256' header does not match what was computed.";
            let mut error = S3Error::with_message(code, message);
            error.set_status_code(http::StatusCode::BAD_REQUEST);
            return Err(error);
        }
        let behind = match self.trailing {
            None => None,
            Some(algorithm) => {
                let trailers = extensions.get::<Trailers>().map(Trailers::read).unwrap_or_default();
                let sum = checksum::brought(&trailers)?.filter(|sum| sum.algorithm == algorithm);
                Some(sum.ok_or_else(|| {
                    s3_error!(InvalidRequest, "{}, which X-Amz-Trailer announces, is not there", algorithm.header())
                })?)
            }
        };
        for expected in [self.checksum, behind].into_iter().flatten() {
            if Some(&expected) != sum {
                let name = expected.algorithm.name();
                return Err(s3_error!(BadDigest, "The {name} you specified did not match the calculated checksum."));
            }
        }
        Ok(())
    }
}

fn incomplete(why: &str) -> S3Error {
    s3_error!(IncompleteBody, "The body cannot be taken: {why}")
}
