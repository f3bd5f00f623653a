//! A lease that this worker holds.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use kinesink_core::{Checkpoint, Failure, ShardId};
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::purpose::Purpose;
use super::row::{
    self, ANNOUNCED, CHECKPOINT, CHECKPOINT_OWNER, ENDED_AFTER, ENDING_HASH_KEY, LeaseRow, MARK, OWNER, Owners,
    PENDING, PENDING_STATE, PENDING_SUB_SEQUENCE, START_MS, STARTING_HASH_KEY, SUB_SEQUENCE, SWITCHES, THROUGHPUT,
    WISH,
};
use super::table::{Change, LeaseTable, Mark, WriteError};
use super::term::{Moment, Term};
use crate::planted::{Fault, planted};

/// Unanswered writes that are remembered. A lease expires before there are more.
const UNANSWERED_MAX: usize = 64;

/// One that cannot be given expires.
const GIVE_ATTEMPTS_MAX: u32 = 3;

/// Why a write of a held lease did not happen.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum LeaseError {
    /// Another worker has it, or it was not renewed in time: it is not held any more.
    #[error("the lease is lost")]
    Lost,
    /// It may or may not have happened; the lease is still held.
    #[error(transparent)]
    Failed(Failure),
}

/// Proof that this worker holds a lease, as far as it knows. Its one owner: renewals and checkpoints are serialized
/// here, because each is conditional on the counter that the one before has set.
#[derive(Debug)]
pub(crate) struct HeldLease {
    table: LeaseTable,
    shard: ShardId,
    worker: String,
    term: Term,
    state: Mutex<State>,
    /// When the last successful write was sent: from then on others count. Beside the state, which a write locks for
    /// as long as it takes.
    renewed: watch::Sender<Moment>,
    /// Who is to get the lease by a handoff of KCL 3.x, once that is known.
    asked_for: watch::Sender<Option<String>>,
    lost: CancellationToken,
}

#[derive(Debug)]
struct State {
    row: LeaseRow,
    /// Writes without an answer since the last one that had one. One of them may have moved the counter.
    unanswered: Vec<Mark>,
}

impl State {
    /// Whether the row is as an unanswered write of ours left it.
    fn sent(&self, row: &LeaseRow) -> bool {
        self.unanswered.iter().any(|mark| mark.is_on(row)) && !planted(Fault::ForgetsUnanswered)
    }
}

impl HeldLease {
    /// Takes a lease as it was observed. `start` is stored with it: the time that stands in for a position.
    pub(crate) async fn take(
        table: &LeaseTable,
        observed: &LeaseRow,
        worker: &str,
        start: Option<Timestamp>,
        term: &Term,
    ) -> Result<Self, LeaseError> {
        let mut change = Change {
            set: vec![(OWNER, row::text(worker))],
            remove: vec![CHECKPOINT_OWNER, WISH],
            if_owners: Some(observed.owners()),
        };
        if observed.owner.as_deref().is_some_and(|owner| owner != worker) {
            change.set.push((SWITCHES, row::number(observed.switches + 1)));
        }
        if let Some(start) = start.filter(|_| !planted(Fault::ForgetsStart)) {
            change.set.push((START_MS, row::number(u64::try_from(start.as_millisecond()).unwrap_or(0))));
        }
        let sent = term.now();
        let mark = mark(observed.counter, Some(worker.to_owned()));
        let written = table.write(&observed.shard, &mark, &change).await;
        match written {
            Ok(row) => Ok(Self {
                table: table.clone(),
                shard: row.shard.clone(),
                worker: worker.to_owned(),
                term: term.clone(),
                state: Mutex::new(State { row, unanswered: Vec::new() }),
                renewed: watch::Sender::new(sent),
                asked_for: watch::Sender::new(None),
                lost: CancellationToken::new(),
            }),
            Err(WriteError::Overtaken(_)) => Err(LeaseError::Lost),
            Err(WriteError::Failed(failure)) => Err(LeaseError::Failed(failure)),
        }
    }

    pub(crate) fn shard(&self) -> &ShardId {
        &self.shard
    }

    pub(crate) fn table(&self) -> &LeaseTable {
        &self.table
    }

    /// Whether the lease is lost; nothing may be sent from then on.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Until the lease is lost: another worker has it, or it expired, whatever a write is waiting for. Cancel safe.
    pub(crate) async fn gone(&self) {
        tokio::select! {
            biased;
            () = self.lost.cancelled() => {}
            () = self.term.over(&self.renewed) => self.lost.cancel(),
        }
    }

    /// How long the lease is still held without another write.
    fn left(&self) -> Duration {
        self.term.left(*self.renewed.borrow())
    }

    fn lose(&self) -> LeaseError {
        self.lost.cancel();
        LeaseError::Lost
    }

    /// The row as of the last write.
    pub(crate) async fn row(&self) -> LeaseRow {
        self.state.lock().await.row.clone()
    }

