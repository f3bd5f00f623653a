//! The sections `[buffer]` and `[spill]`, and the sizes of Parquet files.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use kinesink_sinks::s3::parquet::{FileSettings, Statistics};
use toml::Spanned;

use super::Checks;
use crate::config::raw::{self, Format, RawBuffer, RawSink, RawSpill, Size};
use crate::config::validated::{Buffer, Spill, record_bytes};
use crate::config::values::size_text;

const AGE_MIN: Duration = Duration::from_millis(1);
/// Less is less than one reply of the service.
const SPILL_BYTES_MIN: usize = 16 * 1024 * 1024;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const ROW_GROUP: RangeInclusive<usize> = MIB..=1024 * MIB;
const PAGE: RangeInclusive<usize> = KIB..=64 * MIB;
const DICTIONARY: RangeInclusive<usize> = 0..=64 * MIB;

impl Checks {
    pub(super) fn buffer(&mut self, raw: &RawBuffer, memory_bytes: usize, spill: Option<&Spill>) -> Buffer {
        let records = raw.records.as_ref().map_or(raw::RECORDS, |records| *records.get_ref());
        if let Some(given) = raw.records.as_ref().filter(|given| *given.get_ref() == 0) {
            self.refuse("`buffer.records` is 0", given.span(), "a window holds at least one", "write at least 1");
        }
        let mut bytes = self.size("buffer.bytes", raw.bytes.as_ref(), raw::BYTES, 1).unwrap_or(1);
        let (most, limit, remedy) = match spill {
            Some(spill) => (spill.bytes_max, "`spill.max` leaves to windows", "lower it, or raise `spill.max`"),
            None => {
                let most = record_bytes(memory_bytes, false);
                (most, "`memory` leaves to records", "lower it, raise `memory`, or add `[spill]`")
            }
        };
        if bytes > most {
            match &raw.bytes {
                Some(given) => {
                    let what = format!("`buffer.bytes` is more than the {} that {limit}", size_text(most));
                    self.refuse(what, given.span(), "never reached", remedy);
                }
                // The default gives way to a small memory.
                None => bytes = most,
            }
        }
        let age = self.duration("buffer.age", raw.age.as_ref(), raw::AGE, AGE_MIN);
        Buffer { records: usize::try_from(records).unwrap_or(usize::MAX), bytes, age }
    }

    pub(super) fn spill(&mut self, raw: &RawSpill) -> Option<Spill> {
        let dir = PathBuf::from(raw.dir.get_ref());
        if !dir.is_absolute() {
            let what = format!("`spill.dir` cannot be {:?}", raw.dir.get_ref());
            self.refuse(
                what,
                raw.dir.span(),
                "not a place",
                "write an absolute directory, such as \"/var/tmp/kinesink\"",
            );
        }
        let bytes_max = self.size("spill.max", raw.max.as_ref(), raw::SPILL, SPILL_BYTES_MIN)?;
        Some(Spill { dir, bytes_max })
    }

    /// How the values of the sink's Parquet files are grouped.
    pub(super) fn file(&mut self, raw: &RawSink) -> FileSettings {
        let mut file = FileSettings::default();
        let sizes = [
            ("row_group", &raw.row_group, raw::ROW_GROUP, ROW_GROUP, &mut file.row_group_bytes),
            ("page", &raw.page, raw::PAGE, PAGE, &mut file.page_bytes),
            ("dictionary", &raw.dictionary, raw::DICTIONARY, DICTIONARY, &mut file.dictionary_bytes),
        ];
        for (key, given, default, range, bytes) in sizes {
            self.of_parquet(raw, key, given.as_ref());
            if let Some(found) = self.size_in(&format!("sink.{key}"), given.as_ref(), default, range) {
                *bytes = found;
            }
        }
        self.of_parquet(raw, "statistics", raw.statistics.as_ref());
        file.statistics = match raw.statistics.as_ref().map(Spanned::get_ref) {
            None | Some(raw::Statistics::Page) => Statistics::Page,
            Some(raw::Statistics::RowGroup) => Statistics::RowGroup,
            Some(raw::Statistics::None) => Statistics::None,
        };
        file
    }

    fn of_parquet<T>(&mut self, raw: &RawSink, key: &str, given: Option<&Spanned<T>>) {
        if let Some(given) = given.filter(|_| raw.format != Format::Parquet) {
            let what = format!("`sink.{key}` is for Parquet files alone");
            self.refuse(what, given.span(), "contradicts `format`", "leave it out, or write `format = \"parquet\"`");
        }
    }

    fn size_in(
        &mut self,
        key: &str,
        given: Option<&Spanned<Size>>,
        default: &str,
        range: RangeInclusive<usize>,
    ) -> Option<usize> {
        let bytes = self.size(key, given, default, *range.start())?;
        if bytes > *range.end() {
            let span = given.map(Spanned::span).unwrap_or_default();
            let hint = format!("write at most {:?}", size_text(*range.end()));
            self.refuse(format!("`{key}` is {}, which is too much", size_text(bytes)), span, "too large", hint);
        }
        Some(bytes)
    }
}
