//! A window that memory does not hold: its items on disk, until it is committed.
//!
//! ```text
//! memory is wanted, or a window's models take too much of it:
//!     outputs = encode(what the buffer gives)
//!     append(outputs)                    // by partition, so that one can be read without the others
//!     the memory of their records goes back; the window stays open
//! the window closes:
//!     hold(the rest)                     // the last chunk stays in memory
//!     content                            // the digest, in the order of the stream
//!     partition after partition, a piece at a time, to each sink that announces its windows; to the others in order
//! ```
//!
//! The file has no name: whatever ends the process ends the file too, and no other process can meet it. What is read is
//! compared with a digest that never left memory; if it differs, the window is read from its stream again.
//!
//! Limits: all files together have `bytes_max`, and on Linux keep as much room again for what is made of them; what is read of them takes at most `piece_bytes` of memory at a time, and what
//! says where it is `catalog_bytes`, over all shards.

mod chunk;
mod delivery;
mod disk;
mod partitions;
mod row;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use kinesink_core::{Budget, Emitter, Failure, Fingerprint, Item, Piece, Position, Reservation, ShardId};
use tokio::task::spawn_blocking;

use self::chunk::{Chunk, Order, Placed, Segment, Shared};
use self::disk::Disk;
use self::row::Codec;
use crate::Sink;
use crate::division::Division;

pub(crate) use self::delivery::deliver_spilled;
use self::partitions::Part;

/// Where windows go that are larger than memory. Cheap to clone: clones share the room and the memory.
pub struct Spill<U> {
    disk: Disk,
    codec: Codec<U>,
}

/// A segment: the number of its chunk, and its own there.
type SegmentId = (u32, u32);

/// The number of a segment, and its items with their indexes in the window.
type Found<U> = (u32, Vec<(usize, Item<U>)>);

impl<U> Clone for Spill<U> {
    fn clone(&self) -> Self {
        Self { disk: self.disk.clone(), codec: self.codec }
    }
}

impl<U> fmt::Debug for Spill<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Spill").field(&self.disk).finish()
    }
}

impl Spill<Bytes> {
    /// Into files in `directory`, of `bytes_max` together; what is read of them takes `piece_bytes` of memory at a time, and
    /// what says where it is `catalog_bytes`.
    #[must_use]
    pub fn new(directory: PathBuf, bytes_max: usize, piece_bytes: usize, catalog_bytes: usize) -> Self {
        Self::of(directory, bytes_max, piece_bytes, catalog_bytes, Bytes::clone, Some)
    }
}

impl<U> Spill<U> {
    /// The same, for outputs that are written by `write` and read by `read`, which gives none of what it did not write.
    #[must_use]
    pub fn of(
        directory: PathBuf,
        bytes_max: usize,
        piece_bytes: usize,
        catalog_bytes: usize,
        write: fn(&U) -> Bytes,
        read: fn(Bytes) -> Option<U>,
    ) -> Self {
        let (room, reading) = (Budget::new(bytes_max), Budget::new(piece_bytes));
        let catalog = Budget::new(catalog_bytes);
        Self { disk: Disk { directory: Arc::new(directory), room, reading, catalog }, codec: Codec { write, read } }
    }

    /// Bytes that no window takes on disk now.
    #[must_use]
    pub fn free_bytes(&self) -> usize {
        self.disk.room.free_bytes()
    }

    /// Proves that files can be made there.
    ///
    /// # Errors
    /// A [`Failure`] of class `Configuration` that names the directory.
    pub async fn check(&self) -> Result<(), Failure> {
        let checked = self.disk.file().await.map(drop);
        let remedy = "name a directory in which this user may write";
        checked.map_err(|why| Failure::configuration(format!("cannot spill windows: {why}; {remedy}")))
    }
}

