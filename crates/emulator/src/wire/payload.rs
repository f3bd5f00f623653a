//! The body of a reply: pieces that are already somewhere in memory, sent in chunks.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::stream;

/// Pieces below this are joined, to keep system calls rare. It is small enough that memory for it is used again and again:
/// a whole reply of 14 MB in one buffer costs more in fresh pages than in copying.
pub(crate) const CHUNK_BYTES: usize = 64 * 1024;

/// Bytes in pieces.
#[derive(Debug, Default)]
pub(crate) struct Payload(VecDeque<Bytes>);

impl From<Vec<u8>> for Payload {
    fn from(whole: Vec<u8>) -> Self {
        Self(VecDeque::from([Bytes::from(whole)]))
    }
}

impl Payload {
    pub(crate) fn push(&mut self, piece: Bytes) {
        self.0.push_back(piece);
    }

    pub(crate) fn len_bytes(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// Keeps the first bytes.
    pub(crate) fn truncate(&mut self, mut bytes: usize) {
        for piece in &mut self.0 {
            piece.truncate(bytes);
            bytes -= piece.len();
        }
    }

    /// The pieces joined to chunks; a piece that is a chunk by itself, or has none to join, is not copied.
    pub(crate) fn into_chunks(mut self) -> impl Iterator<Item = Bytes> + Send {
        self.0.retain(|piece| !piece.is_empty());
        std::iter::from_fn(move || {
            let first = self.0.pop_front()?;
            if self.0.front().is_none_or(|next| first.len() + next.len() > CHUNK_BYTES) {
                return Some(first);
            }
            let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
            chunk.extend_from_slice(&first);
            while let Some(next) = self.0.pop_front_if(|next| chunk.len() + next.len() <= CHUNK_BYTES) {
                chunk.extend_from_slice(&next);
            }
            Some(chunk.freeze())
        })
    }

    pub(crate) fn into_body(mut self) -> Body {
        match self.0.len() {
            0 => Body::empty(),
            1 => Body::from(self.0.pop_front().unwrap_or_default()),
            _ => Body::from_stream(stream::iter(self.into_chunks().map(Ok::<_, Infallible>))),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn chunks_join_to_the_pieces(
            lengths in prop::collection::vec(0..100_000_usize, 0..40),
            cut in 0..1_000_000_usize,
        ) {
            let pieces: Vec<Vec<u8>> = (0..=u8::MAX).zip(lengths).map(|(fill, length)| vec![fill; length]).collect();
            let mut payload = Payload::default();
            pieces.iter().for_each(|piece| payload.push(Bytes::copy_from_slice(piece)));
            let mut expected = pieces.concat();
            prop_assert_eq!(payload.len_bytes(), expected.len());
            expected.truncate(cut);
            payload.truncate(cut);
            let chunks: Vec<Bytes> = payload.into_chunks().collect();
            prop_assert!(chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= 100_000));
            prop_assert_eq!(chunks.concat(), expected);
        }
    }
}
