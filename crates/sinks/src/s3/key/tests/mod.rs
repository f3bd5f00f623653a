mod times;

use std::collections::{BTreeMap, BTreeSet};

use kinesink_core::{Position, ShardId, StreamName};
use proptest::prelude::*;

use super::*;
use crate::TimeFormat;

fn position(sequence: &str, sub_sequence: u64) -> Position {
    Position { sequence: sequence.parse().unwrap(), sub_sequence }
}

fn template(key: &str) -> KeyTemplate {
    KeyTemplate::new(KeySettings { template: key.into(), ..KeySettings::default() }).unwrap()
}

fn key_of(template: &KeyTemplate, json: &str, arrival: &str) -> String {
    let (stream, shard): (StreamName, ShardId) = ("orders".parse().unwrap(), "shardId-000000000003".parse().unwrap());
    let (first, last) = (position("7", 0), position("9", 2));
    let origin = Origin { stream: &stream, shard: &shard, first, last };
    let key = of_object(&partition(template, json, arrival), "pre/fix", origin, 5);
    // The tests are about what stands before.
    key.replace(&position_text(first), "FIRST").replace(&position_text(last), "LAST")
}

fn partition(template: &KeyTemplate, json: &str, arrival: &str) -> String {
    template.partition(json.as_bytes(), arrival.parse().unwrap())
}

fn key(template_text: &str, json: &str) -> String {
    key_of(&template(template_text), json, "2026-03-29T23:30:00Z")
}

#[test]
fn a_key_is_the_template_with_everything_filled_in() {
    for (template, expected) in [
        ("{stream}/{shard}/{first}-{last}", "orders/shardId-000000000003/FIRST-LAST"),
        ("day={arrival:%Y-%m-%d}/hour={arrival:%H}/{first}", "day=2026-03-29/hour=23/FIRST"),
        ("type={.type}/n={.user.n}/{first}-{count}", "type=click/n=1.10/FIRST-5"),
        ("{.\"a b\".\"}\"}/{first}", "x/FIRST"),
        ("{.type}{.type}-{first}", "clickclick-FIRST"),
        ("{arrival:%Y/%m/%d}/{first}", "2026/03/29/FIRST"),
    ] {
        let json = r#"{"type": "click", "user": {"n": 1.10, "m": []}, "a b": {"}": "x"}}"#;
        assert_eq!(key(template, json), format!("pre/fix/{expected}"), "{template}");
    }
}

/// Records of `a` 1 and 12 had one key where 23 and 3 of them were in a window, and their shard halted for good.
#[test]
fn a_count_is_told_from_what_stands_beside_it_or_refused() {
    let first = position("7", 0);
    for text in ["{first}-{.a}{count}", "{count}{.a}-{first}", "{.a}0{count}-{first}", "{.a}-{count}-{first}-{.b}"] {
        let settings = KeySettings { template: text.into(), ..KeySettings::default() };
        let refused = KeyTemplate::new(settings).unwrap_err().to_string();
        assert!(refused.contains("could make one key of two") && refused.contains("behind all fields"), "{refused}");
    }
    let (stream, shard): (StreamName, ShardId) = ("orders".parse().unwrap(), "shardId-000000000003".parse().unwrap());
    for text in [
        "{.a}-{count}-{first}",
        "{.a}{.b}{first}{count}",
        "{count}-{.a}/{first}",
        "{count}{first}",
        "{count}-{.b}0{.a}{shard}{count}{first}",
    ] {
        let template = template(text);
        let mut partitions = BTreeMap::<String, String>::new();
        for (a, b, count) in (0..200).flat_map(|n| [1, 2, 11, 12, 21, 211].map(|count| (n, n % 13, count))) {
            let partition =
                partition(&template, &format!("{{\"a\": \"{a}\", \"b\": \"{b}-{a}\"}}"), "1970-01-01T00:00:00Z");
            let key =
                of_object(&partition, "pre/fix", Origin { stream: &stream, shard: &shard, first, last: first }, count);
            let of_key = partitions.entry(key).or_insert_with(|| partition.clone());
            assert_eq!(*of_key, partition, "{text}");
        }
    }
}