/// What of a window is on disk, and its rest once it is closed.
pub(crate) struct Spilled<U> {
    spill: Spill<U>,
    shard: ShardId,
    sinks: Vec<Arc<dyn Emitter<U>>>,
    file: Option<Shared>,
    end: u64,
    chunks: Vec<Chunk<U>>,
    /// One for each sink.
    divisions: Vec<Division>,
    /// Memory of what is noted of all that.
    catalog: Reservation,
    /// Of it, what the divisions take.
    named_bytes: usize,
    items: usize,
    bounds: Option<(Position, Position)>,
    /// Why it cannot be read.
    damaged: OnceLock<String>,
}

impl<U: Send + Sync + 'static> Spilled<U> {
    pub(crate) fn new(spill: &Spill<U>, shard: &ShardId, sinks: &[Sink<U>]) -> Self {
        Self {
            spill: spill.clone(),
            shard: shard.clone(),
            sinks: sinks.iter().map(|sink| Arc::clone(&sink.emitter)).collect(),
            file: None,
            end: 0,
            chunks: Vec::new(),
            divisions: sinks.iter().map(|_| Division::default()).collect(),
            catalog: Reservation::none(),
            named_bytes: 0,
            items: 0,
            bounds: None,
            damaged: OnceLock::new(),
        }
    }

    pub(crate) fn items(&self) -> usize {
        self.items
    }

    /// What it takes on disk.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.end
    }

    /// Positions of its first and last item.
    pub(crate) fn bounds(&self) -> Option<(Position, Position)> {
        self.bounds
    }

    /// Why the window has to be read from its stream again, if it has.
    pub(crate) fn damaged(&self) -> Option<&str> {
        self.damaged.get().map(String::as_str)
    }

    /// Puts the next items on disk. Dropped, it leaves what nothing of can be used.
    ///
    /// # Errors
    /// Why not. They are kept in memory then, and nothing more can be appended: the window has to close.
    pub(crate) async fn append(&mut self, mut items: Vec<Item<U>>) -> Result<(), String> {
        while !items.is_empty() {
            let rest = items.split_off(self.chunk_items(&items));
            let (chunk, order) = self.sorted(std::mem::replace(&mut items, rest)).await?;
            if let Err((why, chunk, order)) = self.write(chunk, order).await {
                self.push_held(chunk, &order);
                self.hold(items).await?;
                return Err(why);
            }
        }
        Ok(())
    }

    /// Keeps the last items in memory: there is no use in writing what is sent at once.
    pub(crate) async fn hold(&mut self, items: Vec<Item<U>>) -> Result<(), String> {
        if !items.is_empty() {
            let (items, order) = self.sorted(items).await?;
            self.push_held(items, &order);
        }
        Ok(())
    }

    /// How many of the items make a chunk: it is read as a whole.
    fn chunk_items(&self, items: &[Item<U>]) -> usize {
        let (most, mut bytes) = (self.spill.disk.reading.total_bytes(), 0);
        let fit = items.iter().take_while(|item| {
            bytes += row::bytes_max(item, self.spill.codec) + size_of::<Item<U>>();
            bytes <= most
        });
        fit.count().clamp(1, items.len().max(1))
    }

    /// Where the items go. On a thread that may block: to know a record's partition is to read it.
    async fn sorted(&mut self, items: Vec<Item<U>>) -> Result<(Vec<Item<U>>, Order), String> {
        let first = items.first().map(|item| item.record.position);
        let last = items.last().map(|item| item.record.position);
        self.bounds = self.bounds.map(|(first, _)| first).or(first).zip(last);
        let (sinks, mut divisions) = (self.sinks.clone(), std::mem::take(&mut self.divisions));
        let sorted = spawn_blocking(move || {
            let mut partitions = Vec::with_capacity(items.len() * sinks.len());
            for item in &items {
                partitions.extend(
                    sinks.iter().zip(&mut divisions).map(|(sink, division)| division.number(sink.partition(item))),
                );
            }
            let order = Order::of(&partitions, sinks.len());
            (items, order, divisions)
        });
        let (items, order, divisions) =
            sorted.await.map_err(|error| self.lost(format!("cannot divide a window: {error}")))?;
        self.divisions = divisions;
        Ok((items, order))
    }

    fn push_held(&mut self, items: Vec<Item<U>>, order: &Order) {
        let (first, count) = (self.items, items.len());
        let (segments, held) = chunk::hold(items, order, self.spill.codec);
        let partitions = order.partitions.clone();
        let (held, _room) = (Some(held), Reservation::none());
        self.chunks.push(Chunk { first, segments, partitions, held, _room });
        self.items += count;
    }

    /// Gives the items back with the reason if they cannot be written.
    async fn write(&mut self, items: Vec<Item<U>>, order: Order) -> Result<(), (String, Vec<Item<U>>, Order)> {
        let codec = self.spill.codec;
        let bytes = items.iter().map(|item| row::bytes_max(item, codec)).sum();
        if let Err(why) = self.note(&order).await {
            return Err((why, items, order));
        }
        let mut room = match self.spill.disk.take(bytes) {
            Ok(room) => room,
            Err(why) => return Err((why, items, order)),
        };
        let file = match &self.file {
            Some(file) => Arc::clone(file),
            None => match self.spill.disk.file().await {
                Ok(file) => Arc::clone(self.file.insert(file)),
                Err(why) => return Err((why, items, order)),
            },
        };
        let end = self.end;
        let written = spawn_blocking(move || {
            let written = chunk::write(&file, end, &items, &order, codec);
            (items, order, written)
        });
        let directory = self.spill.disk.directory.display();
        let why = |error: &dyn fmt::Display| format!("cannot write to {directory}: {error}");
        let (items, order, written) =
            written.await.map_err(|error| (self.lost(why(&error)), Vec::new(), Order::of(&[], 0)))?;
        let segments = match written {
            Ok(segments) => segments,
            Err(error) => return Err((why(&error), items, order)),
        };
        self.end = segments.last().map_or(end, Segment::end);
        room.shrink_to(usize::try_from(self.end - end).unwrap_or(usize::MAX));
        let (first, count, partitions) = (self.items, items.len(), order.partitions);
        self.chunks.push(Chunk { first, segments, partitions, held: None, _room: room });
        self.items += count;
        Ok(())
    }

    /// Takes memory for what is noted of the next chunk, and again for each sink that reads it.
    async fn note(&mut self, order: &Order) -> Result<(), String> {
        let of_segment = size_of::<Segment>() + self.sinks.len() * (size_of::<u32>() + size_of::<SegmentId>());
        let named_bytes: usize = self.divisions.iter().map(Division::bytes).sum();
        let new_bytes = order.lengths.len() * of_segment + named_bytes - self.named_bytes;
        self.catalog.merge(self.spill.disk.note(new_bytes)?);
        self.named_bytes = named_bytes;
        Ok(())
    }

    /// Some of its items are in nobody's hands: the window cannot be committed, and is read again.
    fn lost(&self, why: String) -> String {
        self.damaged.get_or_init(|| why).clone()
    }

    /// How many chunks it is in.
    pub(crate) fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Gives the room that was kept on the disk to the objects: nothing more comes to the window.
    pub(crate) async fn give_room(&self) {
        let Some(file) = self.file.clone() else { return };
        let end = self.end;
        // Where it stays, the objects find less.
        let _stays = spawn_blocking(move || chunk::give_room(&file, end)).await;
    }

    /// How many items a chunk has.
    pub(crate) fn items_of(&self, chunk: usize) -> usize {
        let segments = self.chunks.get(chunk).into_iter().flat_map(|chunk| &chunk.segments);
        segments.map(|segment| segment.items).sum()
    }

    /// All of a chunk, in the order of the stream: each item with its index in the window, and beside it the number of its
    /// segment.
    async fn in_order(&self, chunk: usize) -> Result<(Piece<U>, Vec<u32>), Failure> {
        let segments = self.chunks.get(chunk).map_or(0, |chunk| chunk.segments.len());
        let wanted: Vec<SegmentId> = (0..segments).map(|segment| (number(chunk), number(segment))).collect();
        let (found, memory) = self.read(&wanted).await?;
        let mut all: Vec<(usize, Item<U>, u32)> = Vec::new();
        for (segment, items) in found {
            all.extend(items.into_iter().map(|(index, item)| (index, item, segment)));
        }
        all.sort_by_key(|(index, ..)| *index);
        let (mut items, mut of) = (Vec::with_capacity(all.len()), Vec::with_capacity(all.len()));
        for (index, item, segment) in all {
            items.push((index, item));
            of.push(segment);
        }
        Ok((Piece { items, memory }, of))
    }

    /// All of a chunk, in the order of the stream.
    pub(crate) async fn chunk(&self, chunk: usize) -> Result<Piece<U>, Failure> {
        Ok(self.in_order(chunk).await?.0)
    }

    /// The digest of what the window is about to leave in the sinks, if for one of them its boundaries matter: as it is where
    /// memory holds the window.
    pub(crate) async fn content(&self) -> Result<Option<u128>, Failure> {
        let mut content = Fingerprint::new();
        let mut planned = false;
        for (sink, emitter) in self.sinks.iter().enumerate() {
            if !emitter.plan(&mut content) {
                continue;
            }
            planned = true;
            for chunk in 0..self.chunks.len() {
                let (piece, of) = self.in_order(chunk).await?;
                for ((_, item), segment) in piece.items.iter().zip(of) {
                    emitter.plan_item(item, self.name(chunk, segment, sink), &mut content);
                }
            }
        }
        if !planned {
            return Ok(None);
        }
        for chunk in 0..self.chunks.len() {
            self.chunk(chunk).await?.items.iter().for_each(|(_, item)| content.place(item));
        }
        Ok(Some(content.finish()))
    }

    fn name(&self, chunk: usize, segment: u32, sink: usize) -> Option<&str> {
        let number = self.chunks.get(chunk)?.partitions.get(segment as usize * self.sinks.len() + sink)?;
        self.divisions.get(sink)?.name(*number)
    }

    /// The items of some segments, with their indexes, segment by segment; and the memory that they take.
    async fn read(&self, wanted: &[SegmentId]) -> Result<(Vec<Found<U>>, Reservation), Failure> {
        let segment = |(chunk, segment): &SegmentId| {
            let chunk = self.chunks.get(*chunk as usize)?;
            Some((chunk, *chunk.segments.get(*segment as usize)?))
        };
        let on_disk = |place| segment(place).filter(|(chunk, _)| chunk.held.is_none()).map(|(_, segment)| segment);
        let on_disk: Vec<Segment> = wanted.iter().filter_map(on_disk).collect();
        let memory = self.spill.disk.reading.reserve(on_disk.iter().map(Segment::memory_bytes::<U>).sum()).await;
        let mut read = self.read_disk(on_disk).await?.into_iter();
        let mut found = Vec::with_capacity(wanted.len());
        for place in wanted {
            let Some((chunk, segment)) = segment(place) else { continue };
            let items = match &chunk.held {
                Some(held) => segment.among(held, self.spill.codec).ok_or_else(|| self.unreadable("damaged"))?,
                None => read.next().unwrap_or_default(),
            };
            let indexed = items.into_iter().map(|(index, item)| (chunk.first + index as usize, item));
            found.push((place.1, indexed.collect()));
        }
        Ok((found, memory))
    }

    async fn read_disk(&self, segments: Vec<Segment>) -> Result<Vec<Placed<U>>, Failure> {
        let Some(file) = self.file.clone().filter(|_| !segments.is_empty()) else { return Ok(Vec::new()) };
        let (shard, codec) = (self.shard.clone(), self.spill.codec);
        let read = spawn_blocking(move || chunk::read(&file, &segments, &shard, codec)).await;
        let read = read.map_err(|error| error.to_string()).and_then(|read| read.map_err(|error| error.to_string()));
        read.map_err(|error| self.unreadable(&error))
    }

    fn unreadable(&self, why: &str) -> Failure {
        let directory = self.spill.disk.directory.display();
        Failure::transient(self.lost(format!("cannot read what was spilled to {directory}: {why}")))
    }
}

fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
