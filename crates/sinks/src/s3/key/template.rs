//! A template's text to its parts.

use jiff::Timestamp;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;

use super::{KEY_BYTES_MAX, LATE, VALUE_BYTES_MAX};
use crate::FieldPath;
use crate::position_text::POSITION_BYTES;

/// A stream's name has at most so many bytes; so has a shard's id.
pub(super) const STREAM_BYTES_MAX: usize = 128;
/// A sink's prefix and an extension have to fit beside the template; where the prefix is known, it is counted.
const PREFIX_BYTES_MAX: usize = 256;
/// A number of items.
const COUNT_BYTES_MAX: usize = 20;
/// Some format's result may be longer on another day, such as a month's name.
const TIME_BYTES_EXTRA: usize = 16;

/// A piece of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    /// The field with that index.
    Field(usize),
    Time(Time, String),
    Stream,
    Shard,
    First,
    Last,
    Count,
}

/// Which of a record's times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Time {
    Arrival,
    Event,
}

/// The parts, and the fields that they count.
///
/// # Errors
/// What is wrong, and what to write.
pub(super) fn parse(template: &str, time_zone: &TimeZone) -> Result<(Vec<Part>, Vec<FieldPath>), String> {
    let (mut parts, mut fields) = (Vec::new(), Vec::new());
    let mut rest = template;
    while !rest.is_empty() {
        let text = rest.find(['{', '}']).unwrap_or(rest.len());
        let (before, from) = rest.split_at(text);
        if !before.is_empty() {
            parts.push(Part::Text(before.into()));
        }
        if from.is_empty() {
            break;
        }
        let inner = from.strip_prefix('{').ok_or("a `}` has no `{` before it")?;
        let end = closing(inner).ok_or("a `{` has no `}` behind it")?;
        let (name, behind) = inner.split_at(end);
        parts.push(part(name, &mut fields, time_zone)?);
        rest = behind.get(1..).unwrap_or_default();
    }
    if !parts.contains(&Part::First) {
        return Err("it lacks {first}, without which two windows would have one name".into());
    }
    check_text(&parts)?;
    check_counts(&parts)?;
    let longest = longest(&parts, time_zone) + PREFIX_BYTES_MAX;
    if longest > KEY_BYTES_MAX {
        return Err(format!(
            "a key could have {longest} bytes with a prefix of {PREFIX_BYTES_MAX} and each field of {VALUE_BYTES_MAX}, and S3 takes \
             {KEY_BYTES_MAX}: leave fields out"
        ));
    }
    Ok((parts, fields))
}

/// Where the brace is that closes, which one in quotes does not.
fn closing(inner: &str) -> Option<usize> {
    let (mut in_quotes, mut escaped) = (false, false);
    for (at, char) in inner.char_indices() {
        match char {
            '}' if !in_quotes => return Some(at),
            '"' if !escaped => in_quotes = !in_quotes,
            _ => {}
        }
        escaped = char == '\\' && !escaped;
    }
    None
}

fn part(name: &str, fields: &mut Vec<FieldPath>, time_zone: &TimeZone) -> Result<Part, String> {
    if name.starts_with('.') {
        let path: FieldPath = name.parse()?;
        let known = fields.iter().position(|field| *field == path);
        let index = known.unwrap_or_else(|| {
            fields.push(path);
            fields.len() - 1
        });
        return Ok(Part::Field(index));
    }
    if let Some((time, format)) = name.split_once(':') {
        let time = match time {
            "arrival" => Time::Arrival,
            "event" => Time::Event,
            _ => return Err(format!("{{{name}}} is neither {{arrival:FORMAT}} nor {{event:FORMAT}}")),
        };
        written(format, time_zone).ok_or_else(|| {
            format!("{{{name}}} has no usable format: write one such as %Y-%m-%d, without `.` or `..` between slashes")
        })?;
        return Ok(Part::Time(time, format.into()));
    }
    match name {
        "stream" => Ok(Part::Stream),
        "shard" => Ok(Part::Shard),
        "first" => Ok(Part::First),
        "last" => Ok(Part::Last),
        "count" => Ok(Part::Count),
        "arrival" | "event" => Err(format!("{{{name}}} lacks a format: write {{{name}:%Y-%m-%d}}")),
        _ => Err(format!(
            "it does not know {{{name}}}: a field of the record is written {{.{name}}}; else there are stream, shard, first, last, \
             count, arrival:FORMAT and event:FORMAT"
        )),
    }
}

