//! Files as a whole: their footer, their groups and pages, and that they are the same each time.

use bytes::Bytes;
use parquet::basic::{Compression, Encoding};
use parquet::column::page::Page;
use parquet::file::reader::FileReader as _;

use super::reading::Value::Text;
use super::reading::{reader, row_count, values};
use super::{bytes, encode, schema};
use crate::s3::blocks::Blocks;
use crate::s3::parquet::OnMismatch::DeadLetter;
use crate::s3::parquet::file::Encoder;
use crate::s3::parquet::{Codec, FileSettings};

#[test]
fn a_file_names_what_wrote_it_and_where_its_rows_come_from() {
    let schema = schema(&[("a", "int64", DeadLetter)]);
    let encoder = Encoder::new(&schema, Codec::Zstd, FileSettings::default()).unwrap();
    let metadata = || vec![("kinesink-stream", "orders".to_owned()), ("kinesink-first", "1.0".to_owned())];
    let records = [Bytes::from_static(b"{\"a\":1}"), Bytes::from_static(b"{\"a\":-5}"), Bytes::from_static(b"{}")];
    let encoded = encoder.encode(&records, metadata(), Blocks::default(), usize::MAX).unwrap();

    let footer = reader(&encoded).metadata().clone();
    let version = concat!("kinesink version ", env!("CARGO_PKG_VERSION"));
    assert_eq!(footer.file_metadata().created_by(), Some(version));
    let pairs = footer.file_metadata().key_value_metadata().unwrap().iter();
    let pairs: Vec<_> = pairs.map(|pair| (pair.key.as_str(), pair.value.clone().unwrap())).collect();
    let count = ("kinesink-count", "3".to_owned());
    assert_eq!(pairs, metadata().into_iter().chain([count]).collect::<Vec<_>>());
    assert_eq!(footer.file_metadata().num_rows(), 3);

    let statistics = footer.row_group(0).column(0).statistics().unwrap();
    assert_eq!(statistics.min_bytes_opt(), Some(&(-5_i64).to_le_bytes()[..]));
    assert_eq!(statistics.max_bytes_opt(), Some(&1_i64.to_le_bytes()[..]));
    assert_eq!(statistics.null_count_opt(), Some(1));
    assert!(footer.row_group(0).column(0).column_index_offset().is_some(), "pages have statistics too");

    let again = encoder.encode(&records, metadata(), Blocks::default(), usize::MAX).unwrap();
    assert_eq!(bytes(&again), bytes(&encoded), "the same records are the same bytes");
}

#[test]
fn columns_stand_in_the_file_as_readers_know_them() {
    let schema = schema(&[
        ("a", "decimal(9,2)", DeadLetter),
        ("b", "decimal(18,2)", DeadLetter),
        ("c", "decimal(38,2)", DeadLetter),
        ("d", "decimal(19,0)", DeadLetter),
        ("e", "list<struct<x: timestamp(ms), y: date>>", DeadLetter),
        ("f", "json", DeadLetter),
        ("g", "binary", DeadLetter),
    ]);
    let file_type = reader(&encode(&schema, &[])).metadata().file_metadata().schema().clone();
    let mut text = Vec::new();
    parquet::schema::printer::print_schema(&mut text, &file_type);
    let expected = "\
message schema {
  OPTIONAL INT32 a (DECIMAL(9,2));
  OPTIONAL INT64 b (DECIMAL(18,2));
  OPTIONAL FIXED_LEN_BYTE_ARRAY (16) c (DECIMAL(38,2));
  OPTIONAL FIXED_LEN_BYTE_ARRAY (9) d (DECIMAL(19,0));
  OPTIONAL group e (LIST) {
    REPEATED group list {
      OPTIONAL group element {
        OPTIONAL INT64 x (TIMESTAMP(MICROS,true));
        OPTIONAL INT32 y (DATE);
      }
    }
  }
  OPTIONAL BYTE_ARRAY f (STRING);
  OPTIONAL BYTE_ARRAY g;
  OPTIONAL BYTE_ARRAY _rest (STRING);
}
";
    assert_eq!(String::from_utf8(text).unwrap(), expected);
}

