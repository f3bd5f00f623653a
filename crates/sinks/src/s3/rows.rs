//! The items of one object: in memory, or read a piece at a time.

use bytes::Bytes;
use kinesink_core::{Failure, Item, Partition, Piece, Reject};

/// Items that an object cannot hold, by index, in order.
pub(super) type Rejects = Vec<(usize, Reject)>;

/// The items of one object, with their indexes.
#[derive(Debug)]
pub(super) enum Rows<'a> {
    Held(Vec<(usize, &'a Item<Bytes>)>),
    Spilled(&'a Partition<'a, Bytes>),
}

/// Some of them, in memory.
#[derive(Debug)]
pub(super) enum RowsPiece<'a> {
    Held(&'a [(usize, &'a Item<Bytes>)]),
    Spilled(Piece<Bytes>),
}

impl Rows<'_> {
    /// Bytes of their values.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Held(items) => items.iter().map(|(_, item)| item.value.len()).sum(),
            Self::Spilled(partition) => partition.bytes,
        }
    }

    /// The piece with that number, none behind the last. What is held is one.
    pub(super) async fn piece(&self, number: usize) -> Result<Option<RowsPiece<'_>>, Failure> {
        match self {
            Self::Held(items) => Ok((number == 0).then_some(RowsPiece::Held(items))),
            Self::Spilled(partition) => Ok(partition.pieces.piece(number).await?.map(RowsPiece::Spilled)),
        }
    }
}

impl RowsPiece<'_> {
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Item<Bytes>)> {
        let (held, read): (&[(usize, &Item<Bytes>)], &[_]) = match self {
            Self::Held(items) => (items, &[]),
            Self::Spilled(piece) => (&[], &piece.items),
        };
        held.iter().map(|(index, item)| (*index, *item)).chain(read.iter().map(|(index, item)| (*index, item)))
    }
}
