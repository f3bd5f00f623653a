//! The letters of a window, as many at a time as memory takes.

use std::collections::BTreeMap;

use kinesink_core::{Failure, Position, ShardId, StreamName};
use kinesink_pipeline::DeadLetter;
use kinesink_sinks::s3::{Listed, S3Reader};

/// What is read of an object at a time.
const BLOCK_BYTES: u64 = 8 * 1024 * 1024;
/// A record of 10 MiB in base64, and what is said of it.
const LINE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// What a letter takes beside its record's data, with the record and the output that are made of it.
const OVERHEAD_BYTES: usize = 1024;

/// Letters in the order of the stream, each once.
#[derive(Debug, Default)]
pub(super) struct Letters {
    by_output: BTreeMap<(Position, u32, String), DeadLetter>,
    bytes: usize,
    /// Those from here on are left to the next pass.
    end: Option<Position>,
}

impl Letters {
    /// The first letters of these objects, which are of that stream's shard, that are `wanted`, by position: as many as take
    /// `bytes_max`, of one record at least.
    pub(super) async fn read(
        reader: &S3Reader,
        (stream, shard): (&StreamName, &ShardId),
        objects: &[Listed],
        bytes_max: usize,
        wanted: impl Fn(&DeadLetter, Position) -> bool,
    ) -> Result<Self, Failure> {
        let mut letters = Self::default();
        for object in objects {
            let mut lines = Lines { reader, object, from: 0, rest: Vec::new(), number: 0 };
            while let Some(block) = lines.block().await? {
                for line in block.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    lines.number += 1;
                    let (letter, position) = parse(line, stream, shard).map_err(|why| {
                        let (key, number) = (&object.key, lines.number);
                        Failure::configuration(format!("dead letters {key}, line {number}: {why}"))
                    })?;
                    if wanted(&letter, position) {
                        letters.add(letter, position, bytes_max);
                    }
                }
            }
        }
        Ok(letters)
    }

    fn add(&mut self, letter: DeadLetter, position: Position, bytes_max: usize) {
        if self.end.is_some_and(|end| position >= end) {
            return;
        }
        let bytes = held_bytes(&letter);
        if self.by_output.insert((position, letter.ordinal, letter.stage.clone()), letter).is_none() {
            self.bytes += bytes;
        }
        while self.bytes > bytes_max
            && let Some(((last, ..), _)) = self.by_output.last_key_value()
            && self.by_output.first_key_value().is_some_and(|((first, ..), _)| first < last)
        {
            let end = *last;
            let left = self.by_output.split_off(&(end, 0, String::new()));
            self.bytes -= left.values().map(held_bytes).sum::<usize>();
            self.end = Some(end);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_output.is_empty()
    }

    /// Position of the last record, if there are letters of later ones.
    pub(super) fn goes_on_behind(&self) -> Option<Position> {
        self.end.and_then(|_| self.by_output.last_key_value()).map(|((last, ..), _)| *last)
    }

    pub(super) fn into_letters(self) -> impl Iterator<Item = DeadLetter> {
        self.by_output.into_values()
    }
}

fn held_bytes(letter: &DeadLetter) -> usize {
    letter.data.len() + letter.reason.len() + OVERHEAD_BYTES
}

/// The letter and its record's position, or what is wrong with the line and what to do.
fn parse(line: &[u8], stream: &StreamName, shard: &ShardId) -> Result<(DeadLetter, Position), String> {
    let unreadable = |why: kinesink_pipeline::Error| format!("{why}: mend the line, or remove it");
    let letter = DeadLetter::from_json(line).map_err(unreadable)?;
    let record = letter.record().map_err(unreadable)?;
    let remedy = "move the line to where it belongs, or remove it";
    if letter.stream != stream.as_str() {
        return Err(format!("it is of stream {}, among those of stream {stream}: {remedy}", letter.stream));
    }
    if record.shard != *shard {
        return Err(format!("it is of {}, among those of {shard}: {remedy}", record.shard));
    }
    Ok((letter, record.position))
}

/// Whole lines of an object, a block at a time.
struct Lines<'a> {
    reader: &'a S3Reader,
    object: &'a Listed,
    from: u64,
    /// The begin of a line.
    rest: Vec<u8>,
    /// Of the last line that was read.
    number: usize,
}

impl Lines<'_> {
    async fn block(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let Listed { key, bytes } = self.object;
        while self.from < *bytes {
            let read = self.reader.read(key, self.from..*bytes.min(&(self.from + BLOCK_BYTES))).await?;
            if read.is_empty() {
                return Err(Failure::transient(format!("dead letters {key} are shorter than they were: replay again")));
            }
            self.from += read.len() as u64;
            let end = read.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let (lines, rest) = read.split_at(end);
            if lines.is_empty() && self.rest.len() + rest.len() > LINE_BYTES_MAX {
                let why = format!("dead letters {key} have a line of more than {LINE_BYTES_MAX} bytes: remove it");
                return Err(Failure::configuration(why));
            }
            if lines.is_empty() {
                self.rest.extend_from_slice(rest);
                continue;
            }
            let block = [&std::mem::take(&mut self.rest), lines].concat();
            self.rest = rest.to_vec();
            return Ok(Some(block));
        }
        let rest = std::mem::take(&mut self.rest);
        Ok((!rest.is_empty()).then_some(rest))
    }
}

