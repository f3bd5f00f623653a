//! The items of one delivery: in memory, or read a piece at a time.

use bytes::Bytes;
use kinesink_core::{Failure, Item, Partition, Piece};

/// Items with their indexes.
#[derive(Debug)]
pub(crate) enum Rows<'a, U = Bytes> {
    Held(Vec<(usize, &'a Item<U>)>),
    Spilled(&'a Partition<'a, U>),
}

/// Some of them, in memory.
#[derive(Debug)]
pub(crate) enum RowsPiece<'a, U> {
    Held(&'a [(usize, &'a Item<U>)]),
    Spilled(Piece<U>),
}

#[cfg(feature = "s3")]
impl Rows<'_> {
    /// Bytes of their values.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Held(items) => items.iter().map(|(_, item)| item.value.len()).sum(),
            Self::Spilled(partition) => partition.bytes,
        }
    }
}

impl<U> Rows<'_, U> {
    /// The piece with that number, none behind the last. What is held is one.
    pub(crate) async fn piece(&self, number: usize) -> Result<Option<RowsPiece<'_, U>>, Failure> {
        match self {
            Self::Held(items) => Ok((number == 0).then_some(RowsPiece::Held(items))),
            Self::Spilled(partition) => Ok(partition.pieces.piece(number).await?.map(RowsPiece::Spilled)),
        }
    }
}

#[cfg(feature = "dynamodb")]
impl<U> Rows<'_, U> {
    /// Says that more of them are durable.
    pub(crate) fn progressed(&self) {
        if let Self::Spilled(partition) = self {
            partition.pieces.progressed();
        }
    }
}

impl<U> RowsPiece<'_, U> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &Item<U>)> {
        let (held, read): (&[(usize, &Item<U>)], &[_]) = match self {
            Self::Held(items) => (items, &[]),
            Self::Spilled(piece) => (&[], &piece.items),
        };
        held.iter().map(|(index, item)| (*index, *item)).chain(read.iter().map(|(index, item)| (*index, item)))
    }
}
