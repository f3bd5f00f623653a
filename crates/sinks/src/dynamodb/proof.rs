//! What is known of the table before the first record: nothing in it changes for that.

use kinesink_core::{Class, Failure};

use super::config::{DynamoDbConfig, Guard};
use super::emitter::DynamoDbEmitter;
use super::error::Action;
use super::handle::TableHandle;
use super::pace::share;
use super::probes;
use super::table::{self, Capacity, Expiry, Table};

/// What a start finds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableReport {
    /// The table's key, who pays for writes, what is allowed, by what items expire.
    pub facts: Vec<String>,
    /// What a run goes on with all the same, and what to do about it.
    pub warnings: Vec<String>,
}

impl DynamoDbEmitter {
    /// Describes the table anew, and tries each action that the settings need, by writes whose conditions never hold and a delete of
    /// what is not there.
    ///
    /// # Errors
    /// A [`Failure`] that names the table and what to do; all refused actions at once, with the statements that allow them.
    pub async fn prove(&self) -> Result<TableReport, Failure> {
        let Some(guards) = &self.guards else { return self.items.prove(&actions(&self.config)).await };
        let mut report = self.items.prove(&[]).await?;
        let table = &guards.config.table;
        let of_guards = guards.prove(&[]).await.map_err(|mut failure| {
            let what = format!("; {table} is the table of the guards, which `--create` makes as it has to be");
            failure.message.push_str(&what);
            failure
        })?;
        let told = of_guards.facts.into_iter().map(|fact| format!("of the guards in table {table}: {fact}"));
        report.facts.extend(told);
        report.warnings.extend(of_guards.warnings);
        self.prove_together(guards, &mut report).await?;
        Ok(report)
    }

    /// Whether both are written by one request, as all that is counted is: a policy may allow that alone, or all but that.
    async fn prove_together(&self, guards: &TableHandle, report: &mut TableReport) -> Result<(), Failure> {
        let (table, of_guards) = (self.items.table().await?, guards.table().await?);
        match probes::probe_transaction((&self.config, &table), (&guards.config, &of_guards)).await {
            Ok(()) => report.facts.push(format!(
                "{}, with {} of the guards, may be used in a transaction",
                Action::UpdateItem.name(),
                Action::PutItem.name()
            )),
            Err(failure) if failure.class == Class::Transient => {
                report.warnings.push(format!("whether transactions are allowed is not known yet: {failure}"));
            }
            Err(failure) => return Err(failure),
        }
        Ok(())
    }
}

impl TableHandle {
    async fn prove(&self, actions: &[Action]) -> Result<TableReport, Failure> {
        self.forget();
        let table = self.table().await?;
        let mut report =
            TableReport { facts: vec![format!("its key is {}", table.shown_key())], ..TableReport::default() };
        report.facts.push(paid(table.capacity));
        report.facts.extend(share(&self.config, table.capacity.units()).map(taken));
        report.warnings.extend(too_fast(&self.config, table.capacity));
        let (mut allowed, mut refused) = (vec![Action::DescribeTable.name()], Vec::new());
        for action in actions.iter().copied() {
            match self.try_out(action, &table).await {
                Ok(()) => allowed.push(action.name()),
                // What passes by itself says nothing against the sink, and a write that meets it is sent again.
                Err(failure) if failure.class == Class::Transient => {
                    report.warnings.push(format!("whether {} is allowed is not known yet: {failure}", action.name()));
                }
                Err(failure) => refused.push(failure.message),
            }
        }
        if !refused.is_empty() {
            return Err(Failure::configuration(refused.join("; ")));
        }
        report.facts.push(format!("{} may be used", allowed.join(" and ")));
        if let Some(ttl) = &self.config.ttl {
            self.see_expiry(ttl, &mut report).await;
        }
        Ok(report)
    }

    /// Whether the service takes such a request.
    pub(super) async fn try_out(&self, action: Action, table: &Table) -> Result<(), Failure> {
        match action {
            Action::UpdateItem => probes::probe_update(&self.config, table).await,
            Action::BatchWriteItem => probes::probe_batch(&self.config, &self.traffic.pace, table).await,
            _ => probes::probe_put(&self.config, table).await,
        }
    }

    /// No record needs it, so that what goes wrong here ends no run.
    async fn see_expiry(&self, ttl: &str, report: &mut TableReport) {
        let table = &self.config.table;
        let update = format!(
            "aws dynamodb update-time-to-live --table-name {table} --time-to-live-specification \
             Enabled=true,AttributeName={ttl}"
        );
        match table::expiry(&self.config).await {
            Ok(Expiry::On(attribute)) if attribute == ttl => report.facts.push(format!("items expire by `{ttl}`")),
            Ok(Expiry::On(other)) => report.warnings.push(format!(
                "table {table} expires items by `{other}`, not by `ttl`, which is `{ttl}`: they stay for ever: mend `ttl`, or the table"
            )),
            Ok(Expiry::Off) => report.warnings.push(format!(
                "table {table} expires no items, so that they stay for ever whatever `{ttl}` says: turn that on: {update}"
            )),
            Err(failure) => report.warnings.push(failure.message),
        }
    }
}

/// What a run sends besides questions about the table.
fn actions(config: &DynamoDbConfig) -> Vec<Action> {
    match config.guard {
        Guard::Always if config.changes.is_none() => vec![Action::PutItem],
        Guard::Always if config.delete.is_none() => vec![Action::UpdateItem],
        Guard::Always => vec![Action::UpdateItem, Action::PutItem],
        Guard::Takeover => vec![Action::PutItem, Action::BatchWriteItem],
        Guard::Never => vec![Action::BatchWriteItem],
    }
}

fn taken(units_a_second: f64) -> String {
    format!("this worker takes {units_a_second} write units a second at most")
}

fn paid(capacity: Capacity) -> String {
    match capacity {
        Capacity::Provisioned(units) => format!("it has {units} write units a second"),
        Capacity::PerRequest(None) => "it is paid by the request".into(),
        Capacity::PerRequest(Some(units)) => format!("it is paid by the request, up to {units} write units a second"),
    }
}

/// Where the sink may take more than there is, or a part of what has no end.
fn too_fast(config: &DynamoDbConfig, capacity: Capacity) -> Option<String> {
    let table = &config.table;
    match (config.write_units.map(u64::from), config.max_write_fraction, capacity.units()) {
        (None, Some(fraction), None) => Some(format!(
            "`max_write_fraction` is {fraction}, and table {table} is paid by the request, which has no end that it could be a part of: \
             set `write_units`, or a maximum throughput of the table"
        )),
        (Some(asked), None, Some(units)) if asked > units => Some(format!(
            "`write_units` is {asked}, and table {table} has {units} in a second: lower the one, or raise the other"
        )),
        _ => None,
    }
}
