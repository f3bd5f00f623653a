//! A record's own time, from one of its fields.

use std::fmt;
use std::str::FromStr;

use jiff::fmt::strtime::{self, BrokenDownTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::FieldPath;

/// Where a record's own time stands, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventTime {
    /// The field.
    pub field: FieldPath,
    /// How the time is written there.
    pub format: TimeFormat,
}

/// How a time is written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimeFormat {
    /// As in `2026-01-31T12:00:00.5Z`, with any offset.
    Rfc3339,
    /// Seconds since 1970, as a number or as text, with a fraction perhaps.
    EpochSeconds,
    /// Milliseconds since 1970.
    EpochMillis,
    /// In directives such as `%d/%b/%Y:%H:%M:%S %z`. Without an offset, it is a time of the sink's time zone.
    Strptime(String),
}

impl fmt::Display for TimeFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rfc3339 => "rfc3339",
            Self::EpochSeconds => "epoch-s",
            Self::EpochMillis => "epoch-ms",
            Self::Strptime(format) => format,
        })
    }
}

impl FromStr for TimeFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "rfc3339" => Ok(Self::Rfc3339),
            "epoch-s" => Ok(Self::EpochSeconds),
            "epoch-ms" => Ok(Self::EpochMillis),
            format if format.contains('%') => {
                let written = strtime::format(format, &a_time()).map_err(|error| error.to_string())?;
                let parsed = strtime::parse(format, &written).map_err(|error| error.to_string())?;
                time_of(&parsed, &TimeZone::UTC).ok_or(
                    "it never gives a time: that takes a year, a month and a day at least, as in \"%Y-%m-%d\", or seconds since 1970, \
                     as in \"%s\"",
                )?;
                Ok(Self::Strptime(format.into()))
            }
            _ => {
                Err("write \"rfc3339\", \"epoch-s\", \"epoch-ms\", or a format with % such as \"%Y-%m-%d %H:%M:%S\""
                    .into())
            }
        }
    }
}

impl EventTime {
    /// The time that the text says, if it is one.
    pub(crate) fn read(&self, text: &str, time_zone: &TimeZone) -> Option<Timestamp> {
        match &self.format {
            TimeFormat::Rfc3339 => text.parse().ok(),
            TimeFormat::EpochSeconds => since_epoch(text, 0),
            TimeFormat::EpochMillis => since_epoch(text, 3),
            TimeFormat::Strptime(format) => time_of(&strtime::parse(format, text).ok()?, time_zone),
        }
    }
}

/// Any, by which a format shows what it can read: of a day, a month and an hour that take two digits.
fn a_time() -> Zoned {
    Timestamp::constant(1_761_574_332, 987_654_321).to_zoned(TimeZone::UTC)
}

fn time_of(parsed: &BrokenDownTime, time_zone: &TimeZone) -> Option<Timestamp> {
    if let Ok(timestamp) = parsed.to_timestamp() {
        return Some(timestamp);
    }
    // A date alone is its midnight.
    let date_time = parsed.to_datetime().or_else(|_| parsed.to_date().map(|date| date.at(0, 0, 0, 0))).ok()?;
    Some(date_time.to_zoned(time_zone.clone()).ok()?.timestamp())
}

/// A number of seconds, its point `digits` further left. Exact to the nanosecond: a float would move a time over the
/// hour.
fn since_epoch(text: &str, digits: usize) -> Option<Timestamp> {
    let (is_negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let split = whole.len().saturating_sub(digits);
    let (seconds, moved) = whole.split_at(split);
    let nanos = format!("{moved:0>digits$}{fraction}");
    let nanos = format!("{:0<9}", nanos.get(..9).unwrap_or(&nanos)).parse::<i128>().ok()?;
    let seconds = if seconds.is_empty() { 0 } else { seconds.parse::<i128>().ok()? };
    let total = seconds.checked_mul(1_000_000_000)?.checked_add(nanos)?;
    Timestamp::from_nanosecond(if is_negative { -total } else { total }).ok()
}
