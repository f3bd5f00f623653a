//! Declared columns: as text, and what is refused.

use proptest::prelude::*;

use super::column_type;
use crate::s3::parquet::{Column, ColumnType, OnMismatch, Schema, TimeForm};

pub(super) fn any_type(depth: u32) -> BoxedStrategy<ColumnType> {
    let time = prop_oneof![
        Just(TimeForm::Text),
        Just(TimeForm::Seconds),
        Just(TimeForm::Milliseconds),
        Just(TimeForm::Microseconds),
        Just(TimeForm::Nanoseconds)
    ];
    let plain = prop_oneof![
        Just(ColumnType::Boolean),
        Just(ColumnType::Int32),
        Just(ColumnType::Int64),
        Just(ColumnType::Float32),
        Just(ColumnType::Float64),
        Just(ColumnType::String),
        Just(ColumnType::Binary),
        Just(ColumnType::Date),
        Just(ColumnType::Json),
        time.prop_map(ColumnType::Timestamp),
        (1_u8..=38)
            .prop_flat_map(|precision| (Just(precision), 0..=precision))
            .prop_map(|(precision, scale)| ColumnType::Decimal { precision, scale }),
    ];
    plain
        .prop_recursive(depth, 12, 4, |inner| {
            let name = prop_oneof!["[a-z]{1,3}", "[ -~ä`]{1,4}"];
            let fields = prop::collection::vec((name, inner.clone()), 1..4).prop_map(|mut fields| {
                let mut seen = std::collections::HashSet::new();
                fields.retain(|(name, _)| seen.insert(name.to_lowercase()));
                ColumnType::Struct(fields)
            });
            prop_oneof![inner.prop_map(|element| ColumnType::List(Box::new(element))), fields]
        })
        .boxed()
}

proptest! {
    #[test]
    fn a_type_is_read_as_it_is_written(column_type in any_type(4)) {
        prop_assert_eq!(column_type.to_string().parse::<ColumnType>(), Ok(column_type));
    }

    #[test]
    fn a_schema_is_read_as_it_is_written(
        columns in prop::collection::hash_map("[a-z `:.,]{1,4}", (any_type(2), 0..3), 1..5),
    ) {
        let policies = [OnMismatch::DeadLetter, OnMismatch::Null, OnMismatch::Coerce];
        let column = |(name, (column_type, policy)): (String, (ColumnType, i32))| {
            let on_mismatch = policies[usize::try_from(policy).unwrap()];
            Column { name, column_type, on_mismatch }
        };
        let schema = Schema::new(columns.into_iter().map(column).collect(), "the rest").unwrap();
        prop_assert_eq!(schema.to_string().parse::<Schema>(), Ok(schema));
    }

    #[test]
    fn any_text_is_a_type_or_a_mistake(text in "[a-z0-9<>(),: `]{0,40}") {
        let _read = text.parse::<ColumnType>();
        let _read = text.parse::<Schema>();
    }
}

#[test]
fn a_type_may_stand_with_spaces_and_quoted_names() {
    let text = " struct < a b : int64 >";
    assert!(text.parse::<ColumnType>().is_err(), "a name of two words needs backquotes");
    let spaced = "struct< `a b` : list < decimal( 18 , 2 ) > , c:timestamp(ms) >";
    assert_eq!(column_type(spaced).to_string(), "struct<`a b`: list<decimal(18,2)>, c: timestamp(ms)>");
    assert_eq!(column_type("struct<`a``b`: int32>"), ColumnType::Struct(vec![("a`b".into(), ColumnType::Int32)]));
}

#[test]
fn a_mistake_in_a_type_says_where() {
    let cases = [
        ("varchar", "`varchar` is no type; there are boolean,"),
        ("", "a type is missing; there are boolean,"),
        ("decimal(18)", "`,` is missing before `)`"),
        ("decimal(300,2)", "`300` is no number of digits"),
        ("list<int64", "`>` is missing at the end"),
        ("struct<a int64>", "`:` is missing before `int64>`"),
        ("struct<: int64>", "a field's name is missing before `: int64>`"),
        ("struct<a: int64 b: int64>", "`,` is missing before `b: int64>`"),
        ("struct<`a: int64>", "a backquote is not closed"),
        ("timestamp(h)", "`h` is no unit of a timestamp"),
        ("int64 not null", "`not null` stands after the type `int64`"),
    ];
    for (text, expected) in cases {
        let error = text.parse::<ColumnType>().unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let deep = "list<".repeat(100_000);
    assert!(deep.parse::<ColumnType>().unwrap_err().to_string().contains("declare the inner ones as json"));
}

#[test]
fn columns_that_no_file_can_have_are_refused() {
    let column = |name: &str, text: &str| Column {
        name: name.into(),
        column_type: column_type(text),
        on_mismatch: OnMismatch::DeadLetter,
    };
    let deep = format!("{}int64{}", "list<".repeat(16), ">".repeat(16));
    let fields = (0..999).map(|field| format!("f{field}: int64")).collect::<Vec<_>>().join(",");
    let cases = [
        (vec![], "declare one at least"),
        (vec![column("", "int64")], "1 to 255 bytes"),
        (vec![column("a\n", "int64")], "no control characters"),
        (vec![column(&"a".repeat(256), "int64")], "1 to 255 bytes"),
        (vec![column("a", "int64"), column("a", "string")], "`a` is declared twice"),
        (vec![column("id", "int64"), column("Id", "string")], "`id` and `Id` differ in case alone"),
        (vec![column("_REST", "int64")], "`_REST` and `_rest` differ in case alone"),
        (vec![column("a", "struct<x: int64, X: int64>")], "column `a`: `x` and `X` differ"),
        (vec![column("a", "list<struct<>>")], "column `a`: a struct without fields"),
        (vec![column("a", "decimal(39,2)")], "decimal(39,2) is none"),
        (vec![column("a", "decimal(0,0)")], "decimal(0,0) is none"),
        (vec![column("a", "decimal(5,6)")], "decimal(5,6) is none"),
        (vec![column("a", &format!("struct<{fields}>")), column("b", "int64")], "1001 columns"),
        (
            vec![Column { column_type: ColumnType::List(Box::new(column_type(&deep))), ..column("a", "int64") }],
            "more than 16 types",
        ),
    ];
    for (columns, expected) in cases {
        let error = Schema::new(columns, "_rest").unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    assert!(Schema::new(vec![column("a", &format!("struct<{fields}>"))], "_rest").is_ok());
    assert!(Schema::new(vec![column("a", &deep)], "_rest").is_ok());
}
