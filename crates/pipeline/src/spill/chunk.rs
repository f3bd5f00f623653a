//! Items that were spilled at once: a segment for those that share their partitions, its digest kept in memory.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use kinesink_core::{Item, Reservation, ShardId};
use twox_hash::XxHash3_128;

use super::row::{self, Codec};

/// What is written with one system call.
const WRITE_BYTES: usize = 1024 * 1024;

/// Items with their places in their chunk.
pub(super) type Placed<U> = Vec<(u32, Item<U>)>;

/// Items of a chunk whose partitions are the same in every sink, one after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    /// Where it begins: in the file, or among what is held.
    at: u64,
    /// How long it is on disk.
    bytes: usize,
    digest: u128,
    pub(super) items: usize,
    pub(super) output_bytes: usize,
    pub(super) data_bytes: usize,
}

/// Some of a window's items, in order of their segments.
pub(super) struct Chunk<U> {
    /// Index in the window of its first item.
    pub(super) first: usize,
    pub(super) segments: Vec<Segment>,
    /// Of each segment its partition in each sink, by number.
    pub(super) partitions: Vec<u32>,
    /// Where its items are in memory: its place on disk has failed, or the window closed.
    pub(super) held: Option<Placed<U>>,
    /// Its room on disk.
    pub(super) _room: Reservation,
}

/// Items by segment: their places in the chunk.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) places: Vec<u32>,
    /// Of each segment how many.
    pub(super) lengths: Vec<usize>,
    /// Of each segment its partition in each sink, by number.
    pub(super) partitions: Vec<u32>,
}

impl Order {
    /// Of items whose partitions these are, one for each of the sinks.
    pub(super) fn of(partitions: &[u32], sinks: usize) -> Self {
        let of = |place: u32| {
            let from = place as usize * sinks;
            partitions.get(from..from + sinks).unwrap_or_default()
        };
        let count = u32::try_from(partitions.len() / sinks.max(1)).unwrap_or(u32::MAX);
        let mut places: Vec<u32> = (0..count).collect();
        places.sort_by_key(|place| of(*place));
        let (mut lengths, mut segments) = (Vec::new(), Vec::new());
        for same in places.chunk_by(|a, b| of(*a) == of(*b)) {
            lengths.push(same.len());
            segments.extend(same.first().into_iter().flat_map(|place| of(*place)));
        }
        Self { places, lengths, partitions: segments }
    }
}

/// What segments of a file are read by.
pub(super) type Shared = Arc<Mutex<File>>;

/// Writes the items behind the end of the file: their segments. Blocking.
pub(super) fn write<U>(
    file: &Shared,
    end: u64,
    items: &[Item<U>],
    order: &Order,
    codec: Codec<U>,
) -> io::Result<Vec<Segment>> {
    let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
    file.seek(SeekFrom::Start(end))?;
    let written = (|| {
        let (mut segments, mut at, mut places) = (Vec::with_capacity(order.lengths.len()), end, order.places.iter());
        let mut waiting = Vec::with_capacity(WRITE_BYTES);
        for length in &order.lengths {
            let (mut output_bytes, mut data_bytes) = (0, 0);
            let (mut hash, mut hashed, mut bytes) = (XxHash3_128::new(), waiting.len(), 0);
            for place in places.by_ref().take(*length) {
                let Some(item) = items.get(*place as usize) else { break };
                row::write(*place, item, codec, &mut waiting).ok_or_else(too_long)?;
                output_bytes += (codec.write)(&item.value).len();
                data_bytes += item.record.data.len();
                if waiting.len() >= WRITE_BYTES {
                    let new = waiting.get(hashed..).unwrap_or_default();
                    hash.write(new);
                    bytes += new.len();
                    file.write_all(&waiting)?;
                    waiting.clear();
                    hashed = 0;
                }
            }
            let new = waiting.get(hashed..).unwrap_or_default();
            hash.write(new);
            bytes += new.len();
            let digest = hash.finish_128();
            segments.push(Segment { at, bytes, digest, items: *length, output_bytes, data_bytes });
            at += bytes as u64;
        }
        file.write_all(&waiting)?;
        keep_room(&file, at)?;
        Ok(segments)
    })();
    if written.is_err() {
        // What was written of them is nothing to anybody, and others may want its room.
        let _stays = file.set_len(end);
    }
    written
}