#[test]
fn what_is_no_scalar_goes_to_the_partition_of_the_unknown() {
    let unknown = format!("pre/fix/a={UNKNOWN}/FIRST");
    for json in [
        "{}",
        r#"{"a": null}"#,
        r#"{"a": {}}"#,
        r#"{"a": [1]}"#,
        r#"{"a": ""}"#,
        "[]",
        "1",
        "no json",
        "",
        r#"{"a": 1"#,
        r#"{"a": 1} x"#,
        r#"{"a": 1, "a": null}"#,
    ] {
        assert_eq!(key("a={.a}/{first}", json), unknown, "{json}");
    }
    let long = |chars: usize| key("a={.a}/{first}", &format!(r#"{{"a": "{}"}}"#, "x".repeat(chars)));
    assert_eq!(long(201), unknown);
    assert_eq!(long(200), format!("pre/fix/a={}/FIRST", "x".repeat(200)));
    for (json, value) in [
        (r#"{"a": true}"#, "true"),
        (r#"{"a": -1e5}"#, "-1e5"),
        (r#"{"a": 1, "a": 2}"#, "2"),
        (r#"{"a": "\u00e9"}"#, "é"),
    ] {
        assert_eq!(key("a={.a}/{first}", json), format!("pre/fix/a={value}/FIRST"));
    }
    let settings = KeySettings { template: "{.a}/{first}".into(), unknown: "none".into(), ..KeySettings::default() };
    assert_eq!(key_of(&KeyTemplate::new(settings).unwrap(), "{}", "1970-01-01T00:00:00Z"), "pre/fix/none/FIRST");
}

#[test]
fn values_are_escaped_as_hive_does() {
    for (value, escaped) in [
        ("a b", "a b"),
        ("a/b", "a%2Fb"),
        ("..", "%2E%2E"),
        (".", "%2E"),
        ("..a", "..a"),
        ("50%", "50%25"),
        ("a=b:c*?", "a%3Db%3Ac%2A%3F"),
        ("\u{1}\n\u{7f}\u{85}", "%01%0A%7F%C2%85"),
        ("Zürich", "Zürich"),
    ] {
        let json = serde_json::json!({"a": value}).to_string();
        assert_eq!(key("a={.a}/{first}", &json), format!("pre/fix/a={escaped}/FIRST"));
    }
}

#[test]
fn a_value_makes_no_name_that_query_engines_skip() {
    for (template, value, expected) in [
        ("{.a}-{first}", ".x", "%2Ex-FIRST"),
        ("{.a}-{first}", "_x", "%5Fx-FIRST"),
        ("{.a}-{first}", "x", "x-FIRST"),
        ("x/{.a}/{first}", "__x", "x/%5F_x/FIRST"),
        ("{.a}/{first}", UNKNOWN, "%5F_HIVE_DEFAULT_PARTITION__/FIRST"),
        ("{.a}{.a}/{first}", "_", "%5F_/FIRST"),
        // Nothing skips these.
        ("a={.a}/{first}", "_x", "a=_x/FIRST"),
        ("n-{.a}-{first}", ".x", "n-.x-FIRST"),
    ] {
        let json = serde_json::json!({"a": value}).to_string();
        assert_eq!(key(template, &json), format!("pre/fix/{expected}"), "{template} {value}");
    }
}

#[test]
fn a_template_whose_text_makes_names_that_query_engines_skip_is_known() {
    for skipped in [".x-{first}", "_temporary/{first}", "a/.b/{first}", "a={.a}/_{first}", ".k={.a}/{first}"] {
        assert!(template(skipped).is_skipped(), "{skipped}");
    }
    for read in ["{stream}/{first}", "_k={.a}/{first}", "a_b.c/{.a}/{first}", "x{first}.y", "{.a}_/{first}"] {
        assert!(!template(read).is_skipped(), "{read}");
    }
    assert!(!KeyTemplate::default().is_skipped());
}

proptest! {
    #[test]
    fn a_value_never_leaves_its_place(value in any::<String>(), other in any::<String>()) {
        let json = |value: &str| serde_json::json!({"a": value}).to_string();
        let one = key("x/{.a}/{first}", &json(&value));
        let folders: Vec<&str> = one.split('/').collect();
        prop_assert!(folders.len() == 5 && folders[..3] == ["pre", "fix", "x"] && folders[4] == "FIRST", "{}", one);
        prop_assert!(!matches!(folders[3], "" | "." | "..") && !one.chars().any(char::is_control), "{}", one);
        // Two values that are both known are told apart.
        let two = key("x/{.a}/{first}", &json(&other));
        if !one.contains(UNKNOWN) && !two.contains(UNKNOWN) {
            prop_assert_eq!(one == two, value == other);
        }
    }
}

#[test]
fn records_of_one_partition_share_it() {
    let template = template("{.a}/{arrival:%H}/{first}");
    let partitions: BTreeSet<_> = [
        (r#"{"a": 1}"#, "2026-03-29T23:30:00Z"),
        (r#"{"a": 1, "b": 2}"#, "2026-03-29T23:59:00Z"),
        (r#"{"a": 2}"#, "2026-03-29T23:30:00Z"),
        (r#"{"a": 1}"#, "2026-03-30T00:00:00Z"),
    ]
    .map(|(json, arrival)| partition(&template, json, arrival))
    .into();
    assert_eq!(partitions.len(), 3);
    assert!(!template.is_one_partition() && KeyTemplate::default().is_one_partition());
}

#[test]
fn records_that_would_be_given_one_key_share_its_partition() {
    let template = template("{.a}-{.b}/{first}");
    let of = |json: &str| partition(&template, json, "2026-03-29T23:30:00Z");
    assert_eq!(of(r#"{"a": "x-y", "b": "z"}"#), of(r#"{"a": "x", "b": "y-z"}"#));
    assert_ne!(of(r#"{"a": "x", "b": "y"}"#), of(r#"{"a": "y", "b": "x"}"#));
}

#[test]
fn a_key_has_room_where_it_is_placed_or_is_refused() {
    let place = |url: &str, key: &str| template(key).placed(&url.parse().unwrap());
    let prefix = |bytes: usize| format!("s3://bucket/{}", "p".repeat(bytes));
    let refused = place(&prefix(700), "{.a}-{shard}-{first}").unwrap_err().to_string();
    for part in ["1125 bytes", "prefix in `url` has 700", "1024", "shorten the prefix"] {
        assert!(refused.contains(part), "{refused}");
    }
    assert!(place(&prefix(599), "{.a}-{shard}-{first}").is_ok());
    assert!(place(&prefix(600), "{.a}-{shard}-{first}").is_err());

    let names = |text: usize| format!("{{.a}}/{}{{first}}-{{last}}", "t".repeat(text));
    assert!(place("file:///data", &names(89)).is_ok());
    let refused = place("file:///data", &names(90)).unwrap_err().to_string();
    assert!(
        refused.contains("221 bytes") && refused.contains("220 have room") && refused.contains("slashes"),
        "{refused}"
    );
    assert!(place("s3://bucket/data", &names(90)).is_ok(), "S3 has no names in a key");
}

#[test]
fn a_record_whose_fields_make_a_name_too_long_is_one_without_them() {
    let template = template("k={.a}/{.b}-{.c}-{first}").placed(&"file:///data".parse().unwrap()).unwrap();
    let key = |b: usize, c: usize| {
        let json = serde_json::json!({"a": "x", "b": "b".repeat(b), "c": "c".repeat(c)}).to_string();
        key_of(&template, &json, "2026-03-29T23:30:00Z")
    };
    assert_eq!(key(100, 53), format!("pre/fix/k=x/{}-{}-FIRST", "b".repeat(100), "c".repeat(53)));
    assert_eq!(key(100, 54), format!("pre/fix/k={UNKNOWN}/{UNKNOWN}-{UNKNOWN}-FIRST"));
    assert_eq!(key(200, 200), key(100, 54));
}

#[test]
fn mistakes_name_the_setting_and_the_remedy() {
    let text = |template: &str| KeySettings { template: template.into(), ..KeySettings::default() };
    for (template, why) in [
        ("{stream}", "lacks {first}"),
        ("{first", "a `{` has no `}`"),
        ("first}", "a `}` has no `{`"),
        ("{type}/{first}", "a field of the record is written {.type}"),
        ("{arrival}/{first}", "write {arrival:%Y-%m-%d}"),
        ("{when:%H}/{first}", "neither {arrival:FORMAT} nor {event:FORMAT}"),
        ("{arrival:%}/{first}", "no usable format"),
        ("{arrival:..}/{first}", "no usable format"),
        ("{event:%H}/{first}", "`event_time`"),
        ("{.}/{first}", "not the way to a field"),
        ("{.a..b}/{first}", "not the way to a field"),
        ("/{first}", "begins or ends with a slash"),
        ("a//{first}", "empty"),
        ("../{first}", "`..`"),
        ("{first}/", "slash"),
        ("a\n{first}", "control"),
        ("{.a}{.b}{.c}{.d}/{first}", "1024"),
        ("", "lacks {first}"),
    ] {
        let error = KeyTemplate::new(text(template)).unwrap_err().to_string();
        assert!(error.starts_with("`key` cannot be used: ") && error.contains(why), "{template}: {error}");
    }
    let event_time = || Some(EventTime { field: ".ts".parse().unwrap(), format: TimeFormat::Rfc3339 });
    let late = Some(Late { after: SignedDuration::from_secs(1), to: LateTo::Late });
    let usual = KeySettings::default;
    for (settings, setting, why) in [
        (KeySettings { time_zone: "Mars".into(), ..usual() }, "time_zone", "Europe/Berlin"),
        (KeySettings { event_time: event_time(), ..usual() }, "event_time", "no {event:...}"),
        (KeySettings { late, ..usual() }, "late", "event_time"),
        (KeySettings { unknown: "a/b".into(), ..usual() }, "unknown", "letters"),
        (KeySettings { unknown: String::new(), ..usual() }, "unknown", "letters"),
    ] {
        let error = KeyTemplate::new(settings).unwrap_err().to_string();
        assert!(error.starts_with(&format!("`{setting}` cannot be used: ")) && error.contains(why), "{error}");
    }
}

#[test]
fn positions_are_padded() {
    let zeros = "0".repeat(54);
    assert_eq!(position_text(position("10", 3)), format!("{zeros}10.00000003"));
    let long = "49590338271490256608559692538361571095921575989136588898";
    assert_eq!(position_text(position(long, 0)), format!("{long}.00000000"));
}

prop_compose! {
    /// As (number, sub-sequence), the number below 2^186 and often short or close to another.
    fn place()(high in prop_oneof![Just(0_u64), 0_u64..1 << 58], low in prop_oneof![0_u128..20, any::<u128>()],
               sub_sequence in prop_oneof![0_u64..12, 0_u64..99_999_999]) -> (u64, u128, u64) {
        (high, low, sub_sequence)
    }
}

/// Decimal text of `high × 2^128 + low` by long multiplication on digits, sharing no code with what it checks.
fn decimal(high: u64, low: u128) -> String {
    let mut digits = vec![0_u8];
    for bit in (0..64).map(|bit| high >> (63 - bit) & 1 == 1).chain((0..128).map(|bit| low >> (127 - bit) & 1 == 1)) {
        let mut carry = u8::from(bit);
        for digit in &mut digits {
            let doubled = *digit * 2 + carry;
            (*digit, carry) = (doubled % 10, doubled / 10);
        }
        if carry > 0 {
            digits.push(carry);
        }
    }
    digits.iter().rev().map(|digit| char::from(b'0' + digit)).collect()
}

proptest! {
    #[test]
    fn listing_order_is_stream_order(mut places in prop::collection::vec(place(), 2..40)) {
        places.sort_unstable();
        places.dedup();
        let position = |&(high, low, sub): &(u64, u128, u64)| position(&decimal(high, low), sub);
        let window = |pair: &[(u64, u128, u64)]| {
            let (first, last) = (position(&pair[0]), position(pair.last().unwrap()));
            format!("{}-{}", position_text(first), position_text(last))
        };
        let keys: Vec<String> = places.chunks(2).map(window).collect();
        let mut listed = keys.clone();
        listed.sort_unstable();
        prop_assert_eq!(listed, keys);
    }
}
