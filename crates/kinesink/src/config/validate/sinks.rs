//! The sections `[[sink]]` and `[dead_letter]`.

use std::collections::HashMap;
use std::ops::Range;
use std::str::FromStr as _;
use std::time::Duration;

use jiff::SignedDuration;
use kinesink_aws::{BucketOptions, Error as AwsError};
use kinesink_pipeline::DEAD_LETTERS;
use kinesink_sinks::s3::{BucketSettings, KeySettings, KeyTemplate, Late};
use kinesink_sinks::{Error as SinkError, EventTime, FieldPath, Location, TimeFormat};
use toml::Spanned;

use super::Checks;
use super::tables::no_name;
use crate::config::error::Mistake;
use crate::config::raw::{self, RawDeadLetter, RawDestination, RawEventTime, RawLate, RawSink};
use crate::config::validated::{DeadLetter, Sink, Source, TableSink};

/// Records arrive later than they happen.
const AFTER_MIN: Duration = Duration::from_secs(1);

impl Checks {
    /// Those of objects, and those that are tables.
    pub(super) fn sinks(
        &mut self,
        raw: &[Spanned<RawDestination>],
        source: Option<&Source>,
    ) -> (Vec<Sink>, Vec<TableSink>) {
        if raw.is_empty() {
            let hint = "add `[[sink]]` and below it `type = \"s3\"` and `url = \"...\"`";
            self.refuse("there is no sink", 0..0, "the file starts here", hint);
        }
        let mut names = HashMap::new();
        let mut sinks: Vec<Sink> = Vec::new();
        let mut tables: Vec<TableSink> = Vec::new();
        for (index, spanned) in raw.iter().enumerate() {
            let (sink, raw) = match spanned.get_ref() {
                RawDestination::S3(raw) => (self.sink(raw, source), raw),
                RawDestination::DynamoDb(raw) => {
                    let Some(table) = self.table_sink(raw, source) else { continue };
                    if names.insert(table.name.clone(), index).is_some() {
                        self.second_of_a_name(&table.name, spanned.span());
                    }
                    let is_same = |other: &&TableSink| (&other.table, &other.reached) == (&table.table, &table.reached);
                    if tables.iter().find(is_same).is_some() {
                        let what = format!("two sinks write to table {}", table.table);
                        self.refuse(
                            what,
                            raw.table.span(),
                            "the second",
                            "each would take the other's items for its own",
                        );
                    }
                    tables.push(table);
                    continue;
                }
            };
            let Some(sink) = sink else {
                continue;
            };
            if names.insert(sink.name.clone(), index).is_some() {
                self.second_of_a_name(&sink.name, spanned.span());
            }
            if let Some(other) = sinks.iter().find(|other| other.url.overlaps(&sink.url)) {
                let what = match other.url == sink.url {
                    true => format!("two sinks write to {}", sink.url),
                    false => {
                        format!("a sink writes to {} and another to {}, one inside the other", other.url, sink.url)
                    }
                };
                self.refuse(what, raw.url.span(), "the second", "give each a prefix or directory of its own");
            }
            sinks.push(sink);
        }
        (sinks, tables)
    }

    fn second_of_a_name(&mut self, name: &str, span: Range<usize>) {
        self.refuse(format!("two sinks have the name `{name}`"), span, "the second", "add a `name` of its own");
    }

    /// The sink's own, or its type.
    pub(super) fn sink_name(&mut self, given: Option<&Spanned<String>>, kind: &str) -> String {
        let name = given.map_or_else(|| kind.into(), |name| self.not_empty("sink.name", name));
        if let Some(given) = given.filter(|_| name == DEAD_LETTERS) {
            let hint = "logs and metrics call the dead letters so; write another";
            self.refuse("`sink.name` is that of the dead letters", given.span(), "taken", hint);
        }
        let no_name = no_name(&name).or(name.contains('/').then_some("it has a slash"));
        if let (Some(given), Some(why)) = (given, no_name) {
            let hint =
                format!("{why}: it stands in logs, metrics, dead letters and paths, so write one such as \"orders\"");
            self.refuse(format!("`sink.name` cannot be {name:?}"), given.span(), "not a name", hint);
        }
        name
    }

