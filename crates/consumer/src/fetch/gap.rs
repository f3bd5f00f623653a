//! What to do about a checkpoint whose record has left the stream.

use jiff::Timestamp;
use kinesink_core::{Failure, SequenceNumber, ShardId};
use tracing::error;

use super::cursor::{Cursor, Gap};
use super::reader::ReaderSettings;
use crate::Start;

/// Where reading goes on when the record that a checkpoint stands at has left the stream, and with it others perhaps that
/// nobody has read. It is logged with both times and counted, whatever is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BeyondRetention {
    /// At the oldest record that is left.
    #[default]
    Oldest,
    /// Where an application without leases starts, at [`Start`](crate::Start). Until the first checkpoint after it, a restart decides
    /// again.
    Start,
    /// Nowhere: the shard waits until somebody moves its checkpoint, and the others go on.
    Fail,
}

impl ReaderSettings {
    /// Whether what was read counts. If not, the cursor stands where reading goes on.
    ///
    /// # Errors
    /// The settings want somebody to decide; the same comes again until then.
    pub(super) fn bridge(&self, shard: &ShardId, gap: &Gap, cursor: &mut Cursor) -> Result<bool, Failure> {
        let stream = &self.stream;
        let lost = format!("shard {shard} of stream {stream}: {}", described(gap));
        if self.beyond_retention == BeyondRetention::Fail {
            let way_out = "move the checkpoint with kinesink leases, or set beyond_retention";
            return Err(Failure::configuration(format!("cannot read on in {lost}; {way_out}")));
        }
        self.metrics.checkpoint_beyond_retention();
        let resume = match (self.beyond_retention, self.start) {
            (BeyondRetention::Start, Start::Latest) => Some(self.clock.now()),
            (BeyondRetention::Start, Start::AtTimestamp(time)) => Some(time),
            _ => None,
        };
        let Some(time) = resume.filter(|_| gap.oldest.is_some()) else {
            error!("reading on at the oldest record of {lost}");
            return Ok(true);
        };
        cursor.resume_at(time);
        error!("reading on at {time} in {lost}");
        Ok(false)
    }
}

fn described(Gap { checkpoint, oldest }: &Gap) -> String {
    let checkpoint =
        format!("the checkpoint is at {checkpoint}, {}, which is older than the retention", of(*checkpoint));
    match oldest {
        Some((oldest, arrival)) => {
            format!("{checkpoint}; the oldest record is {oldest} of {arrival}, and what was between them is lost")
        }
        None => format!("{checkpoint}; the shard has ended, nothing of it is left, and what came after is lost"),
    }
}

/// When a record came, by its number.
fn of(sequence: SequenceNumber) -> String {
    let time = sequence.arrival_s().and_then(|s| Timestamp::from_second(i64::try_from(s).ok()?).ok());
    time.map_or_else(|| "of an unknown time".to_owned(), |time| format!("of about {time}"))
}
