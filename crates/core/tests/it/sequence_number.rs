use std::cmp::Ordering;

use kinesink_core::{Error, SequenceNumber};
use proptest::prelude::*;

/// Decimal numbers without leading zeros, up to the API's 129 digits, of many lengths and often close to each other.
fn any_digits() -> impl Strategy<Value = String> {
    let limbs = prop_oneof![
        Just("18446744073709551615".to_owned()),
        Just("18446744073709551616".to_owned()),
        Just("340282366920938463463374607431768211455".to_owned()),
        Just("340282366920938463463374607431768211456".to_owned()),
        Just("9".repeat(129)),
        Just(format!("1{}", "0".repeat(128))),
    ];
    prop_oneof![4 => "0|[1-9][0-9]{0,128}", 2 => "1[09]{0,128}", 1 => limbs]
}

/// Two numbers, the second often the first with one digit changed.
fn any_two() -> impl Strategy<Value = (String, String)> {
    let near = (any_digits(), any::<prop::sample::Index>(), b'1'..=b'9').prop_map(|(digits, place, digit)| {
        let mut other = digits.clone().into_bytes();
        let place = place.index(other.len());
        other[place] = digit;
        (digits, String::from_utf8(other).unwrap())
    });
    prop_oneof![near, (any_digits(), any_digits())]
}

/// Numbers without leading zeros order by length, then as text.
fn numeric_order(left: &str, right: &str) -> Ordering {
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

fn parse(digits: &str) -> SequenceNumber {
    digits.parse().unwrap()
}

proptest! {
    #[test]
    fn order_is_numeric((left, right) in any_two()) {
        prop_assert_eq!(parse(&left).cmp(&parse(&right)), numeric_order(&left, &right));
        prop_assert_eq!(parse(&left) == parse(&right), left == right);
    }

    #[test]
    fn text_comes_back(digits in any_digits()) {
        prop_assert_eq!(parse(&digits).to_string(), digits);
    }

    #[test]
    fn bytes_come_back_and_order_as_the_numbers_do((left, right) in any_two()) {
        let (number, other) = (parse(&left), parse(&right));
        let (bytes, others) = (number.to_bytes(), other.to_bytes());
        prop_assert_eq!(SequenceNumber::from_bytes(&bytes), Some(number));
        prop_assert!(bytes.first() != Some(&0) && bytes.len() <= 56);
        prop_assert_eq!((bytes.len(), bytes).cmp(&(others.len(), others)), number.cmp(&other));
        prop_assert_eq!(SequenceNumber::from_bytes(&[1; 57]), None);
    }

    #[test]
    fn padded_text_orders_as_the_numbers((left, right) in any_two()) {
        let (padded_left, padded_right) = (parse(&left).zero_padded(129), parse(&right).zero_padded(129));
        prop_assert_eq!(padded_left.len(), 129);
        prop_assert_eq!(padded_left.trim_start_matches('0'), left.trim_start_matches('0'));
        prop_assert_eq!(padded_left.cmp(&padded_right), numeric_order(&left, &right));
    }

    #[test]
    fn only_canonical_digits_are_numbers(text in r"[0-9]{0,3}|[0-9٣+\- .eE_]{0,5}") {
        let canonical = text == "0" || !text.is_empty() && !text.starts_with('0')
            && text.chars().all(|c| "0123456789".contains(c));
        prop_assert_eq!(text.parse::<SequenceNumber>().is_ok(), canonical);
    }
}

#[test]
fn more_than_129_digits_are_refused_by_name() {
    let text = "1".repeat(130);
    let Err(Error::Malformed { what: "sequence number", text: named }) = text.parse::<SequenceNumber>() else {
        unreachable!("130 digits were taken")
    };
    assert_eq!(named, text);
}

#[test]
fn zero_is_the_smallest() {
    assert_eq!(parse("0"), SequenceNumber::ZERO);
    assert!(SequenceNumber::ZERO < parse("1"));
}

#[test]
fn a_number_of_the_service_names_its_shard_and_any_other_names_none() {
    // As real services gave them out: for shards 0, 1, 3, and 0 of another stream.
    for (number, index) in [
        ("49680487973733288424064368233818218389012877529422233602", 0),
        ("49680487973755589169262898857009320065889725687091167250", 1),
        ("49680487973800190659659960103239198766371978726416056370", 3),
    ] {
        assert_eq!(number.parse::<SequenceNumber>().unwrap().shard_index(), Some(index), "{number}");
    }
    for number in ["0", "7", "49680487973733288424064368233818218389012877529422233602000", "1"] {
        assert_eq!(number.parse::<SequenceNumber>().unwrap().shard_index(), None, "{number}");
    }
}
