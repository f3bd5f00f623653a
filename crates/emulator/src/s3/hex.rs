//! Hexadecimal digits, as ETags and payload hashes have them.

use std::fmt::Write as _;

pub(super) fn encode(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // A String takes all that is written.
        let _written = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes of what [`encode`] made; nothing of any other text.
pub(super) fn decode(text: &str) -> Vec<u8> {
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    text.as_bytes().chunks(2).map(byte).collect::<Option<_>>().unwrap_or_default()
}
