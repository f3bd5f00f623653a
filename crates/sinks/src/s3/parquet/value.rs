//! JSON values to what columns hold: strictly, or, where the column says so, by making them fit.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use super::number::{Scaled, is_number, scaled};
use super::schema::TimeForm;

/// What stands in a record where its column says otherwise. Never the value.
pub(super) type Found = &'static str;
/// A value and, where it had to be made to fit, what it was; or what it is that does not fit.
pub(super) type Read<T> = Result<(T, Option<Found>), Found>;

const OUT_OF_RANGE: Found = "a number out of range";
const FRACTION: Found = "a number with a fraction";
const MORE_DIGITS: Found = "a number with more digits after the point";
pub(super) const FINER: Found = "a time finer than a microsecond";
const TIME_OUT_OF_RANGE: Found = "a time outside of the years 1 to 9999";
const NOT_A_NUMBER: Found = "a string that is no number";
const NOT_A_TIME: Found = "a string that is no RFC 3339 time with its offset";
const LEAP_SECOND: Found = "a time with a second 60";
const NOT_A_DATE: Found = "a string that is no date";
const NOT_BASE64: Found = "a string that is no base64";
const NOT_TEXT: Found = "a string with half of a surrogate pair";

const MICROS_OF_YEAR_1: i128 = -62_135_596_800_000_000;
const MICROS_OF_YEAR_10000: i128 = 253_402_300_800_000_000;

fn read<T>(coerce: bool, strict: Result<T, Found>, loose: impl FnOnce() -> Option<T>) -> Read<T> {
    match strict {
        Ok(value) => Ok((value, None)),
        Err(found) if coerce => loose().map(|value| (value, Some(found))).ok_or(found),
        Err(found) => Err(found),
    }
}

/// What a value of JSON is.
pub(super) fn kind(json: &str) -> Found {
    match json.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// The text of a string. Borrowed where it has no escapes.
pub(super) fn text(json: &str) -> Result<Cow<'_, str>, Found> {
    #[derive(serde::Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

    if !json.starts_with('"') {
        return Err(kind(json));
    }
    serde_json::from_str::<Text<'_>>(json).map(|Text(text)| text).map_err(|_| NOT_TEXT)
}

fn number(json: &str) -> Result<&str, Found> {
    if json.starts_with(|first: char| first == '-' || first.is_ascii_digit()) { Ok(json) } else { Err(kind(json)) }
}

/// What is made to fit: the text of a string, the JSON of anything else.
fn loose(json: &str) -> Option<Cow<'_, str>> {
    if json.starts_with('"') { text(json).ok() } else { Some(Cow::Borrowed(json)) }
}

fn loose_number(json: &str) -> Option<String> {
    let text = loose(json)?;
    is_number(text.trim()).then(|| text.trim().to_owned())
}

pub(super) fn string(json: &str, coerce: bool) -> Read<Cow<'_, str>> {
    read(coerce, text(json), || loose(json))
}

pub(super) fn boolean(json: &str, coerce: bool) -> Read<bool> {
    let strict = match json {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(kind(other)),
    };
    read(coerce, strict, || match &*loose(json)?.trim().to_ascii_lowercase() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    })
}

pub(super) fn integer<T: TryFrom<i128>>(json: &str, coerce: bool) -> Read<T> {
    let strict = number(json).and_then(|number| match scaled(number, 0) {
        Scaled::Exact(whole) => T::try_from(whole).map_err(|_| OUT_OF_RANGE),
        Scaled::Between(..) => Err(FRACTION),
        Scaled::TooLarge => Err(OUT_OF_RANGE),
    });
    read(coerce, strict, || {
        let whole = match json {
            "true" => 1,
            "false" => 0,
            other => nearest(&loose_number(other)?, 0)?,
        };
        T::try_from(whole).ok()
    })
}

fn nearest(number: &str, scale: i64) -> Option<i128> {
    match scaled(number, scale) {
        Scaled::Exact(units) | Scaled::Between(_, units) => Some(units),
        Scaled::TooLarge => None,
    }
}

/// In units of the last digit. Text counts as a number: it is how JSON carries exact ones.
pub(super) fn decimal<T: TryFrom<i128>>(json: &str, precision: u8, scale: u8, coerce: bool) -> Read<T> {
    let fits = |units: i128| {
        let end = 10_i128.checked_pow(precision.into())?;
        if -end < units && units < end { T::try_from(units).ok() } else { None }
    };
    let strict = || {
        let number = match text(json) {
            Ok(text) if is_number(&text) => text,
            Ok(_) => return Err(NOT_A_NUMBER),
            Err(_) => Cow::Borrowed(number(json)?),
        };
        match scaled(&number, scale.into()) {
            Scaled::Exact(units) => fits(units).ok_or(OUT_OF_RANGE),
            Scaled::Between(_, nearest) => Err(fits(nearest).map_or(OUT_OF_RANGE, |_| MORE_DIGITS)),
            Scaled::TooLarge => Err(OUT_OF_RANGE),
        }
    };
    read(coerce, strict(), || fits(nearest(&loose_number(json)?, scale.into())?))
}

/// The nearest one, as everywhere.
pub(super) fn float64(json: &str, coerce: bool) -> Read<f64> {
    let parse = |number: &str| number.parse().ok().filter(|number: &f64| number.is_finite());
    let strict = number(json).and_then(|number| parse(number).ok_or(OUT_OF_RANGE));
    read(coerce, strict, || parse(&loose_number(json)?))
}

