//! A DynamoDB in memory that does what the lease table is asked to do, and says what each write changed.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::expression::{Expression, Row};

/// Rows on a page of a scan: few, so that most scans have several.
const PAGE_ROWS: usize = 6;

/// All tables.
#[derive(Debug)]
pub(crate) struct Store {
    tables: BTreeMap<String, BTreeMap<String, Row>>,
    page_rows: usize,
}

impl Default for Store {
    fn default() -> Self {
        Self { tables: BTreeMap::new(), page_rows: PAGE_ROWS }
    }
}

/// What one write changed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Write {
    pub(crate) key: String,
    pub(crate) before: Option<Row>,
    pub(crate) after: Option<Row>,
    /// Attributes that an update sets, to whatever value.
    pub(crate) set: Vec<String>,
}

/// The status, the body, and what was written.
pub(crate) type Answer = (u16, Value, Option<Write>);

pub(crate) const KEY: &str = "leaseKey";

fn refused(code: &str, more: Option<&Row>) -> Answer {
    let mut body = json!({"__type": format!("com.amazonaws.dynamodb.v20120810#{code}"), "message": "refused"});
    if let Some(row) = more {
        body["Item"] = json!(row);
    }
    (400, body, None)
}

fn read(value: &Value) -> Row {
    value.as_object().expect("an item").iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn key_of(item: &Value) -> String {
    item[KEY]["S"].as_str().expect("the key of a lease table").to_owned()
}

impl Store {
    /// The rows of a table by their keys; none if there is no such table.
    pub(crate) fn rows(&self, table: &str) -> BTreeMap<String, Row> {
        self.tables.get(table).cloned().unwrap_or_default()
    }

    /// The leases of a table, and who has each.
    pub(crate) fn owners(&self, table: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
        let rows = self.tables.get(table).into_iter().flatten();
        rows.map(|(key, row)| (key.as_str(), row.get("leaseOwner").and_then(|owner| owner["S"].as_str())))
    }

    pub(crate) fn set_page_rows(&mut self, rows: usize) {
        self.page_rows = rows;
    }

    pub(crate) fn call(&mut self, operation: &str, request: &Value) -> Answer {
        let name = request["TableName"].as_str().expect("a table's name").to_owned();
        if operation == "CreateTable" {
            if self.tables.contains_key(&name) {
                return refused("ResourceInUseException", None);
            }
            assert_eq!(request["KeySchema"], json!([{"AttributeName": KEY, "KeyType": "HASH"}]));
            self.tables.insert(name, BTreeMap::new());
            return (200, json!({"TableDescription": {"TableStatus": "ACTIVE"}}), None);
        }
        let Some(rows) = self.tables.get_mut(&name) else { return refused("ResourceNotFoundException", None) };
        match operation {
            "DescribeTable" => (200, json!({"Table": {"TableStatus": "ACTIVE"}}), None),
            "GetItem" => match rows.get(&key_of(&request["Key"])) {
                Some(row) => (200, json!({"Item": row}), None),
                None => (200, json!({}), None),
            },
            "Scan" => scan(rows, request, self.page_rows),
            "PutItem" => {
                let item = &request["Item"];
                write(rows, key_of(item), request, |_| (Some(read(item)), Vec::new()))
            }
            "DeleteItem" => write(rows, key_of(&request["Key"]), request, |_| (None, Vec::new())),
            "UpdateItem" => {
                let key = &request["Key"];
                let text = request["UpdateExpression"].as_str().expect("an update");
                write(rows, key_of(key), request, |before| {
                    let before = before.cloned().unwrap_or_else(|| read(key));
                    let (after, set) = Expression::new(text, request).updated(&before);
                    (Some(after), set)
                })
            }
            other => panic!("the lease table has no use for {other}"),
        }
    }
}

fn scan(rows: &BTreeMap<String, Row>, request: &Value, page_rows: usize) -> Answer {
    let from = request.get("ExclusiveStartKey").map(key_of);
    let rest = rows.iter().filter(|(key, _)| from.as_ref().is_none_or(|from| *key > from));
    let page: Vec<_> = rest.take(page_rows).collect();
    let items: Vec<_> = page.iter().map(|(_, row)| row).collect();
    let mut body = json!({"Count": items.len(), "Items": items});
    if let Some((last, _)) = page.last().filter(|_| page.len() == page_rows) {
        body["LastEvaluatedKey"] = json!({KEY: {"S": last}});
    }
    (200, body, None)
}

fn write(
    rows: &mut BTreeMap<String, Row>,
    key: String,
    request: &Value,
    change: impl FnOnce(Option<&Row>) -> (Option<Row>, Vec<String>),
) -> Answer {
    let before = rows.get(&key).cloned();
    let condition = request.get("ConditionExpression").and_then(Value::as_str);
    if condition.is_some_and(|text| !Expression::new(text, request).holds(before.as_ref())) {
        let wants_old = request["ReturnValuesOnConditionCheckFailure"] == "ALL_OLD";
        return refused("ConditionalCheckFailedException", before.as_ref().filter(|_| wants_old));
    }
    let (after, set) = change(before.as_ref());
    match &after {
        Some(row) => rows.insert(key.clone(), row.clone()),
        None => rows.remove(&key),
    };
    let body = match (request["ReturnValues"].as_str(), &before, &after) {
        (Some("ALL_NEW"), _, Some(row)) | (Some("ALL_OLD"), Some(row), _) => json!({"Attributes": row}),
        (None | Some("NONE" | "ALL_OLD"), ..) => json!({}),
        (other, ..) => panic!("a write that returns {other:?}"),
    };
    (200, body, Some(Write { key, before, after, set }))
}

#[cfg(test)]
mod tests {
    use dynoxide::Database;
    use proptest::prelude::*;

    use super::*;

    /// The same call of a DynamoDB of other hands.
    fn theirs(database: &Database, operation: &str, request: &Value) -> (u16, Value) {
        macro_rules! call {
            ($method:ident) => {{
                let request = serde_json::from_value(request.clone()).unwrap();
                match database.$method(request) {
                    Ok(reply) => (200, serde_json::to_value(&reply).unwrap()),
                    Err(error) => (error.status_code(), serde_json::from_str(&error.to_json()).unwrap()),
                }
            }};
        }
        match operation {
            "CreateTable" => call!(create_table),
            "PutItem" => call!(put_item),
            "GetItem" => call!(get_item),
            "UpdateItem" => call!(update_item),
            "DeleteItem" => call!(delete_item),
            "Scan" => call!(scan),
            other => panic!("{other}"),
        }
    }

    fn create() -> Value {
        json!({
            "TableName": "leases", "BillingMode": "PAY_PER_REQUEST",
            "KeySchema": [{"AttributeName": KEY, "KeyType": "HASH"}],
            "AttributeDefinitions": [{"AttributeName": KEY, "AttributeType": "S"}],
        })
    }

    fn condition() -> impl Strategy<Value = Option<&'static str>> {
        prop::option::weighted(
            0.8,
            prop::sample::select(vec![
                "attribute_not_exists(leaseKey)",
                "attribute_exists(leaseKey)",
                "#n = :n",
                "#n = :n AND attribute_not_exists(#s)",
                "#n = :n AND #s = :s",
                "#s = :s OR attribute_not_exists(#s)",
                "(#s = :s OR attribute_exists(#s)) AND #n = :n",
            ]),
        )
    }

    fn update() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "SET #n = :n",
            "SET #n = :n, #s = :s",
            "SET #n = :n REMOVE #s",
            "REMOVE #s",
            "SET #s = :s ADD #n :n",
            "SET #s = :s REMOVE leaseSet, absent",
        ])
    }

    fn call() -> impl Strategy<Value = (&'static str, Value)> {
        let key = prop::sample::select(vec!["a", "b", "c", "d", "e", "f", "g", "h"]);
        let values = (key, 0_u8..3, prop::sample::select(vec!["x", "y"]), condition(), update());
        (0_u8..6, values).prop_map(|(operation, (key, number, text, condition, update))| {
            let key = json!({KEY: {"S": key}});
            let (number, text) = (json!({"N": number.to_string()}), json!({"S": text}));
            let mut request = json!({"TableName": "leases"});
            let mut used = String::new();
            let operation = match operation {
                0 => "Scan",
                1 => "GetItem",
                2 => "DeleteItem",
                3 => "PutItem",
                _ => "UpdateItem",
            };
            match operation {
                "Scan" => {}
                "PutItem" => {
                    request["Item"] = json!({KEY: key[KEY], "n": number, "s": text, "leaseSet": {"SS": ["p"]}});
                }
                _ => request["Key"] = key,
            }
            if operation == "UpdateItem" {
                request["UpdateExpression"] = json!(update);
                request["ReturnValues"] = json!("ALL_NEW");
                used.push_str(update);
            }
            if let (Some(condition), "UpdateItem" | "DeleteItem" | "PutItem") = (condition, operation) {
                request["ConditionExpression"] = json!(condition);
                request["ReturnValuesOnConditionCheckFailure"] = json!("ALL_OLD");
                used.push_str(condition);
            }
            for (place, name, value) in [("#n", "n", &number), ("#s", "s", &text)] {
                if used.contains(place) {
                    request["ExpressionAttributeNames"][place] = json!(name);
                }
                let place = format!(":{name}");
                if used.contains(&place) {
                    request["ExpressionAttributeValues"][place] = value.clone();
                }
            }
            (operation, request)
        })
    }

    /// Every item of a scan, whatever its pages.
    fn scanned(mut page: impl FnMut(&Value) -> Value) -> Vec<Value> {
        let (mut items, mut request) = (Vec::new(), json!({"TableName": "leases"}));
        loop {
            let body = page(&request);
            items.extend(body["Items"].as_array().unwrap().iter().cloned());
            match body.get("LastEvaluatedKey") {
                Some(last) if !last.is_null() => request["ExclusiveStartKey"] = last.clone(),
                _ => break,
            }
        }
        items.sort_by_key(key_of);
        items
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(150))]
        #[test]
        fn every_request_is_answered_as_by_a_dynamodb_of_other_hands(calls in prop::collection::vec(call(), 1..30)) {
            let (mut ours, database) = (Store::default(), Database::memory().unwrap());
            prop_assert_eq!(ours.call("DescribeTable", &json!({"TableName": "leases"})).0, 400);
            ours.call("CreateTable", &create());
            theirs(&database, "CreateTable", &create());
            for (operation, request) in calls {
                if operation == "Scan" {
                    let mine = scanned(|request| ours.call("Scan", request).1);
                    prop_assert_eq!(mine, scanned(|request| theirs(&database, "Scan", request).1));
                    continue;
                }
                let (status, body, _) = ours.call(operation, &request);
                let (other_status, other) = theirs(&database, operation, &request);
                prop_assert_eq!(status, other_status, "{} {}: {} or {}", operation, request, body, other);
                for part in ["__type", "Item", "Attributes"] {
                    prop_assert_eq!(&body[part], &other[part], "{} {}: {}", operation, request, part);
                }
            }
        }
    }
}
