//! Spilled partitions of which more is refused than may be kept in mind.
//!
//! ```text
//! for each piece: which of its items are refused        // a bit for each item
//! the object of the others
//! for each piece: hand back what is refused, and why    // once the object is there; of the others nothing is encoded again
//! ```

use std::ops::ControlFlow;

use async_trait::async_trait;
use bytes::Bytes;
use kinesink_core::{Failure, Partition, Piece, Pieces, Reject};

use super::S3Emitter;
use super::contents::{Origin, Rejects};
use super::emitter::Published;
use crate::rows::Rows;

/// A partition without its refused items.
struct Kept<'a> {
    partition: &'a Partition<'a, Bytes>,
    /// Of each piece, a bit for each item.
    refused: Vec<Vec<u8>>,
}

#[async_trait]
impl Pieces<Bytes> for Kept<'_> {
    async fn piece(&self, number: usize) -> Result<Option<Piece<Bytes>>, Failure> {
        self.sifted(number, false).await
    }

    async fn refused(&self, number: usize, rejects: Vec<(usize, Reject)>) -> ControlFlow<()> {
        self.partition.pieces.refused(number, rejects).await
    }

    fn progressed(&self) {
        self.partition.pieces.progressed();
    }
}

impl Kept<'_> {
    /// The items of the piece that are refused, or the others.
    async fn sifted(&self, number: usize, is_refused: bool) -> Result<Option<Piece<Bytes>>, Failure> {
        let Some(Piece { mut items, memory }) = self.partition.pieces.piece(number).await? else { return Ok(None) };
        let refused = self.refused.get(number).map(Vec::as_slice).unwrap_or_default();
        let mut places = 0..;
        items.retain(|_| places.next().is_some_and(|place: usize| is_set(refused, place) == is_refused));
        Ok(Some(Piece { items, memory }))
    }
}

fn is_set(bits: &[u8], place: usize) -> bool {
    bits.get(place / 8).is_some_and(|byte| byte & (1 << (place % 8)) != 0)
}

impl S3Emitter {
    /// Makes the object of what is not refused durable, and then hands the rest back.
    pub(super) async fn sift(&self, name: &str, partition: &Partition<'_, Bytes>) -> Result<Published, Failure> {
        let origin = Origin::of_partition(partition);
        let (mut refused, mut number) = (Vec::new(), 0);
        while let Some(piece) = partition.pieces.piece(number).await? {
            let rejects = self.refused_of(origin, &piece).await?;
            let mut bits = vec![0_u8; piece.items.len().div_ceil(8)];
            let mut rejects = rejects.iter().map(|(index, _)| *index).peekable();
            for (place, (index, _)) in piece.items.iter().enumerate() {
                if rejects.next_if_eq(index).is_some() {
                    bits.get_mut(place / 8).into_iter().for_each(|byte| *byte |= 1 << (place % 8));
                }
            }
            refused.push(bits);
            number += 1;
        }
        let kept = Kept { partition, refused };
        let rows = Rows::Spilled(&Partition { pieces: &kept, ..*partition });
        let published = self.publish(origin, name, rows, partition.keep_existing).await?;
        if !published.rejects.is_empty() {
            return Err(Failure::fatal("an item of a partition is refused that was not refused in its piece: a bug"));
        }
        for number in 0..kept.refused.len() {
            let Some(piece) = kept.sifted(number, true).await? else { break };
            if piece.items.is_empty() {
                continue;
            }
            let rejects = self.refused_of(origin, &piece).await?;
            drop(piece);
            if partition.pieces.refused(number, rejects).await.is_break() {
                break;
            }
        }
        Ok(published)
    }

    async fn refused_of(&self, origin: Origin<'_>, piece: &Piece<Bytes>) -> Result<Rejects, Failure> {
        let items = piece.items.iter().map(|(index, item)| (*index, item)).collect();
        let (_, rejects) = self.encode(origin, &Rows::Held(items), None, usize::MAX).await?;
        Ok(rejects)
    }
}
