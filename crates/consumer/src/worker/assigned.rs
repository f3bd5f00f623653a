//! One look where a leader of KCL 3.x assigns: leases are found, not taken, and this worker's turn as a leader.

use futures::stream::StreamExt as _;
use kinesink_core::{Class, Failure};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::drive::Drive;
use crate::Error;
use crate::coordination::{Leading, Moves, Role, Round, Standing};
use crate::lease::{Item, LeaseRow, Purpose};

const WRITES_AT_ONCE: usize = 20;

impl Drive<'_> {
    /// One look. Dropped anywhere, it leaves nothing that the next one does not find.
    pub(super) async fn assigned_round(&mut self, standing: Standing) {
        // Another process that runs under this worker's id is not told apart: KCL 3.x has no way to.
        self.taker.begin();
        if standing.role == Role::Follower {
            self.leading = Leading::default();
        }
        let by_index = standing.has_index && standing.role == Role::Follower;
        let mut done = match by_index {
            true => self.find_by_index().await.map_err(Error::Running),
            false => self.find_by_scan(standing).await,
        };
        if let Err(Error::Running(failure)) = &done
            && by_index
            && failure.class == Class::Configuration
        {
            // The leader goes on giving leases to who reports, found or not.
            let by_scan = self.find_by_scan(standing).await;
            if by_scan.is_ok() {
                warn!(%failure, "finding leases by a scan of the table instead");
            }
            done = by_scan;
        }
        if standing.role == Role::Leader {
            self.worker.coordinator.led(done.is_ok());
        }
        match done {
            // What the drain has cut was perhaps not read.
            Ok(()) if self.drain.is_cancelled() => {}
            Ok(()) => self.unread = None,
            Err(error) => self.not_read(&error),
        }
        self.worker.metrics.holds(self.held.lock().len());
    }

    async fn find_by_index(&mut self) -> Result<(), Failure> {
        let drain = self.drain.clone();
        if let Some(found) = drain.run_until_cancelled(self.assigned_by_index()).await {
            self.take(found?, None).await;
        }
        Ok(())
    }

    /// What is this worker's, and not held.
    async fn assigned_by_index(&self) -> Result<Vec<LeaseRow>, Failure> {
        let table = &self.worker.table;
        let held = self.held.shards();
        let mut found = Vec::new();
        for shard in table.owned_by(&self.worker.id).await? {
            if !held.contains(&shard) {
                found.extend(table.get(&shard).await?.filter(|lease| self.is_assigned(lease)));
            }
        }
        Ok(found)
    }

    /// Whether the lease is this worker's to begin with. While a handoff is under way it is still another's.
    fn is_assigned(&self, lease: &LeaseRow) -> bool {
        lease.owner.as_ref() == Some(&self.worker.id) && lease.checkpoint_owner.is_none()
    }

    async fn find_by_scan(&mut self, standing: Standing) -> Result<(), Error> {
        let table = self.worker.table.by(Purpose::Take);
        let drain = self.drain.clone();
        let Some(rows) = drain.run_until_cancelled(table.rows()).await.transpose()? else { return Ok(()) };
        let found = table.leases(&rows)?;
        self.worker.metrics.cannot_read(found.unreadable.len());
        self.taker.note(found, &self.worker.id);
        let held = self.held.shards();
        let leases = self.taker.view.leases().iter();
        let found = leases.filter(|lease| self.is_assigned(lease) && !held.contains(&lease.shard)).cloned().collect();
        self.take(found, None).await;
        if standing.role == Role::Follower {
            return Ok(());
        }
        self.lead(standing, &rows).await.map_err(Error::Running)
    }

    /// Assigns what has no live owner, and moves what is divided unevenly. Not once this worker drains: what it gives back is nobody's load,
    /// and it would take its share anew.
    async fn lead(&mut self, standing: Standing, rows: &[Item]) -> Result<(), Failure> {
        let (worker, now_s) = (self.worker, self.worker.coordinator.now_s());
        let drain = self.drain.clone();
        let reports = drain.run_until_cancelled(worker.coordinator.reports(standing.layout, rows)).await;
        let Some(reports) = reports.transpose()? else { return Ok(()) };
        let held = self.held.shards();
        let round = Round {
            view: &self.taker.view,
            reports: &reports,
            me: &worker.id,
            held: &held,
            leases_max: worker.appetite.leases_max,
            failover: worker.failover,
            now: Instant::now(),
            now_s,
        };
        let leads = standing.role == Role::Leader;
        let Moves { assign, force, hand_over } = self.leading.moves(&round, leads);
        // Its own need not be found first.
        let (own, others): (Vec<_>, Vec<_>) = assign.into_iter().partition(|(_, to)| *to == worker.id);
        self.take(own.into_iter().map(|(lease, _)| lease).collect(), None).await;
        self.in_time(others, None)
            .for_each_concurrent(WRITES_AT_ONCE, |(lease, to)| self.assign(lease, to, true))
            .await;
        self.in_time(force, None)
            .for_each_concurrent(WRITES_AT_ONCE, |(lease, to)| self.assign(lease, to, false))
            .await;
        self.in_time(hand_over, None)
            .for_each_concurrent(WRITES_AT_ONCE, |(lease, to)| self.hand_over(lease, to))
            .await;
        let gone = reports.iter().filter(|report| leads && report.is_stale(now_s));
        for report in gone {
            worker.coordinator.forget(standing.layout, report).await?;
        }
        Ok(())
    }

    async fn assign(&self, lease: LeaseRow, to: String, if_still: bool) {
        match self.worker.table.by(Purpose::Give).assign(&lease, &to, if_still).await {
            Ok(true) => info!(shard = %lease.shard, from = lease.holder(), %to, "lease assigned"),
            Ok(false) => debug!(shard = %lease.shard, "the lease has moved"),
            Err(failure) => warn!(shard = %lease.shard, %failure, "lease not assigned; trying again"),
        }
    }

    async fn hand_over(&self, lease: LeaseRow, to: String) {
        match self.worker.table.hand_over(&lease, &to).await {
            Ok(true) => info!(shard = %lease.shard, from = lease.owner, %to, "lease to be handed over"),
            Ok(false) => debug!(shard = %lease.shard, "the lease has moved"),
            Err(failure) => warn!(shard = %lease.shard, %failure, "lease not handed over; trying again"),
        }
    }
}