/// A time in that format, if it may stand in a key.
fn written(format: &str, time_zone: &TimeZone) -> Option<String> {
    let text = strtime::format(format, &Timestamp::UNIX_EPOCH.to_zoned(time_zone.clone())).ok()?;
    let is_harmless = !text.is_empty()
        && !text.chars().any(char::is_control)
        && text.split('/').all(|folder| !matches!(folder, "" | "." | ".."));
    is_harmless.then_some(text)
}

/// Whatever is filled in is never empty, nor dots, nor begins or ends with a slash, nor begins a name that query engines skip.
fn filled(parts: &[Part]) -> String {
    parts.iter().map(|part| if let Part::Text(text) = part { text } else { "x" }).collect()
}

/// Whether a folder's or a file's name is one that query engines skip. Of the partitions' folders, those of a column `_k` they read.
pub(super) fn is_skipped(parts: &[Part]) -> bool {
    filled(parts).split('/').any(|name| name.starts_with('.') || name.starts_with('_') && !name.contains('='))
}

/// What is written as it is must not leave the prefix, nor make a folder without a name.
fn check_text(parts: &[Part]) -> Result<(), String> {
    let whole = filled(parts);
    if whole.chars().any(char::is_control) {
        return Err("it holds a control character".into());
    }
    if whole.split('/').any(|folder| matches!(folder, "" | "." | "..")) {
        return Err("a folder's name is empty, `.` or `..`, or it begins or ends with a slash".into());
    }
    Ok(())
}

/// Partitions of a window differ in what their records fill in, and in their counts, which are digits: from a key, each must be told.
fn check_counts(parts: &[Part]) -> Result<(), String> {
    let varies = |part: &Part| matches!(part, Part::Field(_) | Part::Time(..));
    let is_other_than_digits = |part: &Part| match part {
        Part::Text(text) => text.contains(|char: char| !char.is_ascii_digit()),
        part => !matches!(part, Part::Count),
    };
    let is_told =
        |side: &mut dyn Iterator<Item = &Part>| side.take_while(|part| !varies(part)).any(is_other_than_digits);
    for (at, _) in parts.iter().enumerate().filter(|(_, part)| **part == Part::Count) {
        let (before, behind) = (parts.get(..at).unwrap_or_default(), parts.get(at + 1..).unwrap_or_default());
        let (varies_before, varies_behind) = (before.iter().any(varies), behind.iter().any(varies));
        let touches_before = varies_before && !is_told(&mut before.iter().rev());
        let touches_behind = varies_behind && !is_told(&mut behind.iter());
        let is_between = varies_before && varies_behind;
        if is_between || touches_before || touches_behind {
            return Err("{count} and what records fill in could make one key of two: write it behind all fields and times, after a \
                        text such as `-`"
                .into());
        }
    }
    Ok(())
}

/// The bytes of the longest key that they make.
pub(super) fn longest(parts: &[Part], time_zone: &TimeZone) -> usize {
    let of_part = |part: &Part| match part {
        Part::Text(text) => text.len(),
        Part::Field(_) => VALUE_BYTES_MAX,
        Part::Time(_, format) => written(format, time_zone).map_or(0, |text| text.len() + TIME_BYTES_EXTRA),
        Part::Stream | Part::Shard => STREAM_BYTES_MAX,
        Part::First | Part::Last => POSITION_BYTES,
        Part::Count => COUNT_BYTES_MAX,
    };
    parts.iter().map(of_part).sum::<usize>() + LATE.len() + 1
}
