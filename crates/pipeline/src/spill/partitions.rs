//! A spilled window partition by partition, as one sink divides it.

use std::collections::BTreeMap;

use kinesink_core::{Failure, Item, Piece};

use super::{SegmentId, Spilled, number};

/// Segments that are read at once have at least so many bytes, if there are more of them.
const READ_BYTES: usize = 1024 * 1024;

/// One partition of a spilled window.
pub(crate) struct Part<'a, U> {
    spilled: &'a Spilled<U>,
    pub(crate) name: Option<&'a str>,
    pub(crate) items: usize,
    pub(crate) output_bytes: usize,
    pub(crate) data_bytes: usize,
    segments: Vec<SegmentId>,
    /// Where among the segments those begin that are read at once.
    reads: Vec<u32>,
    /// Bytes of the last of them.
    last_bytes: usize,
}

impl<U: Send + Sync + 'static> Spilled<U> {
    /// The partitions as this sink divides the window: one, where it does not.
    pub(crate) fn partitions(&self, sink: usize) -> Vec<Part<'_, U>> {
        let mut parts = BTreeMap::<u32, Part<'_, U>>::new();
        for (of_chunk, chunk) in self.chunks.iter().enumerate() {
            let partitions = chunk.partitions.iter().skip(sink).step_by(self.sinks.len());
            for (segment, (found, partition)) in chunk.segments.iter().zip(partitions).enumerate() {
                let name = self.divisions.get(sink).and_then(|division| division.name(*partition));
                let new = || Part {
                    spilled: self,
                    name,
                    items: 0,
                    output_bytes: 0,
                    data_bytes: 0,
                    segments: Vec::new(),
                    reads: Vec::new(),
                    last_bytes: READ_BYTES,
                };
                let part = parts.entry(*partition).or_insert_with(new);
                part.items += found.items;
                part.output_bytes += found.output_bytes;
                part.data_bytes += found.data_bytes;
                part.add((number(of_chunk), number(segment)), found.memory_bytes::<U>());
            }
        }
        parts.into_values().collect()
    }
}

impl<U> Part<'_, U> {
    fn add(&mut self, segment: SegmentId, bytes: usize) {
        // Those of a chunk are put in order together, and so have to be read together.
        let is_of_last = self.segments.last().is_some_and(|(chunk, _)| *chunk == segment.0);
        if self.last_bytes >= READ_BYTES && !is_of_last {
            self.reads.push(number(self.segments.len()));
            self.last_bytes = 0;
        }
        self.last_bytes += bytes;
        self.segments.push(segment);
    }

    /// The segments that are read at once, by the number of the piece.
    fn read(&self, piece: usize) -> Option<&[SegmentId]> {
        let from = *self.reads.get(piece)? as usize;
        let to = self.reads.get(piece + 1).map_or(self.segments.len(), |next| *next as usize);
        self.segments.get(from..to)
    }
}

impl<U: Send + Sync + 'static> Part<'_, U> {
    /// The piece with that number, from 0: none behind the last.
    pub(crate) async fn piece(&self, number: usize) -> Result<Option<Piece<U>>, Failure> {
        let Some(wanted) = self.read(number) else { return Ok(None) };
        let (found, memory) = self.spilled.read(wanted).await?;
        let mut items: Vec<(usize, Item<U>)> = found.into_iter().flat_map(|(_, items)| items).collect();
        // Segments of one chunk lie side by side where another sink divides it too.
        if !items.is_sorted_by_key(|(index, _)| *index) {
            items.sort_by_key(|(index, _)| *index);
        }
        Ok(Some(Piece { items, memory }))
    }
}
