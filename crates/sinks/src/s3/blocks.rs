//! Bytes that are written one after the other, kept in blocks: a vector that grows would be copied, and be twice as large.
//! Where they may be more than memory takes, they go on in a file.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::task::spawn_blocking;

const BLOCK_BYTES: usize = 256 * 1024;

/// Where the bytes go that memory does not take: into a file without a name, which ends with whoever holds it.
#[derive(Debug, Clone)]
pub(super) struct Overflow {
    pub(super) directory: PathBuf,
    /// So many stay in memory.
    pub(super) held_bytes_max: usize,
    /// What the object may come to: the bytes that are encoded.
    pub(super) object_bytes: u64,
}

/// What was written so far.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    full: Vec<Bytes>,
    open: Vec<u8>,
    overflow: Option<Overflow>,
    file: Option<File>,
    /// Of what is in the file.
    file_bytes: u64,
}

/// An object's bytes: first those in a file, then those in memory.
#[derive(Debug, Default)]
pub(super) struct Encoded {
    file: Option<Arc<Mutex<File>>>,
    file_bytes: u64,
    held: Vec<Bytes>,
}

/// Some of them, next to each other.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// A file, where it begins there, and how long it is.
    file: Option<(Arc<Mutex<File>>, u64, usize)>,
    held: Vec<Bytes>,
}

impl Blocks {
    pub(super) fn new(overflow: Option<Overflow>) -> Self {
        Self { overflow, ..Self::default() }
    }

    pub(super) fn close(mut self) -> Encoded {
        if !self.open.is_empty() {
            self.open.shrink_to_fit();
            self.full.push(self.open.into());
        }
        let file = self.file.map(|file| Arc::new(Mutex::new(file)));
        Encoded { file, file_bytes: self.file_bytes, held: self.full }
    }

    /// A block is full.
    fn fill(&mut self) -> io::Result<()> {
        self.full.push(std::mem::take(&mut self.open).into());
        match &self.overflow {
            Some(overflow) if self.full.len() * BLOCK_BYTES >= overflow.held_bytes_max => {
                self.spill().map_err(|error| self.no_room(&error))
            }
            _ => Ok(()),
        }
    }

    /// Why memory would have to take more of it than it may, and what to do.
    fn no_room(&self, error: &io::Error) -> io::Error {
        let (directory, object_bytes) = match &self.overflow {
            Some(overflow) => (overflow.directory.display().to_string(), overflow.object_bytes),
            None => (String::new(), 0),
        };
        let held = (self.full.len() * BLOCK_BYTES) as u64;
        let missing = object_bytes.saturating_sub(self.file_bytes).max(held);
        let why = format!(
            "{directory} took {} bytes of it and no more: {error}: up to {missing} bytes are missing: name a larger disk in `[spill] \
             dir`, or lower `[spill] max` or `[buffer] bytes`, for a window and its objects are there together",
            self.file_bytes
        );
        io::Error::new(error.kind(), why)
    }

    /// Moves what is full to the file. What fails stays.
    fn spill(&mut self) -> io::Result<()> {
        let Some(overflow) = &self.overflow else { return Ok(()) };
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                std::fs::create_dir_all(&overflow.directory)?;
                self.file.insert(tempfile::tempfile_in(&overflow.directory)?)
            }
        };
        let blocks = std::mem::take(&mut self.full);
        for (number, block) in blocks.iter().enumerate() {
            // Where an earlier attempt has left a part of a block, it is written over.
            if let Err(error) = file.seek(SeekFrom::Start(self.file_bytes)).and_then(|_| file.write_all(block)) {
                self.full = blocks.get(number..).unwrap_or_default().to_vec();
                return Err(error);
            }
            self.file_bytes += block.len() as u64;
        }
        Ok(())
    }
}

