//! Names of objects: a template, and what of it each record decides.
//!
//! ```text
//! partition(record) = the template with its fields and times filled in      // records of one partition share an object
//! partition.key(window, count) = PREFIX / the same with everything filled in
//! ```

mod field;
mod template;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt::Write as _;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use self::template::{Part, Time};
use super::contents::Origin;
use crate::event_time::EventTime;
use crate::position_text::{POSITION_BYTES, position_text};
use crate::{Error, FieldPath, Location};

/// S3 takes no longer key.
const KEY_BYTES_MAX: usize = 1024;
/// No common file system takes a longer name.
const NAME_BYTES_MAX: usize = 255;
/// What may stand behind a key: `-replay` with a number of two digits, and an extension.
const BEHIND_BYTES_MAX: usize = "-replay-99.delimited.zst".len();
/// What the files beside an object have in their names, more than that: `..NAME.json#100`.
const BESIDE_BYTES_MAX: usize = "...json#100".len();
/// Kinesis' ids of shards: `shardId-` and 12 digits.
const SHARD_BYTES: usize = 20;
/// A value that is longer, as it stands in a key, counts as unknown.
const VALUE_BYTES_MAX: usize = 200;
/// Where the records go that [`LateTo::Late`] sends away.
const LATE: &str = "late";

/// How objects are named when nothing else is said.
const TEMPLATE: &str = "{stream}/{shard}/{first}-{last}";
/// What Hive calls the partition of a null.
const UNKNOWN: &str = "__HIVE_DEFAULT_PARTITION__";

/// How the objects of a sink are named, as text. [`KeyTemplate::new`] checks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySettings {
    /// The key below the sink's prefix, without the extension: text, and in braces `stream`, `shard`, `first`, `last`,
    /// `count`, `arrival:FORMAT`, `event:FORMAT`, or a field of the record such as `.user.id`.
    pub template: String,
    /// The time zone of its times, by its IANA name.
    pub time_zone: String,
    /// Where a record's own time stands.
    pub event_time: Option<EventTime>,
    /// What becomes of a record whose own time is far from its arrival.
    pub late: Option<Late>,
    /// What stands for a field that is missing, null, empty, no scalar, or longer than 200 bytes.
    pub unknown: String,
}

impl Default for KeySettings {
    fn default() -> Self {
        Self {
            template: TEMPLATE.into(),
            time_zone: "UTC".into(),
            event_time: None,
            late: None,
            unknown: UNKNOWN.into(),
        }
    }
}

/// What becomes of a record whose own time is far from its arrival, in either direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Late {
    /// How far is far.
    pub after: SignedDuration,
    /// Where it goes.
    pub to: LateTo,
}

/// Where a late record goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LateTo {
    /// To where its own time says, below `late/`.
    #[default]
    Late,
    /// To where its arrival says, as if it had no time of its own.
    Arrival,
}

/// What a record decides of its object.
pub(super) struct Divided {
    pub(super) partition: String,
    /// Whether the record's own time was read.
    pub(super) has_own_time: bool,
    /// Fields of the key that count as unknown, by number.
    pub(super) unknown: Vec<usize>,
}

/// A checked [`KeySettings`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyTemplate {
    parts: Vec<Part>,
    /// The fields that `parts` counts, and behind them that of the event time.
    fields: Vec<FieldPath>,
    settings: KeySettings,
    time_zone: TimeZone,
    /// Whether each name in it is one of a file system.
    in_directory: bool,
}

// The records of one object have their partition in common: its key below the prefix, in which a control character stands for
// each part that the window decides. So two records that would be given one key share it, however their fields make it up.
// No value and no text of a template has a control character.
const STREAM: char = '\u{1}';
const SHARD: char = '\u{2}';
const FIRST: char = '\u{3}';
const LAST: char = '\u{4}';
const COUNT: char = '\u{5}';

/// The key of the partition's object that holds `count` items of the window. It depends on nothing else: not on the items still
/// to be sent, nor on the attempt.
pub(super) fn of_object(partition: &str, prefix: &str, origin: Origin<'_>, count: usize) -> String {
    let mut key = prefix.to_owned();
    if !key.is_empty() {
        key.push('/');
    }
    for char in partition.chars() {
        match char {
            STREAM => key.push_str(&escaped(origin.stream.as_str())),
            SHARD => key.push_str(&escaped(origin.shard.as_str())),
            FIRST => key.push_str(&position_text(origin.first)),
            LAST => key.push_str(&position_text(origin.last)),
            COUNT => key.push_str(&count.to_string()),
            text => key.push(text),
        }
    }
    key
}