/// Keeps as much room behind what is in the file as that takes: the objects that are made of it go on on the same disk, where a
/// window that fills it by itself would leave them none.
#[cfg(target_os = "linux")]
fn keep_room(file: &File, end: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;

    match fallocate(file, FallocateFlags::empty(), end, end) {
        Err(error) if error == Errno::NOSPC || error == Errno::DQUOT => Err(error.into()),
        // A file system may not know how.
        _ => Ok(()),
    }
}

#[cfg(not(target_os = "linux"))]
fn keep_room(_: &File, _: u64) -> io::Result<()> {
    Ok(())
}

/// Gives that room to the objects.
pub(super) fn give_room(file: &Shared, end: u64) -> io::Result<()> {
    file.lock().unwrap_or_else(PoisonError::into_inner).set_len(end)
}

fn too_long() -> io::Error {
    io::Error::other("a record or its output is longer than 4 GiB")
}

/// The segments as they would be written, of items that stay in memory.
pub(super) fn hold<U>(items: Vec<Item<U>>, order: &Order, codec: Codec<U>) -> (Vec<Segment>, Placed<U>) {
    let mut items: Vec<Option<Item<U>>> = items.into_iter().map(Some).collect();
    let take = |place: &u32| Some((*place, items.get_mut(*place as usize)?.take()?));
    let held: Vec<_> = order.places.iter().filter_map(take).collect();
    let (mut segments, mut at) = (Vec::new(), 0);
    for length in &order.lengths {
        let of = held.get(at..at + length).unwrap_or_default();
        segments.push(Segment {
            at: at as u64,
            bytes: 0,
            digest: 0,
            items: *length,
            output_bytes: of.iter().map(|(_, item)| (codec.write)(&item.value).len()).sum(),
            data_bytes: of.iter().map(|(_, item)| item.record.data.len()).sum(),
        });
        at += length;
    }
    (segments, held)
}

impl Segment {
    /// Where it ends in the file.
    pub(super) fn end(&self) -> u64 {
        self.at + self.bytes as u64
    }

    /// Its memory, once it is read.
    pub(super) fn memory_bytes<U>(&self) -> usize {
        self.bytes + self.items * size_of::<(usize, Item<U>)>()
    }

    /// Its items where they are held, as if they had been read. None: an output is not read as it is written.
    pub(super) fn among<U>(&self, held: &[(u32, Item<U>)], codec: Codec<U>) -> Option<Placed<U>> {
        let from = usize::try_from(self.at).unwrap_or(usize::MAX);
        let copy = |(place, item): &(u32, Item<U>)| {
            let value = (codec.read)((codec.write)(&item.value))?;
            let Item { ordinal, outputs, .. } = *item;
            Some((*place, Item { record: item.record.clone(), ordinal, outputs, value }))
        };
        held.get(from..from.saturating_add(self.items)).unwrap_or_default().iter().map(copy).collect()
    }
}

/// The items of these segments, each with its place in its chunk, segment by segment. Blocking.
///
/// # Errors
/// They cannot be read, or are not what was written.
pub(super) fn read<U>(
    file: &Shared,
    segments: &[Segment],
    shard: &ShardId,
    codec: Codec<U>,
) -> io::Result<Vec<Placed<U>>> {
    let mut found = Vec::with_capacity(segments.len());
    for adjacent in segments.chunk_by(|a, b| a.end() == b.at) {
        let at = adjacent.first().map_or(0, |segment| segment.at);
        let mut bytes = vec![0; adjacent.iter().map(|segment| segment.bytes).sum()];
        {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            file.seek(SeekFrom::Start(at))?;
            file.read_exact(&mut bytes)?;
        }
        let mut bytes = Bytes::from(bytes);
        for segment in adjacent {
            let mut of_segment = bytes.split_to(segment.bytes);
            if XxHash3_128::oneshot(&of_segment) != segment.digest {
                return Err(damaged());
            }
            let mut items = Vec::with_capacity(segment.items);
            while !of_segment.is_empty() {
                items.push(row::read(shard, codec, &mut of_segment).ok_or_else(damaged)?);
            }
            found.push(items);
        }
    }
    Ok(found)
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is not what was written there")
}
