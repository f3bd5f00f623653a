//! Nothing of a malformed aggregate is unpacked, so that nothing of it is lost: its bytes go on as one record.

use kinesink_kpl::{Unpacked, unpack};

use crate::{sealed, user_record};

const KEY_A: &[u8] = b"\x0A\x01a";
const HASH_KEY_7: &[u8] = b"\x12\x017";
/// Partition key 0, data "x".
const RECORD_X: &[u8] = b"\x1A\x05\x08\x00\x1A\x01x";

#[track_caller]
fn assert_malformed(message: &[&[u8]], expected: &str) {
    let Unpacked::Malformed(reason) = unpack(&sealed(&message.concat())) else { panic!("not malformed") };
    assert_eq!(reason, expected);
}

#[test]
fn an_index_outside_its_table_spoils_the_whole() {
    let outside = "a record points outside a key table";
    assert_malformed(&[KEY_A, RECORD_X, b"\x1A\x05\x08\x01\x1A\x01x"], outside);
    assert_malformed(&[KEY_A, RECORD_X, b"\x1A\x07\x08\x00\x10\x00\x1A\x01x"], outside);
    assert_malformed(&[KEY_A, HASH_KEY_7, b"\x1A\x07\x08\x00\x10\x01\x1A\x01x"], outside);
    assert_malformed(&[RECORD_X], outside);
    let u64_max = b"\x1A\x0E\x08\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01\x1A\x01x";
    assert_malformed(&[KEY_A, u64_max], outside);
}

#[test]
fn a_record_without_a_required_field_spoils_the_whole() {
    let incomplete = "a record lacks its partition key index or its data";
    assert_malformed(&[KEY_A, RECORD_X, b"\x1A\x00"], incomplete);
    assert_malformed(&[KEY_A, RECORD_X, b"\x1A\x02\x08\x00"], incomplete);
    assert_malformed(&[KEY_A, RECORD_X, b"\x1A\x04\x1A\x02xx"], incomplete);
    assert_malformed(&[KEY_A, RECORD_X, b"\x1A\x05\x08\x00\x10\x00\x10"], "it ends inside a number");
    assert_malformed(&[KEY_A, HASH_KEY_7, RECORD_X, b"\x1A\x04\x08\x00\x10\x00"], incomplete);
}

#[test]
fn an_aggregate_of_nothing_is_malformed() {
    assert_malformed(&[KEY_A], "it holds no records");
    assert_malformed(&[b"\x22\x01x"], "it holds no records");
}

/// Counted, they would become capacity for a million records. The first record's fault is found only when records are
/// built, so the reason shows which came first.
#[test]
fn a_million_empty_records_are_refused_before_any_is_built() {
    let bad_index = b"\x1A\x05\x08\x01\x1A\x01x";
    let empty_records = b"\x1A\x00".repeat(1_000_000);
    assert_malformed(&[KEY_A, bad_index, &empty_records], "a record lacks its partition key index or its data");
}

#[test]
fn what_is_no_message_is_malformed() {
    assert_malformed(&[b"\x0A\x7F"], "it ends inside a field");
    assert_malformed(&[b"\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01"], "it ends inside a field");
    assert_malformed(&[&[0xFF; 11]], "a number is longer than 10 bytes");
    assert_malformed(&[b"\x80"], "it ends inside a number");
    assert_malformed(&[b"\x02\x00"], "a field has number 0");
    assert_malformed(&[b"\x82\x80\x80\x80\x10\x00"], "a field number is too large");
    assert_malformed(&[KEY_A, RECORD_X, b"\x23\x24"], "a field is a group or has an unknown wire type");
    assert_malformed(&[b"\x0A\x02\xC3\x28", RECORD_X], "a key is not UTF-8");
}

#[test]
fn tags_and_unknown_fields_are_skipped_and_order_of_fields_is_free() {
    let tag = b"\x22\x05\x0A\x03tag";
    let record = [b"\x1A\x0E\x1A\x01x".as_slice(), tag, b"\x10\x00\x08\x00"].concat();
    let unknown = b"\x20\x01\x29\x01\x02\x03\x04\x05\x06\x07\x08\x35\x01\x02\x03\x04\x3A\x01x\x08\x01";
    let message = [&record, unknown.as_slice(), HASH_KEY_7, KEY_A].concat();
    assert_eq!(unpack(&sealed(&message)), Unpacked::Aggregated(vec![user_record("a", Some("7"), "x")]));
}

#[test]
fn the_last_value_of_a_repeated_single_field_counts() {
    let message = [KEY_A, b"\x0A\x01b", b"\x1A\x0A\x08\x00\x1A\x01x\x08\x01\x1A\x01y"].concat();
    assert_eq!(unpack(&sealed(&message)), Unpacked::Aggregated(vec![user_record("b", None, "y")]));
}

#[test]
fn the_magic_alone_is_plain() {
    assert_eq!(unpack(&sealed(b"")), Unpacked::Plain);
}
