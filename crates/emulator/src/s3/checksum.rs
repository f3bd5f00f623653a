//! Sums over what is written: those that a client sends are compared, and the one that it chose is kept.

use base64_simd::STANDARD;
use http::HeaderMap;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Sha1, Sha256};
use s3s::{S3Result, s3_error};
use serde::{Deserialize, Serialize};

/// S3's checksums, by their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Algorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
}

/// A checksum that an object or a part has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sum {
    pub(super) algorithm: Algorithm,
    /// In base64; of the parts' sums with the number of parts behind it, where it is composite.
    pub(super) value: String,
    pub(super) is_composite: bool,
}

impl Algorithm {
    pub(super) const ALL: [Self; 5] = [Self::Crc32, Self::Crc32c, Self::Crc64Nvme, Self::Sha1, Self::Sha256];

    pub(super) fn header(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
        }
    }

    /// As a request names it, such as `CRC32C`.
    pub(super) fn from_name(name: &str) -> S3Result<Self> {
        let is_named =
            |algorithm: &Self| algorithm.header().strip_prefix("x-amz-checksum-") == Some(&*name.to_ascii_lowercase());
        let unknown = || s3_error!(InvalidRequest, "Checksum algorithm provided is unsupported: {name}");
        Self::ALL.into_iter().find(is_named).ok_or_else(unknown)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    fn len_bytes(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// The bytes that the text is of; none if it is no such sum.
    fn decode(self, text: &str) -> Option<Vec<u8>> {
        STANDARD.decode_to_vec(text).ok().filter(|bytes| bytes.len() == self.len_bytes())
    }
}

/// Adds up one checksum.
pub(super) struct Hasher {
    algorithm: Algorithm,
    hasher: ChecksumHasher,
}

impl Hasher {
    pub(super) fn new(algorithm: Algorithm) -> Self {
        let mut hasher = ChecksumHasher::default();
        match algorithm {
            Algorithm::Crc32 => hasher.crc32 = Some(Crc32::new()),
            Algorithm::Crc32c => hasher.crc32c = Some(Crc32c::new()),
            Algorithm::Crc64Nvme => hasher.crc64nvme = Some(Crc64Nvme::new()),
            Algorithm::Sha1 => hasher.sha1 = Some(Sha1::new()),
            Algorithm::Sha256 => hasher.sha256 = Some(Sha256::new()),
        }
        Self { algorithm, hasher }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    pub(super) fn finish(self) -> Sum {
        let sums = self.hasher.finalize();
        let value = match self.algorithm {
            Algorithm::Crc32 => sums.checksum_crc32,
            Algorithm::Crc32c => sums.checksum_crc32c,
            Algorithm::Crc64Nvme => sums.checksum_crc64nvme,
            Algorithm::Sha1 => sums.checksum_sha1,
            Algorithm::Sha256 => sums.checksum_sha256,
        };
        Sum { algorithm: self.algorithm, value: value.unwrap_or_default(), is_composite: false }
    }
}

/// The sum of the sums, as an object of parts has it.
pub(super) fn composite(algorithm: Algorithm, parts: &[Sum]) -> Sum {
    let mut hasher = Hasher::new(algorithm);
    parts.iter().filter_map(|part| algorithm.decode(&part.value)).for_each(|sum| hasher.update(&sum));
    let Sum { value, .. } = hasher.finish();
    Sum { algorithm, value: format!("{value}-{}", parts.len()), is_composite: true }
}

/// The checksum that the headers bring, if they bring one.
pub(super) fn brought(headers: &HeaderMap) -> S3Result<Option<Sum>> {
    let mut found = None;
    for algorithm in Algorithm::ALL {
        let Some(value) = headers.get(algorithm.header()) else { continue };
        let value = value.to_str().unwrap_or_default();
        if found.is_some() {
            return Err(s3_error!(InvalidRequest, "Expecting a single x-amz-checksum- header"));
        }
        if algorithm.decode(value).is_none() {
            return Err(s3_error!(InvalidRequest, "Value for {} header is invalid.", algorithm.header()));
        }
        found = Some(Sum { algorithm, value: value.to_owned(), is_composite: false });
    }
    Ok(found)
}

/// The checksum that will come behind the body, as `x-amz-trailer` announces it.
pub(super) fn announced(headers: &HeaderMap) -> S3Result<Option<Algorithm>> {
    let trailer = headers.get("x-amz-trailer").and_then(|value| value.to_str().ok());
    let name = trailer.and_then(|name| name.trim().strip_prefix("x-amz-checksum-"));
    name.map(Algorithm::from_name).transpose()
}

/// The checksum that the headers choose without bringing it.
pub(super) fn chosen(headers: &HeaderMap) -> S3Result<Option<Algorithm>> {
    let names = ["x-amz-sdk-checksum-algorithm", "x-amz-checksum-algorithm"];
    let name = names.iter().find_map(|name| headers.get(*name)).and_then(|value| value.to_str().ok());
    name.map(Algorithm::from_name).transpose()
}
