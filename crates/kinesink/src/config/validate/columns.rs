//! The columns of a sink, and what goes with them.

use std::str::FromStr as _;

use kinesink_sinks::s3::parquet::{Column, ColumnType, OnMismatch, Schema};

use super::Checks;
use crate::config::raw::{self, Compression, Format, Mismatch, RawColumn, RawSink};

/// A mistake was noted.
pub(super) struct Refused;

impl Checks {
    /// How the sink's objects are compressed, or the pages of its Parquet files.
    pub(super) fn compression(&mut self, raw: &RawSink) -> Compression {
        let is_parquet = raw.format == Format::Parquet;
        let Some(given) = &raw.compression else {
            return if is_parquet { Compression::Zstd } else { Compression::None };
        };
        let hint = match (is_parquet, *given.get_ref()) {
            (true, Compression::Gzip) => "write \"zstd\", \"snappy\" or \"none\"",
            (false, Compression::Snappy) => "write \"zstd\", \"gzip\" or \"none\"",
            (_, fitting) => return fitting,
        };
        let what =
            if is_parquet { "Parquet files are not compressed so" } else { "only Parquet files are compressed so" };
        self.refuse(
            format!("`sink.compression` does not go with the sink's format: {what}"),
            given.span(),
            "this value",
            hint,
        );
        *given.get_ref()
    }

    /// The columns of the sink's files; none where there are none yet.
    pub(super) fn columns(&mut self, raw: &RawSink) -> Result<Option<Schema>, Refused> {
        if raw.format != Format::Parquet {
            let columns = raw.columns.as_ref().map(|columns| ("columns", columns.span()));
            let rest = raw.rest.as_ref().map(|rest| ("rest", rest.span()));
            for (key, span) in columns.into_iter().chain(rest) {
                let what = format!("`sink.{key}` is for Parquet files alone");
                self.refuse(what, span, "contradicts `format`", "leave it out, or write `format = \"parquet\"`");
            }
            return Ok(None);
        }
        let Some(table) = &raw.columns else { return Ok(None) };
        // As they stand in the file: a table of TOML has no order, but a file of columns has.
        let mut given: Vec<_> = table.get_ref().iter().collect();
        given.sort_by_key(|(name, _)| name.span().start);
        let (mut columns, mut refused) = (Vec::new(), false);
        for (name, column) in given {
            let (text, span, on_mismatch) = match column.get_ref() {
                RawColumn::Type(text) => (text, column.span(), Mismatch::default()),
                RawColumn::Table(table) => (table.column_type.get_ref(), table.column_type.span(), table.on_mismatch),
            };
            match ColumnType::from_str(text) {
                Ok(column_type) => {
                    let on_mismatch = match on_mismatch {
                        Mismatch::DeadLetter => OnMismatch::DeadLetter,
                        Mismatch::Null => OnMismatch::Null,
                        Mismatch::Coerce => OnMismatch::Coerce,
                    };
                    columns.push(Column { name: name.get_ref().clone(), column_type, on_mismatch });
                }
                Err(why) => {
                    let what = format!("column `{}` has no type of a file", name.get_ref());
                    self.refuse(what, span, "not a type", why.to_string());
                    refused = true;
                }
            }
        }
        if refused {
            return Err(Refused);
        }
        let rest = raw.rest.as_ref().map_or(raw::REST, |rest| rest.get_ref());
        Schema::new(columns, rest).map(Some).map_err(|why| {
            self.refuse("`sink.columns` cannot be the columns of a file", table.span(), "these", why.to_string());
            Refused
        })
    }
}
