use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn event(data: impl Into<String>, key: Option<&str>) -> Event {
    Event { data: Bytes::from(data.into()), partition_key: key.map(Box::from) }
}

fn keeps(pattern: Value, data: &str, key: Option<&str>) -> bool {
    PatternFilter::new(&[pattern]).unwrap().keep(&event(data, key))
}

#[test]
fn data_and_partition_key_are_both_asked() {
    let pattern = json!({"data": {"type": ["click"]}, "partitionKey": [{"prefix": "eu-"}]});
    assert!(keeps(pattern.clone(), r#"{"type":"click"}"#, Some("eu-1")));
    assert!(!keeps(pattern.clone(), r#"{"type":"click"}"#, Some("us-1")));
    assert!(!keeps(pattern.clone(), r#"{"type":"view"}"#, Some("eu-1")));
    assert!(!keeps(pattern, r#"{"type":"click"}"#, None));
}

#[test]
fn the_matchers_of_the_documentation() {
    for (matcher, yes, no) in [
        (json!([{"numeric": [">", 10, "<=", 20]}]), "20", "10"),
        (json!([{"anything-but": ["a"]}]), "\"b\"", "\"a\""),
        (json!([{"suffix": ".png"}]), "\"x.png\"", "\"x.jpg\""),
        (json!([{"equals-ignore-case": "YES"}]), "\"yes\"", "\"no\""),
        (json!([{"wildcard": "a*c"}]), "\"abbc\"", "\"abb\""),
        (json!([null]), "null", "0"),
        (json!([true, 3]), "3", "4"),
    ] {
        let pattern = json!({"data": {"a": {"b": matcher}}});
        let data = |value: &str| format!("{{\"a\":{{\"b\":{value}}}}}");
        assert!(keeps(pattern.clone(), &data(yes), None), "{pattern} {yes}");
        assert!(!keeps(pattern.clone(), &data(no), None), "{pattern} {no}");
    }
    let exists = json!({"data": {"a": [{"exists": false}]}});
    assert!(keeps(exists.clone(), r#"{"b":1}"#, None));
    assert!(!keeps(exists, r#"{"a":1}"#, None));
}

#[test]
fn json_that_nothing_can_decode_is_kept_where_a_field_is_not_there() {
    let absent = |path: Value| json!({ "data": path });
    let (flat, deep) = (absent(json!({"a": [{"exists": false}]})), absent(json!({"a": {"b": [{"exists": false}]}})));
    for odd in [r#""\ud83d""#, "1e999", r#"{"\udc00":"\ud83d"}"#, r#"["\ud83d",-1E+400]"#] {
        let other = format!(r#"{{"x":{odd}}}"#);
        assert!(keeps(flat.clone(), &other, None) && keeps(deep.clone(), &other, None), "{other}");
        let there = format!(r#"{{"\ud83d":0,"a":{odd}}}"#);
        assert!(!keeps(flat.clone(), &there, None), "{there}");
        assert!(keeps(deep.clone(), &there, None), "{there}");
        let deeper = format!(r#"{{"a":[{odd},{{"\u0062":{odd}}}]}}"#);
        assert!(!keeps(deep.clone(), &deeper, None), "{deeper}");
        let both = json!({"data": {"kind": ["k"], "a": [{"exists": false}]}});
        assert!(keeps(both, &format!(r#"{{"kind":"k","x":{odd}}}"#), None), "{odd}");
    }
}

/// JSON as text, in every way that it may be written.
fn any_json() -> impl Strategy<Value = String> {
    let space = "[ \t\r\n]{0,2}";
    let text = r#""([ !#-\[\]-~é😀\x7f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4}){0,6}""#;
    let number = "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,4})?";
    let leaf = prop_oneof![text, number, "true|false|null".prop_map(String::from)];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let fields = prop::collection::vec((space, text, space, inner.clone()), 0..4).prop_map(|fields| {
            let fields =
                fields.iter().map(|(before, name, after, value)| format!("{before}{name}{after}:{before}{value}"));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        });
        let elements = prop::collection::vec((space, inner), 0..4).prop_map(|elements| {
            let elements = elements.iter().map(|(space, value)| format!("{value}{space}"));
            format!("[{}]", elements.collect::<Vec<_>>().join(","))
        });
        prop_oneof![fields, elements]
    })
}

#[test]
fn or_is_expanded_at_every_level() {
    let pattern = json!({"data": {"kind": ["k"], "$or": [{"a": [1]}, {"b": {"c": [2]}}]}});
    assert!(keeps(pattern.clone(), r#"{"kind":"k","a":1}"#, None));
    assert!(keeps(pattern.clone(), r#"{"kind":"k","b":{"c":2}}"#, None));
    assert!(!keeps(pattern.clone(), r#"{"kind":"k","a":2}"#, None));
    assert!(!keeps(pattern, r#"{"a":1}"#, None));
    let top = json!({"$or": [{"partitionKey": ["x"]}, {"data": {"a": [1]}}]});
    assert!(keeps(top.clone(), "{}", Some("x")));
    assert!(keeps(top, r#"{"a":1}"#, Some("y")));
}

#[test]
fn several_patterns_are_alternatives_and_text_data_is_matched_as_text() {
    let filter = PatternFilter::new(&[json!({"data": ["hello"]}), json!({"partitionKey": ["x"]})]).unwrap();
    assert!(filter.keep(&event("hello", None)));
    assert!(filter.keep(&event("other", Some("x"))));
    assert!(!filter.keep(&event("other", Some("y"))));
    assert_eq!(filter.needs(), Needs { json: false, partition_key: true, lines: false });
}

#[test]
fn what_is_no_pattern_is_refused_with_the_name() {
    for (pattern, said) in [
        (json!({}), "empty"),
        (json!({"date": {"a": [1]}}), "`date` is not known"),
        (json!({"data": 7}), "`data` must be"),
        (json!({"data": {"a": "not a list"}}), ""),
        (json!({"data": {"a": [{"no-such": 1}]}}), ""),
        (json!({"$or": [1]}), "list of tables"),
        (json!({"data": {"a": {"b": []}}}), "the list of `b` is empty"),
        (json!({"data": []}), "the list of `data` is empty"),
        (json!({"data": {"$or": []}}), "the list of `$or` is empty"),
        (json!({"data": {}}), "the table of `data` is empty"),
        (json!({"data": {"a": {}}}), "the table of `a` is empty"),
    ] {
        let error = PatternFilter::new(std::slice::from_ref(&pattern)).unwrap_err().to_string();
        assert!(error.contains(said) && error.starts_with("cannot read the event pattern"), "{pattern}: {error}");
    }
}

/// Exact, prefix, anything-but and exists over one level, read straight off the documentation.
fn naive(pattern: &Value, data: &Value) -> bool {
    pattern["data"].as_object().unwrap().iter().all(|(field, matchers)| {
        let value = data.get(field);
        matchers.as_array().unwrap().iter().any(|matcher| match matcher {
            Value::Object(named) => {
                let (name, wanted) = named.iter().next().unwrap();
                match name.as_str() {
                    "exists" => wanted.as_bool() == Some(value.is_some()),
                    "prefix" => {
                        value.and_then(Value::as_str).is_some_and(|text| text.starts_with(wanted.as_str().unwrap()))
                    }
                    "anything-but" => value.is_some_and(|value| !wanted.as_array().unwrap().contains(value)),
                    other => panic!("{other}"),
                }
            }
            exact => value == Some(exact),
        })
    })
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        prop::sample::select(vec!["a", "ab", "abc", "b", ""]).prop_map(Value::from),
        (0..4_i32).prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
    ]
}

fn matcher() -> impl Strategy<Value = Value> {
    let text = || prop::sample::select(vec!["a", "ab", "b"]);
    prop_oneof![
        4 => scalar(),
        1 => any::<bool>().prop_map(|exists| json!({ "exists": exists })),
        1 => text().prop_map(|prefix| json!({ "prefix": prefix })),
        1 => prop::collection::vec(text(), 1..3).prop_map(|texts| json!({ "anything-but": texts })),
    ]
}

proptest! {
    /// What the transformer lets through as JSON, the matcher of all rules can read: else it would drop it in silence.
    #[test]
    fn the_matcher_reads_whatever_is_json(value in any_json(), name in "[ab]") {
        let data = format!(r#"{{"x":{value},"{name}":1,"y":{value}}}"#);
        prop_assert_eq!(crate::event::check_json(data.as_bytes()), Ok(()));
        prop_assert_eq!(keeps(json!({"data": {"a": [1]}}), &data, None), name == "a", "{}", data);
        prop_assert_eq!(keeps(json!({"data": {"a": [{"exists": false}]}}), &data, None), name != "a", "{}", data);
    }

    #[test]
    fn agrees_with_a_naive_matcher(
        pattern in prop::collection::btree_map("[abc]", prop::collection::vec(matcher(), 1..4), 1..3),
        data in prop::collection::btree_map("[abc]", scalar(), 0..4),
    ) {
        let pattern = json!({ "data": pattern });
        let data = json!(data);
        let kept = PatternFilter::new(std::slice::from_ref(&pattern)).unwrap().keep(&event(data.to_string(), None));
        prop_assert_eq!(kept, naive(&pattern, &data), "{} on {}", pattern, data);
    }
}