impl Write for Blocks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.open.len() == BLOCK_BYTES {
            self.fill()?;
        }
        if self.open.capacity() == 0 {
            self.open.reserve_exact(BLOCK_BYTES);
        }
        let count = bytes.len().min(BLOCK_BYTES - self.open.len());
        self.open.extend_from_slice(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Encoded {
    /// All of it in memory.
    pub(super) fn held(held: Vec<Bytes>) -> Self {
        Self { held, ..Self::default() }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.file_bytes + self.held.iter().map(|chunk| chunk.len() as u64).sum::<u64>()
    }

    /// The chunks, if all of it is in memory.
    pub(super) fn into_held(self) -> Result<Vec<Bytes>, Self> {
        if self.file.is_none() { Ok(self.held) } else { Err(self) }
    }

    /// Parts of that size, the last one perhaps smaller.
    pub(super) fn parts(self, part_bytes: usize) -> Vec<Part> {
        let (mut parts, mut part, mut room) = (Vec::new(), Part::default(), part_bytes);
        let mut from = 0;
        while let Some(file) = self.file.clone().filter(|_| from < self.file_bytes) {
            let bytes = usize::try_from(self.file_bytes - from).unwrap_or(usize::MAX).min(room);
            part.file = Some((file, from, bytes));
            from += bytes as u64;
            room -= bytes;
            if room == 0 {
                parts.push(std::mem::take(&mut part));
                room = part_bytes;
            }
        }
        for mut chunk in self.held {
            while chunk.len() >= room {
                part.held.push(chunk.split_to(room));
                parts.push(std::mem::take(&mut part));
                room = part_bytes;
            }
            if !chunk.is_empty() {
                room -= chunk.len();
                part.held.push(chunk);
            }
        }
        if room < part_bytes {
            parts.push(part);
        }
        parts
    }

    /// Copies it to `out`. Blocking.
    pub(super) fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        if let Some(file) = &self.file {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            file.seek(SeekFrom::Start(0))?;
            let copied = io::copy(&mut (&mut *file).take(self.file_bytes), out)?;
            if copied != self.file_bytes {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.held.iter().try_for_each(|chunk| out.write_all(chunk))
    }
}

impl Part {
    /// Into memory.
    pub(super) async fn read(&self) -> io::Result<Vec<Bytes>> {
        let Some((file, from, bytes)) = self.file.clone() else { return Ok(self.held.clone()) };
        let read = spawn_blocking(move || {
            let mut part = vec![0; bytes];
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            file.seek(SeekFrom::Start(from))?;
            file.read_exact(&mut part)?;
            Ok::<_, io::Error>(Bytes::from(part))
        });
        let read = read.await.map_err(io::Error::other)??;
        Ok([vec![read], self.held.clone()].concat())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_are_the_object_in_order_and_all_but_the_last_are_full(
            chunks in prop::collection::vec(0..50_usize, 0..20),
            part_bytes in 1..60_usize,
            in_file in 0..21_usize,
        ) {
            let mut byte = 0_u8;
            let chunks: Vec<Bytes> = chunks
                .into_iter()
                .map(|len| std::iter::repeat_with(|| { byte = byte.wrapping_add(1); byte }).take(len).collect())
                .collect();
            let (first, held) = chunks.split_at(in_file.min(chunks.len()));
            let mut file = tempfile::tempfile().unwrap();
            first.iter().for_each(|chunk| file.write_all(chunk).unwrap());
            let file = (in_file > 0).then(|| Arc::new(Mutex::new(file)));
            let encoded = Encoded { file, file_bytes: first.concat().len() as u64, held: held.to_vec() };
            prop_assert_eq!(encoded.bytes(), chunks.concat().len() as u64);
            let mut copy = Vec::new();
            encoded.write_to(&mut copy).unwrap();
            prop_assert_eq!(&copy, &chunks.concat());
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let parts: Vec<Vec<u8>> = encoded
                .parts(part_bytes)
                .into_iter()
                .map(|part| runtime.block_on(part.read()).unwrap().concat())
                .collect();
            prop_assert_eq!(parts.concat(), chunks.concat());
            if let Some((last, full)) = parts.split_last() {
                prop_assert!(full.iter().all(|part| part.len() == part_bytes));
                prop_assert!((1..=part_bytes).contains(&last.len()));
            }
        }
    }

    #[test]
    fn what_memory_does_not_take_goes_on_in_a_file_that_nobody_sees() {
        let directory = tempfile::tempdir().unwrap();
        let text: Vec<u8> = (0..=250).cycle().take(3 * BLOCK_BYTES + 17).collect();
        for (held_bytes_max, in_file) in [(BLOCK_BYTES, true), (2 * BLOCK_BYTES, true), (4 * BLOCK_BYTES, false)] {
            let overflow = Overflow { directory: directory.path().join("spill"), held_bytes_max, object_bytes: 0 };
            let mut blocks = Blocks::new(Some(overflow));
            text.chunks(1_000).for_each(|part| blocks.write_all(part).unwrap());
            let encoded = blocks.close();
            assert_eq!(encoded.file_bytes > 0, in_file, "{held_bytes_max}");
            assert_eq!(encoded.bytes(), text.len() as u64);
            let mut copy = Vec::new();
            encoded.write_to(&mut copy).unwrap();
            assert!(copy == text);
        }
        assert_eq!(std::fs::read_dir(directory.path().join("spill")).unwrap().count(), 0);
    }

    #[test]
    fn without_a_disk_memory_takes_no_more_than_it_may() {
        let directory = tempfile::tempdir().unwrap();
        let in_the_way = directory.path().join("file");
        std::fs::write(&in_the_way, "").unwrap();
        let object_bytes = 9 * BLOCK_BYTES as u64;
        let overflow = Overflow { directory: in_the_way.clone(), held_bytes_max: 2 * BLOCK_BYTES, object_bytes };
        let mut blocks = Blocks::new(Some(overflow));
        blocks.write_all(&vec![7; 2 * BLOCK_BYTES]).unwrap();
        let error = blocks.write_all(&[7]).unwrap_err().to_string();
        for part in [in_the_way.to_str().unwrap(), &format!("up to {object_bytes} bytes are missing"), "`[spill] max`"]
        {
            assert!(error.contains(part), "{error}");
        }
        assert!(blocks.full.len() <= 2 && blocks.open.is_empty());
    }
}