#[test]
fn each_codec_is_what_its_name_says() {
    let schema = schema(&[("a", "string", DeadLetter)]);
    let records = vec![Bytes::from(format!("{{\"a\":\"{}\"}}", "abc".repeat(1000))); 10];
    for (codec, expected) in [
        (Codec::None, Compression::UNCOMPRESSED),
        (Codec::Snappy, Compression::SNAPPY),
        (Codec::Zstd, Compression::ZSTD(Default::default())),
    ] {
        let encoded = Encoder::new(&schema, codec, FileSettings::default())
            .unwrap()
            .encode(&records, Vec::new(), Blocks::default(), usize::MAX)
            .unwrap();
        assert_eq!(reader(&encoded).metadata().row_group(0).column(0).compression(), expected);
        assert_eq!(values(&encoded), vec![vec![Text("abc".repeat(1000))]; 10]);
    }
}

#[test]
fn row_groups_and_pages_are_bounded_and_so_are_dictionaries() {
    let schema = schema(&[("a", "string", DeadLetter), ("b", "string", DeadLetter)]);
    let record = |index: usize| {
        let text: String = (0..40_000)
            .map(|place| char::from(b'a' + u8::try_from((index * 7 + place * place) % 26).unwrap()))
            .collect();
        Bytes::from(format!("{{\"a\":\"{index}{text}\",\"b\":\"{}\"}}", index % 3))
    };
    let records: Vec<Bytes> = (0..2000).map(record).collect();
    let encoded = Encoder::new(&schema, Codec::Snappy, FileSettings::default())
        .unwrap()
        .encode(&records, Vec::new(), Blocks::default(), usize::MAX)
        .unwrap();
    let reader = reader(&encoded);
    assert_eq!(reader.num_row_groups(), 3, "80 MB of text, 32 MiB each");
    let mut rows = 0;
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group).unwrap();
        rows += group.metadata().num_rows();
        let bytes = group.metadata().column(0).uncompressed_size();
        assert!(bytes < 34 << 20, "{bytes} bytes in one column of a row group");
        let mut pages = group.get_column_page_reader(0).unwrap();
        let mut dictionary_bytes = 0;
        while let Some(page) = pages.get_next_page().unwrap() {
            assert!(page.buffer().len() < 2 << 20, "a page of {} bytes", page.buffer().len());
            if let Page::DictionaryPage { .. } = &page {
                dictionary_bytes = page.buffer().len();
            }
        }
        assert!(dictionary_bytes < 2 << 20, "a dictionary of {dictionary_bytes} bytes");
        let few = group.metadata().column(1).encodings().any(|encoding| encoding == Encoding::RLE_DICTIONARY);
        assert!(few, "a column of few values has a dictionary");
    }
    assert_eq!(rows, 2000);
}

#[test]
fn one_row_of_ten_mebibytes_and_no_row_at_all_are_files_too() {
    let schema = schema(&[("a", "string", DeadLetter)]);
    let text = "x".repeat(10 << 20);
    let encoded = encode(&schema, &[&format!("{{\"a\":\"{text}\"}}")]);
    assert_eq!(values(&encoded), [[Text(text)]]);
    let nothing = encode(&schema, &[]);
    assert_eq!(row_count(&nothing), 0);
}

#[test]
fn text_without_escapes_is_not_copied_before_it_is_encoded() {
    let record = Bytes::from_static(br#"{"a":"plain","b":{"c":[1]}}"#);
    let schema = schema(&[("a", "string", DeadLetter), ("b", "json", DeadLetter)]);
    // Slices of what is static stay static: a copy would be reported as unique.
    let layout = crate::s3::parquet::layout::Layout::of(&schema).unwrap();
    let mut rows = crate::s3::parquet::rows::Rows::new(&layout);
    let shared = Bytes::from(record.to_vec());
    rows.push(&shared).unwrap();
    assert!(!shared.is_unique(), "the row holds slices of the record");
    rows.clear();
    assert!(shared.is_unique());
}
