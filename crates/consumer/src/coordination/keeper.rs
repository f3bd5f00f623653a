//! Keeps this worker's part in KCL 3.x up to date: which algorithm holds, its report, the leader's lock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kinesink_aws::dynamodb::Client;
use kinesink_core::{Clock, Failure};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::Coordination;
use super::leader_lock::{LeaderLock, Role};
use super::report::{self, REPORT_PERIOD, Report};
use super::tables::{Condition, Found, Home, Layout, Tables};
use super::version::{self, MIGRATION, Version};
use crate::lease::{Item, LeaseTable, Purpose};

/// KCL's monitors read `Migration3.0` so often.
const POLL_PERIOD: Duration = Duration::from_secs(60);
/// KCL's: a leader whose rounds fail so often in a row lets another one lead.
const FAILED_ROUNDS_MAX: u32 = 3;
/// A call without an answer must not keep the others waiting, nor a worker that wants to leave.
const CALL_MAX: Duration = Duration::from_secs(5);

/// What holds for this worker now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    version: Option<Version>,
    pub(crate) layout: Layout,
    /// Whether a worker's leases can be asked for by its id.
    pub(crate) has_index: bool,
    pub(crate) role: Role,
}

impl Standing {
    /// Whether leases are assigned by a leader, and taken by nobody.
    pub(crate) fn assigns(&self) -> bool {
        self.version.is_some_and(Version::assigns)
    }

    fn reports(&self) -> bool {
        self.version.is_some_and(Version::reports)
    }
}

/// One worker's part in KCL 3.x. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Coordinator {
    tables: Tables,
    leases: LeaseTable,
    setting: Coordination,
    me: String,
    failover: Duration,
    clock: Arc<dyn Clock>,
    /// Of leading, in a row.
    failed_rounds: Arc<AtomicU32>,
}

impl Coordinator {
    /// Of worker `me` of the application `app`.
    pub(crate) fn new(
        (app, client): (String, Client),
        leases: LeaseTable,
        setting: Coordination,
        (me, failover): (String, Duration),
        clock: Arc<dyn Clock>,
    ) -> Self {
        let tables = Tables::new(client, app, &leases);
        Self { tables, leases, setting, me, failover, clock, failed_rounds: Arc::default() }
    }

    /// What holds at the start. Makes a new application one of KCL 3.x, if that is the setting; needs the lease table.
    ///
    /// # Errors
    /// Also a row `Migration3.0` of a version that is not known here: who divides the leases is not known then.
    pub(crate) async fn prepare(&self) -> Result<Standing, Failure> {
        let migration = self.tables.migration().await?;
        if migration == Found::Denied {
            let table = self.tables.name(Home::Coordinator);
            // As where a role may use the lease table alone, which is enough elsewhere.
            info!(
                table,
                "may not be read, and counts as missing: where KCL 3.0 to 3.4 runs as well, grant GetItem first"
            );
        }
        let standing = self.read(&migration).await?;
        if standing.version.is_some() || self.setting == Coordination::Auto {
            return Ok(standing);
        }
        let home = standing.layout.lock();
        let now_ms = u64::try_from(self.clock.now().as_millisecond()).unwrap_or(0);
        if self.tables.put(home, version::first_row(home, &self.me, now_ms), &Condition::Absent).await? {
            warn!("from now on a leader assigns the leases, and workers of KCL 1.x and 2.x take none any more");
        }
        self.read(&migration).await
    }

    async fn read(&self, migration: &Found) -> Result<Standing, Failure> {
        let layout = Layout::of(migration);
        let mut version = None;
        for home in layout.versions() {
            match self.tables.get(*home, MIGRATION).await? {
                Found::Row(row) => {
                    version = Some(Version::of(&row).map_err(|said| {
                        let does = "it says how leases are divided, and this program is too old to know it";
                        Failure::configuration(format!("row {MIGRATION} has version {said:?}: {does}; use a newer one"))
                    })?);
                    break;
                }
                // Restored, it may say that a leader assigns: nobody takes leases until then.
                Found::NoTable if *home == Home::Leases => {
                    let table = self.tables.name(Home::Leases);
                    return Err(Failure::configuration(format!(
                        "cannot read row {MIGRATION}: lease table {table} is gone"
                    )));
                }
                Found::NoTable | Found::Denied | Found::NoRow => {}
            }
        }
        let has_index =
            version.is_some_and(Version::assigns) && self.leases.by(Purpose::Coordinate).has_index().await?;
        Ok(Standing { version, layout, has_index, role: Role::Follower })
    }