/// The nearest one, as everywhere.
pub(super) fn float32(json: &str, coerce: bool) -> Read<f32> {
    let parse = |number: &str| number.parse().ok().filter(|number: &f32| number.is_finite());
    let strict = number(json).and_then(|number| parse(number).ok_or(OUT_OF_RANGE));
    read(coerce, strict, || parse(&loose_number(json)?))
}

/// Days since 1970. A time is made to fit as the day that it names, in its own offset.
pub(super) fn date(json: &str, coerce: bool) -> Read<i32> {
    let strict = text(json).and_then(|text| days(&text).ok_or(NOT_A_DATE));
    read(coerce, strict, || {
        let text = text(json).ok()?;
        moment(text.trim()).and_then(|_| days(text.trim().get(..10)?))
    })
}

fn days(text: &str) -> Option<i32> {
    const EPOCH: Date = Date::constant(1970, 1, 1);
    if text.len() != 10 || !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        return None;
    }
    let date: Date = text.parse().ok()?;
    (date.year() >= 1).then(|| (date - EPOCH).get_days())
}

/// Microseconds since 1970. Finer digits are cut to make it fit, and text without an offset is in UTC.
pub(super) fn timestamp(json: &str, form: TimeForm, coerce: bool) -> Read<i64> {
    let strict = || {
        let micros = match scale(form) {
            None => match rfc3339(&text(json)?)?.as_nanosecond() {
                nanos if nanos % 1000 == 0 => nanos / 1000,
                _ => return Err(FINER),
            },
            Some(scale) => match scaled(number(json)?, scale) {
                Scaled::Exact(micros) => micros,
                Scaled::Between(..) => return Err(FINER),
                Scaled::TooLarge => return Err(TIME_OUT_OF_RANGE),
            },
        };
        in_range(micros).ok_or(TIME_OUT_OF_RANGE)
    };
    read(coerce, strict(), || match (scale(form), loose_number(json)) {
        (Some(scale), Some(number)) => match scaled(&number, scale) {
            Scaled::Exact(micros) | Scaled::Between(micros, _) => in_range(micros),
            Scaled::TooLarge => None,
        },
        _ => in_range(moment(text(json).ok()?.trim())?.as_nanosecond().div_euclid(1000)),
    })
}

/// How many digits after the point a number of the form has, down to the microsecond.
fn scale(form: TimeForm) -> Option<i64> {
    match form {
        TimeForm::Text => None,
        TimeForm::Seconds => Some(6),
        TimeForm::Milliseconds => Some(3),
        TimeForm::Microseconds => Some(0),
        TimeForm::Nanoseconds => Some(-3),
    }
}

/// The years 1 to 9999, which every reader can show; milliseconds that are declared as seconds are beyond them.
fn in_range(micros: i128) -> Option<i64> {
    if !(MICROS_OF_YEAR_1..MICROS_OF_YEAR_10000).contains(&micros) {
        return None;
    }
    i64::try_from(micros).ok()
}

/// A time as RFC 3339 has it. Of its second 60 there is none in what counts from 1970.
fn rfc3339(text: &str) -> Result<Timestamp, Found> {
    const DATE_TIME: &str = "0000-00-00T00:00:00";
    let (date_time, rest) = text.split_at_checked(DATE_TIME.len()).ok_or(NOT_A_TIME)?;
    let offset = rest.trim_start_matches(|fraction: char| fraction == '.' || fraction.is_ascii_digit());
    let is_offset =
        matches!(offset, "Z" | "z") || has_form(offset, "+00:00") && offset.get(1..3).is_some_and(|hour| hour < "24");
    if !has_form(date_time, DATE_TIME) || !is_offset {
        return Err(NOT_A_TIME);
    }
    if date_time.ends_with(":60") {
        return Err(LEAP_SECOND);
    }
    text.parse().map_err(|_| NOT_A_TIME)
}

/// Whether it is the form, with any digits for its zeros. A date and its time may stand apart, by RFC 3339 too.
fn has_form(text: &str, form: &str) -> bool {
    let fits = |(byte, form): (u8, u8)| match form {
        b'0' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b't' | b' '),
        b'+' => matches!(byte, b'+' | b'-'),
        _ => byte == form,
    };
    text.len() == form.len() && text.bytes().zip(form.bytes()).all(fits)
}

/// A time with an offset, as ISO 8601 has it. The rules of a zone that follows in brackets differ from machine to machine.
fn utc(text: &str) -> Option<Timestamp> {
    let has_year = text.len() > 10 && text.bytes().take(4).all(|byte| byte.is_ascii_digit());
    if !has_year || text.contains('[') {
        return None;
    }
    text.parse().ok()
}

/// A time with or without an offset, or a day.
fn moment(text: &str) -> Option<Timestamp> {
    if let Some(moment) = utc(text) {
        return Some(moment);
    }
    let civil = match days(text) {
        Some(_) => text.parse::<Date>().ok()?.into(),
        None if text.contains('[') => return None,
        None => text.parse::<DateTime>().ok()?,
    };
    civil.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

/// The other spellings of base64 are made to fit.
pub(super) fn binary(json: &str, coerce: bool) -> Read<Vec<u8>> {
    let strict = text(json).and_then(|text| STANDARD.decode(&*text).map_err(|_| NOT_BASE64));
    read(coerce, strict, || {
        let text = text(json).ok()?;
        [STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD].iter().find_map(|engine| engine.decode(text.trim()).ok())
    })
}