#[cfg(test)]
mod tests {
    use kinesink_sinks::s3::S3Config;

    use super::*;

    fn line(number: u64, ordinal: u32, data: &str) -> String {
        let data = data.as_bytes().to_vec().into();
        let letter = DeadLetter {
            version: 1,
            stage: "transform".into(),
            stream: "orders".into(),
            shard: "shardId-000000000000".into(),
            sequence: number.to_string(),
            sub_sequence: 0,
            ordinal,
            outputs: None,
            arrival: jiff::Timestamp::UNIX_EPOCH,
            partition_key: None,
            reason: String::new(),
            data,
        };
        String::from_utf8(letter.to_json().unwrap().to_vec()).unwrap()
    }

    /// All passes over these objects: the records of each, and its bytes.
    async fn passes(objects: &[String], bytes_max: usize) -> Result<Vec<(Vec<u64>, usize)>, Failure> {
        let directory = tempfile::tempdir().unwrap();
        let mut listed = Vec::new();
        for (number, text) in objects.iter().enumerate() {
            let key = format!("{number}.ndjson");
            std::fs::write(directory.path().join(&key), text).unwrap();
            listed.push(Listed { key, bytes: text.len() as u64 });
        }
        let place = format!("file://{}", directory.path().display());
        let reader = S3Reader::open(&S3Config::new(place.parse().unwrap())).unwrap();
        let (stream, shard) = ("orders".parse().unwrap(), "shardId-000000000000".parse().unwrap());
        let (mut passes, mut behind) = (Vec::new(), None);
        loop {
            let wanted = |_: &DeadLetter, position: Position| behind.is_none_or(|behind| position > behind);
            let letters = Letters::read(&reader, (&stream, &shard), &listed, bytes_max, wanted).await?;
            behind = letters.goes_on_behind();
            let records = letters.by_output.keys().map(|(position, ..)| position.sequence.to_string().parse().unwrap());
            passes.push((records.collect(), letters.bytes));
            if behind.is_none() {
                return Ok(passes);
            }
        }
    }

    #[tokio::test]
    async fn passes_take_as_much_as_they_may_in_order_and_each_letter_once() {
        // Attempts have written some twice, in any order; the last line has no end.
        let one: String = (1..=9).rev().map(|number| line(number, 0, "abcd") + "\n").collect();
        let two = [line(3, 1, "abcd"), String::new(), line(12, 0, "abcd"), line(2, 0, "abcd")].join("\n");
        let objects = [one, two];
        let of_one = 4 + OVERHEAD_BYTES;
        let wanted = [1, 2, 3, 3, 4, 5, 6, 7, 8, 9, 12];
        for at_once in [11, 4, 3, 2, 1] {
            let passes = passes(&objects, at_once * of_one).await.unwrap();
            let records: Vec<u64> = passes.iter().flat_map(|(records, _)| records.clone()).collect();
            assert_eq!(records, wanted, "{at_once} at once");
            for (records, bytes) in passes {
                // Those of one record are never apart.
                assert!(bytes <= at_once * of_one || records == [3, 3], "{at_once} at once: {records:?}");
            }
        }
    }

    #[tokio::test]
    async fn lines_may_be_longer_than_what_is_read_at_a_time_but_have_an_end() {
        let long = "x".repeat(usize::try_from(BLOCK_BYTES).unwrap());
        let text = [line(1, 0, "a"), line(2, 0, &long), line(3, 0, "b")].join("\n");
        let [(records, _)] = &passes(&[text], usize::MAX).await.unwrap()[..] else { panic!("one pass") };
        assert_eq!(records, &[1, 2, 3]);
        let failure = passes(&["x".repeat(LINE_BYTES_MAX + 1)], usize::MAX).await.unwrap_err();
        assert!(failure.message.contains("0.ndjson have a line of more than") && failure.message.contains("remove it"));
        let failure = passes(&[line(1, 0, "a") + "\n\nno letter"], usize::MAX).await.unwrap_err();
        assert!(failure.message.contains("0.ndjson, line 2: "), "{failure}");
        assert!(failure.message.ends_with("mend the line, or remove it"), "{failure}");
    }

    #[tokio::test]
    async fn a_letter_among_those_of_another_shard_was_sent_as_one_of_them() {
        let stray = line(2, 0, "b").replace("shardId-000000000000", "shardId-000000000007");
        let failure = passes(&[[line(1, 0, "a"), stray].join("\n")], usize::MAX).await.unwrap_err();
        assert_eq!(
            failure.message,
            "dead letters 0.ndjson, line 2: it is of shardId-000000000007, among those of shardId-000000000000: move the line to \
             where it belongs, or remove it"
        );
    }

    /// A shard's name and numbers are no witness: every stream has a first shard.
    #[tokio::test]
    async fn a_letter_among_those_of_another_stream_was_sent_as_one_of_them() {
        let stray = line(2, 0, "b").replace("\"orders\"", "\"payments\"");
        let failure = passes(&[[line(1, 0, "a"), stray].join("\n")], usize::MAX).await.unwrap_err();
        assert_eq!(
            failure.message,
            "dead letters 0.ndjson, line 2: it is of stream payments, among those of stream orders: move the line to where it belongs, \
             or remove it"
        );
    }
}
