//! Where Kinesis puts a partition key.

use md5::{Digest as _, Md5};

/// The hash key of a partition key: the MD5 of its UTF-8 bytes as an unsigned integer. The shard whose hash-key range
/// holds it takes the record.
#[must_use]
pub fn hash_key(partition_key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(partition_key).into())
}

#[cfg(test)]
mod tests {
    use super::hash_key;

    #[test]
    fn a_known_digest_as_a_number() {
        // RFC 1321: MD5 ("abc") = 900150983cd24fb0d6963f7d28e17f72
        assert_eq!(hash_key("abc"), 0x9001_5098_3cd2_4fb0_d696_3f7d_28e1_7f72);
    }
}
