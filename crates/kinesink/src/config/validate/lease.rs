//! The section `[lease]`.

use std::collections::BTreeMap;
use std::time::Duration;

use kinesink_consumer::{Billing, Coordination, TableOptions};
use toml::Spanned;

use super::{Checks, whole};
use crate::config::raw::{self, RawLease};
use crate::config::structure::not_one_of;
use crate::config::validated::Lease;

const FAILOVER_MIN: Duration = Duration::from_secs(1);
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// What DynamoDB stores it in is far larger; what people read is not.
const WORKER_ID_CHARACTERS_MAX: usize = 256;
/// What [`is_worker_id`] asks for, as a hint.
pub const WORKER_ID: &str = "write 1 to 256 characters, on one line";

/// Whether a worker may be called so.
#[must_use]
pub fn is_worker_id(text: &str) -> bool {
    let is_short = text.chars().count() <= WORKER_ID_CHARACTERS_MAX;
    is_short && !text.trim().is_empty() && !text.chars().any(char::is_control)
}

const TAGS_MAX: usize = 50;
const PAUSE_MIN: Duration = Duration::from_millis(1);

impl Checks {
    pub(super) fn lease(&mut self, raw: &RawLease, app: &str) -> Lease {
        let failover = self.duration("lease.failover", raw.failover.as_ref(), raw::FAILOVER, FAILOVER_MIN);
        let worker_id = raw.worker_id.as_ref().map(|id| self.worker_id(id));
        let table = raw.table.as_ref().map_or_else(|| app.into(), |table| self.table_name("lease.table", table));
        if let Some(given) = raw.max.as_ref().filter(|given| *given.get_ref() == 0) {
            self.refuse("`lease.max` is 0", given.span(), "such a worker reads nothing", "write at least 1");
        }
        let max = raw.max.as_ref().map(|max| whole(*max.get_ref()));
        let max_steals = self.count("lease.max_steals", raw.max_steals.as_ref(), raw::MAX_STEALS, u64::MAX);
        let shard_sync = self.duration("lease.shard_sync", raw.shard_sync.as_ref(), raw::SHARD_SYNC, INTERVAL_MIN);
        let attempts = raw.list_shards_attempts.as_ref();
        let attempts = self.count("lease.list_shards_attempts", attempts, raw::LIST_SHARDS_ATTEMPTS, u32::MAX.into());
        let pause = raw.list_shards_pause.as_ref();
        let pause = self.duration("lease.list_shards_pause", pause, raw::LIST_SHARDS_PAUSE, PAUSE_MIN);
        Lease {
            failover,
            worker_id,
            table,
            max,
            coordination: self.coordination(raw.coordination.as_ref()),
            max_steals: whole(max_steals),
            shard_sync,
            list_shards_attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
            list_shards_pause: pause,
            cleanup: self.cleanup(raw),
            table_options: self.table_options(raw),
        }
    }

    fn worker_id(&mut self, id: &Spanned<String>) -> String {
        let text = id.get_ref();
        if !is_worker_id(text) {
            self.refuse("`lease.worker_id` cannot be used", id.span(), "not a worker's name", WORKER_ID);
        }
        text.clone()
    }

    /// As DynamoDB takes them.
    fn tags(&mut self, raw: Option<&Spanned<BTreeMap<String, String>>>) -> BTreeMap<String, String> {
        let Some(given) = raw else { return BTreeMap::new() };
        let tags = given.get_ref();
        let is_tag = |(key, value): (&String, &String)| {
            (1..=128).contains(&key.chars().count())
                && value.chars().count() <= 256
                && !key.to_lowercase().starts_with("aws:")
        };
        if tags.len() > TAGS_MAX || !tags.iter().all(is_tag) {
            let hint = format!(
                "at most {TAGS_MAX}; a key has 1 to 128 characters and does not begin with `aws:`, a value has at most 256"
            );
            self.refuse("`lease.tags` cannot be used", given.span(), "not tags of a table", hint);
        }
        tags.clone()
    }

    fn coordination(&mut self, raw: Option<&Spanned<String>>) -> Coordination {
        match raw.map(|coordination| (coordination.get_ref().as_str(), coordination.span())) {
            None | Some((raw::COORDINATION, _)) => Coordination::Auto,
            Some((raw::KCL3, _)) => Coordination::Kcl3,
            Some((other, span)) => {
                let allowed = [raw::COORDINATION, raw::KCL3];
                self.mistakes.push(not_one_of("lease.coordination", other, &allowed, span));
                Coordination::Auto
            }
        }
    }

    fn cleanup(&mut self, raw: &RawLease) -> Option<Duration> {
        let given = raw.cleanup_interval.as_ref();
        let interval = self.duration("lease.cleanup_interval", given, raw::CLEANUP_INTERVAL, INTERVAL_MIN);
        if raw.cleanup.unwrap_or(true) {
            return Some(interval);
        }
        if let Some(given) = given {
            let what = "`lease.cleanup_interval` means nothing without cleanup";
            self.refuse(what, given.span(), "contradicts `cleanup`", "leave it out, or write `cleanup = true`");
        }
        None
    }

    fn table_options(&mut self, raw: &RawLease) -> TableOptions {
        let capacities = [("read_capacity", &raw.read_capacity), ("write_capacity", &raw.write_capacity)];
        let [read, write] = capacities.map(|(key, given)| {
            if let (raw::Billing::PayPerRequest, Some(given)) = (raw.billing, given) {
                let what = format!("`lease.{key}` means nothing for a table that is paid by the request");
                let hint = "leave it out, or write `billing = \"provisioned\"`";
                self.refuse(what, given.span(), "contradicts `billing`", hint);
            }
            let units = self.count(&format!("lease.{key}"), given.as_ref(), raw::CAPACITY, u32::MAX.into());
            u32::try_from(units).unwrap_or(u32::MAX)
        });
        TableOptions {
            billing: match raw.billing {
                raw::Billing::PayPerRequest => Billing::PerRequest,
                raw::Billing::Provisioned => Billing::Provisioned { read, write },
            },
            deletion_protection: raw.deletion_protection,
            point_in_time_recovery: raw.point_in_time_recovery,
            tags: self.tags(raw.tags.as_ref()),
        }
    }
}
