use std::cmp::Ordering;

use kinesink_core::{Checkpoint, Position};
use proptest::prelude::*;

/// The two halves of a lease row.
type Row = (String, u64);

fn any_row() -> impl Strategy<Value = Row> {
    let sentinel = prop::sample::select(vec!["AT_TIMESTAMP", "TRIM_HORIZON", "LATEST", "SHARD_END"]);
    let sentinel = sentinel.prop_map(|text| (text.to_owned(), 0));
    prop_oneof![1 => sentinel, 3 => any_position()]
}

/// Short ones meet often, so that the sub-sequence decides, or nothing does.
fn any_position() -> impl Strategy<Value = Row> {
    prop_oneof![("[1-3]", 0..3_u64), ("[1-9][0-9]{0,128}", any::<u64>())]
}

/// KCL's rule: sentinels have ranks below every number, except `SHARD_END`, which is above; numbers order by length and
/// text; then the sub-sequence counts.
fn kcl_order(left: &Row, right: &Row) -> Ordering {
    let key = |(sequence, sub_sequence): &Row| {
        let rank = match sequence.as_str() {
            "AT_TIMESTAMP" => -3,
            "TRIM_HORIZON" => -2,
            "LATEST" => -1,
            "SHARD_END" => 1,
            _ => 0,
        };
        let digits = if rank == 0 { sequence.clone() } else { String::new() };
        (rank, digits.len(), digits, *sub_sequence)
    };
    key(left).cmp(&key(right))
}

fn checkpoint((sequence, sub_sequence): &Row) -> Checkpoint {
    Checkpoint::from_row(sequence, *sub_sequence).unwrap()
}

proptest! {
    #[test]
    fn order_is_that_of_kcl(left in any_row(), right in any_row()) {
        prop_assert_eq!(checkpoint(&left).cmp(&checkpoint(&right)), kcl_order(&left, &right));
    }

    #[test]
    fn rows_come_back(row in any_row()) {
        let checkpoint = checkpoint(&row);
        prop_assert_eq!((checkpoint.sequence_text(), checkpoint.sub_sequence()), row);
    }

    /// Restarting at a checkpoint gives each record once: those after it, and it alone is not given again.
    #[test]
    fn what_is_still_to_be_processed_orders_after(row in any_row(), record in any_position()) {
        let position = Position { sequence: record.0.parse().unwrap(), sub_sequence: record.1 };
        prop_assert_eq!(checkpoint(&row).is_before(position), kcl_order(&row, &record) == Ordering::Less);
    }

    #[test]
    fn other_text_is_refused(text in "[A-Z_]{0,12}|-?[0-9]{1,3}x?") {
        let sentinels = ["AT_TIMESTAMP", "TRIM_HORIZON", "LATEST", "SHARD_END"];
        let known = sentinels.contains(&text.as_str()) || text.chars().all(|c| c.is_ascii_digit()) && !text.is_empty()
            && (text == "0" || !text.starts_with('0'));
        prop_assert_eq!(Checkpoint::from_row(&text, 0).is_ok(), known);
    }
}

/// The text of a lease row is an interface to every other worker of the fleet.
#[test]
fn sentinels_have_kcls_names_and_no_sub_sequence() {
    let named = [
        (Checkpoint::AtTimestamp, "AT_TIMESTAMP"),
        (Checkpoint::TrimHorizon, "TRIM_HORIZON"),
        (Checkpoint::Latest, "LATEST"),
        (Checkpoint::ShardEnd, "SHARD_END"),
    ];
    for (checkpoint, name) in named {
        assert_eq!((checkpoint.sequence_text().as_str(), checkpoint.sub_sequence()), (name, 0));
        assert_eq!(Checkpoint::from_row(name, 7).unwrap(), checkpoint, "KCL ignores a sentinel's sub-sequence");
    }
}