impl Default for KeyTemplate {
    /// `{stream}/{shard}/{first}-{last}`.
    fn default() -> Self {
        let text = |text: &str| Part::Text(text.into());
        let parts = vec![Part::Stream, text("/"), Part::Shard, text("/"), Part::First, text("-"), Part::Last];
        Self {
            parts,
            fields: Vec::new(),
            settings: KeySettings::default(),
            time_zone: TimeZone::UTC,
            in_directory: false,
        }
    }
}

impl KeyTemplate {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Key`] names the setting, and says what it lacks.
    pub fn new(settings: KeySettings) -> Result<Self, Error> {
        let refuse = |setting, why: String| Err(Error::Key { setting, why });
        let Ok(time_zone) = TimeZone::get(&settings.time_zone) else {
            return refuse("time_zone", "it is no time zone: write one such as \"Europe/Berlin\"".into());
        };
        let (parts, mut fields) = match template::parse(&settings.template, &time_zone) {
            Ok(parsed) => parsed,
            Err(why) => return refuse("key", why),
        };
        let has_event = parts.iter().any(|part| matches!(part, Part::Time(Time::Event, _)));
        match &settings.event_time {
            None if has_event => {
                return refuse("key", "it has {event:...}: say with `event_time` which field that is".into());
            }
            Some(_) if !has_event => {
                return refuse("event_time", "no {event:...} in `key` asks for it: leave it out, or write one".into());
            }
            _ => {}
        }
        if settings.late.is_some() && settings.event_time.is_none() {
            return refuse("late", "it compares `event_time` with the arrival: set that too".into());
        }
        if settings.unknown.is_empty() || escaped(&settings.unknown) != settings.unknown {
            return refuse("unknown", "it is a value of a key: write letters, digits, `_`, `-`".into());
        }
        fields.extend(settings.event_time.iter().map(|event_time| event_time.field.clone()));
        Ok(Self { parts, fields, settings, time_zone, in_directory: false })
    }

    /// Whether query engines skip the objects, by what the template itself says.
    #[must_use]
    pub fn is_skipped(&self) -> bool {
        template::is_skipped(&self.parts)
    }

    /// The same for objects in that place, if they have room there. In a directory, a record whose fields make a name too long
    /// counts as one without them.
    ///
    /// # Errors
    /// [`Error::Key`] says what is too long, and what to do.
    pub fn placed(mut self, location: &Location) -> Result<Self, Error> {
        let refuse = |why| Err(Error::Key { setting: "key", why });
        let Location::Bucket { prefix, .. } = location else {
            self.in_directory = true;
            return match too_long(&self.partition(&[], Timestamp::UNIX_EPOCH), 1) {
                Some((bytes, most)) => refuse(format!(
                    "a name in the directory would have {bytes} bytes or more without any field, and {most} have room: divide it by \
                     slashes, or leave something out"
                )),
                None => Ok(self),
            };
        };
        let bytes = prefix.len() + 1 + template::longest(&self.parts, &self.time_zone) + BEHIND_BYTES_MAX;
        if bytes > KEY_BYTES_MAX {
            return refuse(format!(
                "an object's key could have {bytes} bytes, of which the prefix in `url` has {}, and S3 takes {KEY_BYTES_MAX}: shorten \
                 the prefix, or leave something out",
                prefix.len()
            ));
        }
        Ok(self)
    }

    /// What was checked.
    #[must_use]
    pub fn settings(&self) -> &KeySettings {
        &self.settings
    }

    /// Whether a record's content decides something, so that it has to be read.
    pub(super) fn reads_records(&self) -> bool {
        !self.fields.is_empty()
    }

    /// The record's fields that stand in it.
    pub(super) fn fields(&self) -> &[FieldPath] {
        match (&self.settings.event_time, self.fields.split_last()) {
            (Some(_), Some((_, fields))) => fields,
            _ => &self.fields,
        }
    }

    /// Whether all records of a window share one object.
    pub(super) fn is_one_partition(&self) -> bool {
        !self.parts.iter().any(|part| matches!(part, Part::Field(_) | Part::Time(..)))
    }

    /// The one partition of a window that is not divided.
    pub(super) fn undivided(&self) -> Option<String> {
        self.is_one_partition().then(|| self.partition(&[], Timestamp::UNIX_EPOCH))
    }

    /// The partition that an output belongs to, made of a record of that arrival.
    pub(super) fn partition(&self, value: &[u8], arrival: Timestamp) -> String {
        self.divided(value, arrival).partition
    }

    /// The same, and what of the record it was made of.
    pub(super) fn divided(&self, value: &[u8], arrival: Timestamp) -> Divided {
        let found = if self.reads_records() { field::find(value, &self.fields) } else { Vec::new() };
        let own = self.settings.event_time.as_ref().and_then(|event_time| {
            let text = field::scalar((*found.last()?)?)?;
            event_time.read(&text, &self.time_zone)
        });
        let (event, is_late) = self.judge(own, arrival);
        let (mut partition, mut unknown) = self.filled(&found, arrival, event, is_late);
        if self.in_directory && too_long(&partition, template::STREAM_BYTES_MAX).is_some() {
            (partition, unknown) = self.filled(&[], arrival, event, is_late);
        }
        Divided { partition, has_own_time: own.is_some(), unknown }
    }

    /// The partition of a record with these fields and times, and which of the fields count as unknown.
    fn filled(
        &self,
        found: &[Option<&RawValue>],
        arrival: Timestamp,
        event: Timestamp,
        is_late: bool,
    ) -> (String, Vec<usize>) {
        let (mut key, mut unknown) = (String::new(), Vec::new());
        if is_late {
            key.push_str(LATE);
            key.push('/');
        }
        for part in &self.parts {
            match part {
                Part::Text(text) => key.push_str(text),
                Part::Field(index) => {
                    let value = found.get(*index).copied().flatten().and_then(field::scalar);
                    if !self.push_value(&mut key, value.as_deref()) {
                        unknown.push(*index);
                    }
                }
                Part::Time(time, format) => {
                    let time = match time {
                        Time::Event => event,
                        Time::Arrival => arrival,
                    };
                    let zoned = time.to_zoned(self.time_zone.clone());
                    // A format that cannot be written was refused at the start.
                    let _unwritable = write!(key, "{}", zoned.strftime(format));
                }
                Part::Stream => key.push(STREAM),
                Part::Shard => key.push(SHARD),
                Part::First => key.push(FIRST),
                Part::Last => key.push(LAST),
                Part::Count => key.push(COUNT),
            }
        }
        (key, unknown)
    }

    /// The time that stands for the record's own, and whether the record is sent below `late/`.
    fn judge(&self, own: Option<Timestamp>, arrival: Timestamp) -> (Timestamp, bool) {
        let Some(own) = own else { return (arrival, false) };
        match self.settings.late {
            Some(late) if own.duration_since(arrival).unsigned_abs() > late.after.unsigned_abs() => match late.to {
                LateTo::Arrival => (arrival, false),
                LateTo::Late => (own, true),
            },
            _ => (own, false),
        }
    }

    /// Adds a field's value, or what stands for one that is unknown: then it is false.
    fn push_value(&self, key: &mut String, value: Option<&str>) -> bool {
        let escaped = value.map(escaped).filter(|value| !value.is_empty() && value.len() <= VALUE_BYTES_MAX);
        let Some(value) = escaped else {
            key.push_str(&self.settings.unknown);
            return false;
        };
        let begins_a_name = key.is_empty() || key.ends_with('/');
        match value.strip_prefix(['.', '_']) {
            // Query engines skip names that begin so.
            Some(rest) if begins_a_name => {
                key.push_str(if value.starts_with('.') { "%2E" } else { "%5F" });
                key.push_str(rest);
            }
            _ => key.push_str(&value),
        }
        true
    }
}

/// The bytes of the first name in a partition's key for which a file system has no room, and how many have. A stream's name
/// has so many.
fn too_long(partition: &str, stream_bytes: usize) -> Option<(usize, usize)> {
    let mut names = partition.split('/').peekable();
    while let Some(name) = names.next() {
        let of_char = |char| match char {
            STREAM => stream_bytes,
            SHARD => SHARD_BYTES,
            FIRST | LAST => POSITION_BYTES,
            text => text.len_utf8(),
        };
        let is_file = names.peek().is_none();
        let most = NAME_BYTES_MAX - if is_file { BEHIND_BYTES_MAX + BESIDE_BYTES_MAX } else { 0 };
        let bytes = name.chars().map(of_char).sum();
        if bytes > most {
            return Some((bytes, most));
        }
    }
    None
}

/// A value as part of a key: what a path or Hive gives a meaning stands as `%XX`, as Hive writes it, so that it cannot leave
/// its place and query engines read it back.
fn escaped(value: &str) -> Cow<'_, str> {
    let has_meaning = |char: char| char.is_control() || "\"#%'*/:=?\\{}[]^".contains(char);
    // Two dots, or one, would be a folder.
    let is_dots = !value.is_empty() && value.bytes().all(|byte| byte == b'.');
    if !is_dots && !value.contains(has_meaning) {
        return value.into();
    }
    let mut text = String::with_capacity(value.len() + 16);
    for char in value.chars() {
        if !has_meaning(char) && !is_dots {
            text.push(char);
            continue;
        }
        for byte in char.encode_utf8(&mut [0; 4]).bytes() {
            let _infallible = write!(text, "%{byte:02X}");
        }
    }
    text.into()
}
