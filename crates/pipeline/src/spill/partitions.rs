//! A spilled window partition by partition, as one sink divides it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use kinesink_core::{Failure, Item, Piece, Pieces};

use super::{Spilled, number};

/// Segments that are read at once have at least so many bytes, if there are more of them.
const READ_BYTES: usize = 1024 * 1024;

/// The segments of one chunk.
type OfChunk = (usize, Vec<u32>);

/// One partition of a spilled window.
pub(crate) struct Part<'a, U> {
    spilled: &'a Spilled<U>,
    pub(crate) name: Option<&'a str>,
    pub(crate) items: usize,
    pub(crate) output_bytes: usize,
    pub(crate) data_bytes: usize,
    /// What is read at once.
    reads: Vec<Vec<OfChunk>>,
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
                    reads: Vec::new(),
                    last_bytes: READ_BYTES,
                };
                let part = parts.entry(*partition).or_insert_with(new);
                part.items += found.items;
                part.output_bytes += found.output_bytes;
                part.data_bytes += found.data_bytes;
                part.add(of_chunk, number(segment), found.memory_bytes::<U>());
            }
        }
        parts.into_values().collect()
    }
}

impl<U> Part<'_, U> {
    fn add(&mut self, chunk: usize, segment: u32, bytes: usize) {
        let is_of_last = self.reads.last().and_then(|read| read.last()).is_some_and(|(last, _)| *last == chunk);
        // Those of a chunk are put in order together, and so have to be read together.
        if self.last_bytes >= READ_BYTES && !is_of_last {
            self.reads.push(Vec::new());
            self.last_bytes = 0;
        }
        self.last_bytes += bytes;
        let Some(read) = self.reads.last_mut() else { return };
        match read.last_mut().filter(|(last, _)| *last == chunk) {
            Some((_, segments)) => segments.push(segment),
            None => read.push((chunk, vec![segment])),
        }
    }
}

#[async_trait]
impl<U: Send + Sync + 'static> Pieces<U> for Part<'_, U> {
    async fn piece(&self, number: usize) -> Result<Option<Piece<U>>, Failure> {
        let Some(wanted) = self.reads.get(number) else { return Ok(None) };
        let (found, memory) = self.spilled.read(wanted).await?;
        let mut items: Vec<(usize, Item<U>)> = found.into_iter().flat_map(|(_, items)| items).collect();
        // Segments of one chunk lie side by side where another sink divides it too.
        if !items.is_sorted_by_key(|(index, _)| *index) {
            items.sort_by_key(|(index, _)| *index);
        }
        Ok(Some(Piece { items, memory }))
    }
}