    /// Until a handoff of KCL 3.x is under way: who is to get the lease. Cancel safe.
    pub(crate) async fn asked_for(&self) -> String {
        let mut asked_for = self.asked_for.subscribe();
        match asked_for.wait_for(Option::is_some).await.map(|next| next.clone()) {
            Ok(Some(next)) => next,
            // The sender is in `self`.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// The row as the table has it. Writes without an answer may have changed it, and may still be on their way: one
    /// that is answered comes after them and makes those that are late fail.
    pub(crate) async fn settled(&self) -> Result<LeaseRow, LeaseError> {
        if !self.state.lock().await.unanswered.is_empty() {
            self.renew(None).await?;
        }
        Ok(self.row().await)
    }

    /// Keeps the lease for another failover. `throughput` is stored with it, in KB/s: KCL 3.x balances by it.
    pub(crate) async fn renew(&self, throughput: Option<f64>) -> Result<(), LeaseError> {
        let set: Vec<_> = throughput.map(|kbps| (THROUGHPUT, row::decimal(kbps))).into_iter().collect();
        // A handoff does not move the counter: one that is not known yet fails this condition, and is known then.
        let renewal = |row: &LeaseRow| {
            let if_owners = Some(self.expected_owners(row));
            Ok(Some(Change { set: set.clone(), remove: Vec::new(), if_owners }))
        };
        self.write(Purpose::Renew, renewal).await
    }

    /// Owner and checkpoint owner of a row that is this worker's: it alone, or with the next one.
    fn expected_owners(&self, row: &LeaseRow) -> Owners {
        let me = Some(self.worker.clone());
        match row.asked_for(&self.worker) {
            Some(next) => Owners { owner: Some(next.to_owned()), checkpoint_owner: me },
            None => Owners { owner: me, checkpoint_owner: None },
        }
    }

    /// Moves the checkpoint and clears what was prepared. To where it is already: nothing is written. The end of a shard
    /// keeps the last position beside it.
    pub(crate) async fn checkpoint(&self, to: Checkpoint) -> Result<(), LeaseError> {
        self.write(Purpose::Checkpoint, |row| {
            if to == row.checkpoint && row.prepared().is_none() {
                return Ok(None);
            }
            not_backwards(&self.shard, row.checkpoint, to)?;
            let mut set = vec![
                (CHECKPOINT, row::text(to.sequence_text())),
                (SUB_SEQUENCE, row::number(to.sub_sequence())),
                (SWITCHES, row::number(0)),
            ];
            if let (Checkpoint::ShardEnd, Checkpoint::At(last)) = (to, row.checkpoint) {
                set.push((ENDED_AFTER, row::text(last.sequence.to_string())));
            }
            let mut remove = vec![PENDING, PENDING_SUB_SEQUENCE, PENDING_STATE, ANNOUNCED];
            if planted(Fault::DropsHashRange) {
                remove.extend([STARTING_HASH_KEY, ENDING_HASH_KEY]);
            }
            Ok(Some(Change { set, remove, if_owners: None }))
        })
        .await
    }

    /// Announces a checkpoint with the application's state, without moving the present one.
    pub(crate) async fn prepare(&self, to: Checkpoint, state: &Bytes) -> Result<(), LeaseError> {
        self.write(Purpose::Checkpoint, |row| {
            not_backwards(&self.shard, row.checkpoint, to)?;
            let checkpoint = if planted(Fault::PrepareMovesCheckpoint) { to } else { row.checkpoint };
            let mut change = Change {
                set: vec![
                    (CHECKPOINT, row::text(checkpoint.sequence_text())),
                    (SUB_SEQUENCE, row::number(checkpoint.sub_sequence())),
                    (PENDING, row::text(to.sequence_text())),
                    (PENDING_SUB_SEQUENCE, row::number(to.sub_sequence())),
                ],
                ..Change::default()
            };
            if state.is_empty() {
                change.remove.extend([PENDING_STATE, ANNOUNCED]);
            } else {
                change.set.extend([(PENDING_STATE, row::binary(state.clone())), (ANNOUNCED, row::place(to))]);
            }
            Ok(Some(change))
        })
        .await
    }

    /// Gives the lease to another worker, or back, so that others need not wait for it to expire; during a handoff of
    /// KCL 3.x to whom the leader chose. It is not held any more then, whatever the answer.
    pub(crate) async fn give(&self, to: Option<&str>) -> Result<(), LeaseError> {
        let mut given = Ok(());
        for _ in 0..GIVE_ATTEMPTS_MAX {
            given = self.write(Purpose::Give, |row| Ok(Some(self.handed(row, to)))).await;
            if !matches!(given, Err(LeaseError::Failed(_))) {
                break;
            }
        }
        self.lost.cancel();
        given
    }

    /// What gives the lease to another worker, or to nobody.
    fn handed(&self, row: &LeaseRow, to: Option<&str>) -> Change {
        let asked_for = row.asked_for(&self.worker);
        let if_owners = Some(self.expected_owners(row));
        match asked_for.or(to) {
            Some(next) => {
                let set = vec![(OWNER, row::text(next)), (SWITCHES, row::number(row.switches + 1))];
                // Whom the leader chose may be anybody: whether it is one of ours, only it knows.
                let mark = asked_for.map(|_| MARK);
                let remove = [CHECKPOINT_OWNER, WISH].into_iter().chain(mark).collect();
                Change { set, remove, if_owners }
            }
            None => Change { set: Vec::new(), remove: vec![OWNER, CHECKPOINT_OWNER, WISH], if_owners },
        }
    }

    /// Deletes the row of a finished shard.
    pub(crate) async fn delete(&self) -> Result<(), LeaseError> {
        let state = self.state.lock().await;
        if self.is_lost() || self.left().is_zero() {
            return Err(self.lose());
        }
        match self.table.by(Purpose::Cleanup).delete(&self.shard, state.row.counter).await {
            Ok(true) => {
                self.lost.cancel();
                Ok(())
            }
            // With a write unanswered the counter may be another: the next renewal finds out.
            Ok(false) if !state.unanswered.is_empty() => {
                Err(LeaseError::Failed(Failure::transient(format!("lease {} was not deleted", self.shard))))
            }
            Ok(false) => Err(self.lose()),
            Err(failure) => Err(LeaseError::Failed(failure)),
        }
    }

    fn note_handoff(&self, row: &LeaseRow) {
        if let Some(next) = row.asked_for(&self.worker) {
            self.asked_for.send_if_modified(|asked_for| asked_for.replace(next.to_owned()).is_none());
        }
    }

    /// Whether all that is new is that a leader of KCL 3.x asks this worker for the lease.
    fn began_handoff(&self, before: &LeaseRow, now: &LeaseRow) -> bool {
        let is_asked = |row: &LeaseRow| row.asked_for(&self.worker).is_some();
        now.counter == before.counter && is_asked(now) && !is_asked(before)
    }

    /// One counter write. Not cancel safe in its outcome, and safe to drop: the next write finds out.
    async fn write<F>(&self, purpose: Purpose, change: F) -> Result<(), LeaseError>
    where
        F: Fn(&LeaseRow) -> Result<Option<Change>, LeaseError>,
    {
        let table = self.table.by(purpose);
        let mut state = self.state.lock().await;
        loop {
            if (self.is_lost() || self.left().is_zero()) && !planted(Fault::WritesExpired) {
                return Err(self.lose());
            }
            let Some(change) = change(&state.row)? else { return Ok(()) };
            let sent = self.term.now();
            let owner = owner_after(&change, &self.worker);
            let mark = mark(state.row.counter, owner);
            if state.unanswered.len() == UNANSWERED_MAX {
                state.unanswered.remove(0);
            }
            state.unanswered.push(mark.clone());
            // One that hangs leaves time for the next.
            let wait = self.left().min(self.term.failover() / 3);
            let written = timeout(wait, table.write(&self.shard, &mark, &change)).await;
            match written {
                Ok(Ok(row)) => {
                    *state = State { row, unanswered: Vec::new() };
                    self.note_handoff(&state.row);
                    self.renewed.send_replace(if planted(Fault::HeldSinceAnswer) { self.term.now() } else { sent });
                    return Ok(());
                }
                Ok(Err(WriteError::Overtaken(Some(row)))) if self.began_handoff(&state.row, &row) => {
                    // A leader asks for the lease; ours goes on top. What was not answered may still happen.
                    state.row = *row;
                    self.note_handoff(&state.row);
                }
                Ok(Err(WriteError::Overtaken(Some(row)))) if state.sent(&row) => {
                    // A write before this one did happen. What it changed is in the row; ours goes on top.
                    *state = State { row: *row, unanswered: Vec::new() };
                    self.note_handoff(&state.row);
                    if state.row.holder() != Some(self.worker.as_str()) {
                        // It was the write that gave the lease away.
                        return Err(self.lose());
                    }
                }
                Ok(Err(WriteError::Overtaken(_))) => return Err(self.lose()),
                Ok(Err(WriteError::Failed(failure))) => return Err(LeaseError::Failed(failure)),
                Err(_) if self.left().is_zero() => return Err(self.lose()),
                Err(_) => {
                    let message = format!("lease {} was not written: no answer within {wait:?}", self.shard);
                    return Err(LeaseError::Failed(Failure::transient(message)));
                }
            }
        }
    }
}

/// Who holds the lease after a write of its present owner.
fn owner_after(change: &Change, worker: &str) -> Option<String> {
    if change.remove.contains(&OWNER) {
        return None;
    }
    let given = change.set.iter().find(|(name, _)| *name == OWNER).and_then(|(_, owner)| owner.as_s().ok());
    Some(given.map_or(worker, String::as_str).to_owned())
}

fn mark(counter: u64, owner: Option<String>) -> Mark {
    Mark { counter, token: Uuid::new_v4().to_string(), owner }
}

fn not_backwards(shard: &ShardId, from: Checkpoint, to: Checkpoint) -> Result<(), LeaseError> {
    if to >= from {
        return Ok(());
    }
    let message = format!("cannot checkpoint {shard} at {to}: it stands at {from} and never moves backwards");
    Err(LeaseError::Failed(Failure::fatal(message)))
}