    fn sink(&mut self, raw: &RawSink, source: Option<&Source>) -> Option<Sink> {
        let url = self.location("sink.url", &raw.url);
        let name = self.sink_name(raw.name.as_ref(), "s3");
        if matches!(url, Some(Location::Directory(_))) {
            self.not_of_a_directory(raw);
        }
        let key = self.key(raw, url.as_ref());
        let (reached, bucket) = (self.reached(raw, source), self.bucket(raw));
        let compression = self.compression(raw);
        let columns = self.columns(raw);
        let file = self.file(raw);
        Some(Sink {
            name,
            url: url?,
            format: raw.format,
            compression,
            columns: columns.ok()?,
            file,
            key: key?,
            reached,
            bucket,
        })
    }

    fn not_of_a_directory(&mut self, raw: &RawSink) {
        let texts = [
            ("endpoint", &raw.endpoint),
            ("region", &raw.region),
            ("role", &raw.role),
            ("external_id", &raw.external_id),
            ("kms_key", &raw.kms_key),
            ("storage_class", &raw.storage_class),
            ("owner", &raw.owner),
        ];
        let given = texts.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?.span())));
        let path_style = raw.path_style.as_ref().map(|value| ("path_style", value.span()));
        for (key, span) in given.chain(path_style) {
            let what = format!("`sink.{key}` means nothing for a directory");
            self.refuse(what, span, "contradicts `url`", "leave it out, or write an s3:// url");
        }
    }

    /// How the sink's bucket is reached.
    fn reached(&mut self, raw: &RawSink, source: Option<&Source>) -> BucketOptions {
        let endpoint = raw.endpoint.as_ref().map(|endpoint| self.endpoint("S3", endpoint));
        let own = raw.region.as_ref().map(|region| self.region("sink.region", region));
        let region = own.or_else(|| source.and_then(|source| source.region.clone()));
        let (role, external_id) = self.role(raw.role.as_ref(), raw.external_id.as_ref());
        let path_style = raw.path_style.as_ref().map(|given| *given.get_ref());
        BucketOptions { region, endpoint, path_style, role, external_id }
    }

    /// Who writes, and what its owner wants to be told.
    pub(super) fn role(
        &mut self,
        role: Option<&Spanned<String>>,
        external_id: Option<&Spanned<String>>,
    ) -> (Option<String>, Option<String>) {
        if let Some(given) = external_id.filter(|_| role.is_none()) {
            let hint = "add `role`, or leave it out";
            self.refuse("`sink.external_id` means nothing without `role`", given.span(), "for a role", hint);
        }
        let role = role.map(|role| {
            let text = role.get_ref();
            if !(text.starts_with("arn:") && text.contains(":role/")) {
                let what = format!("`sink.role` cannot be {text:?}");
                let hint = "write its ARN, as in \"arn:aws:iam::123456789012:role/name\"";
                self.refuse(what, role.span(), "not a role's ARN", hint);
            }
            text.clone()
        });
        (role, external_id.map(|id| self.not_empty("sink.external_id", id)))
    }

    pub(super) fn endpoint(&mut self, service: &str, endpoint: &Spanned<String>) -> String {
        if let Err(error) = kinesink_aws::check_endpoint(service, endpoint.get_ref()) {
            let what = "`sink.endpoint` cannot be used";
            let hint = match error {
                AwsError::Endpoint { why, .. } => format!("{why}; write it as \"https://host:port\""),
                other => other.to_string(),
            };
            let mistake = Mistake::new(what, endpoint.span(), "not an endpoint").hint(hint);
            let has_password = endpoint.get_ref().contains('@');
            self.mistakes.push(if has_password { mistake.hiding_values() } else { mistake });
        }
        endpoint.get_ref().clone()
    }

    /// How the sink's bucket keeps objects.
    fn bucket(&mut self, raw: &RawSink) -> BucketSettings {
        let mut settings = BucketSettings::default();
        settings.kms_key = raw.kms_key.as_ref().map(|key| self.not_empty("sink.kms_key", key));
        settings.storage_class = raw.storage_class.as_ref().map(|class| {
            let is_one = class.get_ref().bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
            if !is_one || class.get_ref().is_empty() {
                let what = format!("`sink.storage_class` cannot be {:?}", class.get_ref());
                self.refuse(what, class.span(), "not a storage class", "write one such as \"STANDARD_IA\"");
            }
            class.get_ref().clone()
        });
        settings.owner = raw.owner.as_ref().map(|owner| {
            let text = owner.get_ref();
            if text.len() != 12 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
                let what = format!("`sink.owner` cannot be {text:?}");
                self.refuse(what, owner.span(), "not an account", "write the account's 12 digits, in quotes");
            }
            text.clone()
        });
        settings
    }

    /// How the sink's objects are named.
    fn key(&mut self, raw: &RawSink, url: Option<&Location>) -> Option<KeyTemplate> {
        let text = |given: &Option<Spanned<String>>, usual: &str| {
            given.as_ref().map_or_else(|| usual.to_owned(), |given| given.get_ref().clone())
        };
        let mistakes = self.mistakes.len();
        let settings = KeySettings {
            template: text(&raw.key, raw::KEY),
            time_zone: text(&raw.time_zone, raw::TIME_ZONE),
            event_time: raw.event_time.as_ref().and_then(|given| self.event_time("sink.event_time", given.get_ref())),
            late: raw.late.as_ref().and_then(|given| self.late(given.get_ref())),
            unknown: text(&raw.unknown, raw::UNKNOWN),
        };
        if self.mistakes.len() > mistakes {
            return None;
        }
        let template = KeyTemplate::new(settings);
        let room = |template: &KeyTemplate| url.map_or(Ok(()), |url| template.clone().placed(url).map(drop));
        match template.and_then(|template| room(&template).map(|()| template)) {
            Ok(template) => {
                if let Some(given) = raw.key.as_ref().filter(|_| template.is_skipped()) {
                    let what = "`sink.key` makes names that begin with `.` or `_`";
                    let hint = "Spark, Hive and Athena skip those: begin no folder and no file so; where a folder is meant to be called \
                                that, put it into `url`";
                    self.refuse(what, given.span(), "skipped by query engines", hint);
                }
                Some(template)
            }
            Err(error) => {
                let (setting, why) = match error {
                    SinkError::Key { setting, why } => (setting, why),
                    other => ("key", other.to_string()),
                };
                let given = |span: Option<&Spanned<String>>| span.map(Spanned::span);
                let span = match setting {
                    "time_zone" => given(raw.time_zone.as_ref()),
                    "event_time" => raw.event_time.as_ref().map(Spanned::span),
                    "late" => raw.late.as_ref().map(Spanned::span),
                    "unknown" => given(raw.unknown.as_ref()),
                    _ => given(raw.key.as_ref()),
                };
                let what = format!("`sink.{setting}` cannot be used");
                self.refuse(what, span.unwrap_or_default(), "this value", why);
                None
            }
        }
    }

    /// Of the table `key`.
    pub(super) fn event_time(&mut self, key: &str, raw: &RawEventTime) -> Option<EventTime> {
        let field = FieldPath::from_str(raw.field.get_ref());
        if let Err(why) = &field {
            self.refuse(format!("`{key}.field` cannot be used"), raw.field.span(), "not a field", why);
        }
        let text = raw.format.as_ref().map_or(raw::TIME_FORMAT, |format| format.get_ref());
        let format = TimeFormat::from_str(text);
        if let (Err(why), Some(given)) = (&format, &raw.format) {
            self.refuse(format!("`{key}.format` cannot be used"), given.span(), "not a format", why);
        }
        Some(EventTime { field: field.ok()?, format: format.ok()? })
    }

    fn late(&mut self, raw: &RawLate) -> Option<Late> {
        let after = self.duration("sink.late.after", Some(&raw.after), "", AFTER_MIN);
        Some(Late { after: SignedDuration::try_from(after).ok()?, to: raw.to })
    }

    pub(super) fn dead_letter(
        &mut self,
        raw: &RawDeadLetter,
        sinks: &[Sink],
        source: Option<&Source>,
    ) -> Option<DeadLetter> {
        let url = self.location("dead_letter.url", &raw.url)?;
        if let Some(sink) = sinks.iter().find(|sink| sink.url.overlaps(&url)) {
            let what = match sink.url == url {
                true => "`dead_letter.url` is that of a sink".to_owned(),
                false => format!("`dead_letter.url` and the sink at {} stand one inside the other", sink.url),
            };
            let hint = "write one beside it, as \"s3://my-bucket/dead\" is beside \"s3://my-bucket/orders\"";
            self.refuse(what, raw.url.span(), "refused records would mix with delivered ones", hint);
        }
        let region = source.and_then(|source| source.region.clone());
        Some(DeadLetter { url, reached: BucketOptions { region, ..BucketOptions::default() } })
    }

    fn location(&mut self, key: &str, url: &Spanned<String>) -> Option<Location> {
        match Location::from_str(url.get_ref()) {
            Ok(location) => Some(location),
            Err(error) => {
                let why = match error {
                    SinkError::Url { why, .. } => why,
                    other => other.to_string(),
                };
                self.refuse(format!("`{key}` cannot be {:?}", url.get_ref()), url.span(), "not a place", why);
                None
            }
        }
    }
}