    /// What every worker reported last. `rows` are those of the lease table.
    pub(crate) async fn reports(&self, layout: Layout, rows: &[Item]) -> Result<Vec<Report>, Failure> {
        let (beside_leases, apart) = layout.reported();
        let mut reports = Vec::new();
        if beside_leases {
            reports.extend(rows.iter().filter_map(|row| Report::of(Home::Leases, row)));
        }
        if apart {
            let rows = self.tables.scan(Home::WorkerMetrics).await?;
            reports.extend(rows.iter().filter_map(|row| Report::of(Home::WorkerMetrics, row)));
        }
        // While an application moves, a worker may have reported in both places.
        reports.sort_by(|a, b| a.worker.cmp(&b.worker).then_with(|| b.updated_s.cmp(&a.updated_s)));
        reports.dedup_by(|later, earlier| later.worker == earlier.worker);
        Ok(reports)
    }

    /// Deletes the report of a worker of which nothing was heard for a day.
    pub(crate) async fn forget(&self, layout: Layout, report: &Report) -> Result<(), Failure> {
        self.tables.delete(layout.reports(), &report.worker, &Condition::Has(&report.as_seen())).await
    }

    /// Notes whether what a leader does was done this time.
    pub(crate) fn led(&self, done: bool) {
        if done {
            self.failed_rounds.store(0, Ordering::Relaxed);
        } else {
            self.failed_rounds.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Epoch seconds.
    pub(crate) fn now_s(&self) -> u64 {
        u64::try_from(self.clock.now().as_second()).unwrap_or(0)
    }

    async fn report(&self, layout: Layout) -> Result<(), Failure> {
        let home = layout.reports();
        self.tables.set(home, &self.me, report::attributes(home, self.now_s()), None).await?;
        Ok(())
    }
}

/// The task that keeps a worker's standing until the worker drains.
#[derive(Debug)]
pub(crate) struct Keeper {
    coordinator: Coordinator,
    standing: watch::Sender<Standing>,
    lock: LeaderLock,
    /// Until then another one may lead.
    resigned_until: Option<Instant>,
}

impl Keeper {
    /// With what it says from then on, which is `standing` to begin with.
    pub(crate) fn new(coordinator: Coordinator, standing: Standing) -> (Self, watch::Receiver<Standing>) {
        let lock = lock(&coordinator, standing.layout.lock());
        let (standing, said) = watch::channel(standing);
        (Self { coordinator, standing, lock, resigned_until: None }, said)
    }

    /// Until `drain` is cancelled; then nobody assigns leases to this worker any more, and another may lead at once.
    pub(crate) async fn run(mut self, drain: CancellationToken) {
        let every = |period| {
            let mut ticks = interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        // A call that hangs must not keep the next ones waiting.
        let call_max = self.coordinator.failover / 2;
        let (mut reports, mut beats, mut polls) = (every(REPORT_PERIOD), every(call_max), every(POLL_PERIOD));
        polls.reset();
        let mut told = BTreeMap::new();
        loop {
            let standing = *self.standing.borrow();
            // In this order: who is not known to be alive should not lead.
            let step = tokio::select! {
                biased;
                () = drain.cancelled() => break,
                _ = reports.tick(), if standing.reports() => Step::Report,
                _ = beats.tick(), if standing.assigns() => Step::Beat,
                _ = polls.tick() => Step::Poll,
            };
            let stepping = async {
                let late = |_| Err(Failure::transient(format!("no answer within {call_max:?}")));
                timeout(call_max, self.step(step, standing)).await.unwrap_or_else(late)
            };
            if let Some(Err(failure)) = drain.run_until_cancelled(stepping).await {
                if told.get(&step).is_some_and(|at: &Instant| at.elapsed() < POLL_PERIOD) {
                    debug!(%failure, ?step, "coordination not kept up; trying again");
                } else {
                    told.insert(step, Instant::now());
                    warn!(%failure, ?step, "coordination not kept up; trying again");
                }
                if step == Step::Poll {
                    // A whole period is long for who takes leases that others divide in another way by now.
                    polls.reset_after(call_max);
                }
            }
            self.publish(|standing, leads| {
                if !leads && standing.role == Role::Leader {
                    standing.role = Role::Follower;
                }
            });
        }
        let standing = *self.standing.borrow();
        let _left = timeout(CALL_MAX, self.leave(standing)).await;
    }

    async fn step(&mut self, step: Step, standing: Standing) -> Result<(), Failure> {
        match step {
            Step::Report => self.coordinator.report(standing.layout).await,
            Step::Beat => self.beat(standing).await,
            Step::Poll => self.poll(standing).await,
        }
    }

    async fn beat(&mut self, before: Standing) -> Result<(), Failure> {
        if self.lock.is_mine() && self.coordinator.failed_rounds.load(Ordering::Relaxed) >= FAILED_ROUNDS_MAX {
            return self.resign(before).await;
        }
        if self.resigned_until.is_some_and(|until| Instant::now() < until) {
            return Ok(());
        }
        let role = self.lock.beat().await?;
        if role != before.role {
            info!(?role, before = ?before.role, "another part in the assignment of leases");
        }
        self.publish(|standing, _| standing.role = role);
        Ok(())
    }

    /// A leader that cannot assign leases keeps them from everybody while it keeps the lock.
    async fn resign(&mut self, before: Standing) -> Result<(), Failure> {
        warn!("leases could not be assigned; letting another worker lead");
        self.coordinator.led(true);
        self.resigned_until = Some(Instant::now() + self.coordinator.failover * 2);
        self.publish(|standing, _| standing.role = Role::Follower);
        let lock = lock(&self.coordinator, before.layout.lock());
        std::mem::replace(&mut self.lock, lock).release().await
    }

    async fn poll(&mut self, before: Standing) -> Result<(), Failure> {
        let migration = self.coordinator.tables.migration().await?;
        if migration == Found::Denied && before.layout != Layout::One {
            let table = self.coordinator.tables.name(Home::Coordinator);
            return Err(Failure::configuration(format!("cannot read table {table} any more; grant GetItem on it")));
        }
        let read = self.coordinator.read(&migration).await?;
        let now = Standing { role: before.role, ..read };
        if now == before {
            return Ok(());
        }
        info!(?before, ?now, "the leases are divided in another way now");
        let lock_home = now.layout.lock();
        let keeps_lock = now.assigns() && lock_home == self.lock.home();
        let role = if keeps_lock && self.lock.is_mine() { Role::Leader } else { Role::Follower };
        // First: what is left behind below is over by itself.
        self.publish(|standing, _| *standing = Standing { role, ..now });
        if !keeps_lock {
            let left = std::mem::replace(&mut self.lock, lock(&self.coordinator, lock_home));
            left.release().await?;
        }
        if before.reports() && !now.reports() {
            self.withdraw(before).await?;
        }
        Ok(())
    }

    fn publish(&self, change: impl FnOnce(&mut Standing, bool)) {
        let leads = self.lock.is_mine();
        self.standing.send_if_modified(|standing| {
            let before = *standing;
            change(standing, leads);
            *standing != before
        });
    }

    /// Takes this worker's report back.
    async fn withdraw(&self, standing: Standing) -> Result<(), Failure> {
        let coordinator = &self.coordinator;
        coordinator.tables.delete(standing.layout.reports(), &coordinator.me, &Condition::Has(&[])).await
    }

    async fn leave(self, standing: Standing) {
        if standing.reports()
            && let Err(failure) = self.withdraw(standing).await
        {
            warn!(%failure, "the report stays for a minute");
        }
        if let Err(failure) = self.lock.release().await {
            warn!(%failure, "the leader's lock stays until it is over");
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Report,
    Beat,
    Poll,
}

/// Shorter than KCL's two minutes. That is legal: whoever waits for a lock to be over goes by what its row says.
fn lock(coordinator: &Coordinator, home: Home) -> LeaderLock {
    LeaderLock::new(coordinator.tables.clone(), home, coordinator.me.clone(), coordinator.failover * 2)
}
