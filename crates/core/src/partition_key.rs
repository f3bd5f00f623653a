//! The partition key of a record.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// The text by which Kinesis picked a record's shard.
///
/// A part of a text that may hold the keys of a whole reply: a key of its own costs no allocation, a clone no copy.
#[derive(Clone)]
pub struct PartitionKey {
    text: Arc<str>,
    part: Range<usize>,
}

impl PartitionKey {
    /// The key at `part` of `text`: `None` where that is outside of it or cuts a character.
    #[must_use]
    pub fn part(text: &Arc<str>, part: Range<usize>) -> Option<Self> {
        text.get(part.clone()).map(|_| Self { text: Arc::clone(text), part })
    }
}

impl Deref for PartitionKey {
    type Target = str;

    fn deref(&self) -> &str {
        // The part was checked when the key was made.
        self.text.get(self.part.clone()).unwrap_or_default()
    }
}

impl From<Arc<str>> for PartitionKey {
    fn from(text: Arc<str>) -> Self {
        Self { part: 0..text.len(), text }
    }
}

impl From<&str> for PartitionKey {
    fn from(text: &str) -> Self {
        Arc::<str>::from(text).into()
    }
}

impl PartialEq for PartitionKey {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for PartitionKey {}

impl fmt::Debug for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_part_of_the_text_and_nothing_else_is_one() {
        let text: Arc<str> = "aé b".into();
        let key = PartitionKey::part(&text, 1..3).unwrap();
        assert_eq!((&*key, format!("{key:?}")), ("é", "\"é\"".to_owned()));
        assert_eq!(key, PartitionKey::from("é"));
        assert_ne!(key, PartitionKey::from("e"));
        assert_eq!(&*PartitionKey::from(Arc::clone(&text)), "aé b");
        for outside in [0..2, 2..3, 0..6, 5..6] {
            assert_eq!(PartitionKey::part(&text, outside.clone()), None, "{outside:?}");
        }
    }
}
