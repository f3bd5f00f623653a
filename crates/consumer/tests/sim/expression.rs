//! The condition and update expressions that lease tables are written with. What DynamoDB knows beyond them is a panic:
//! a request that nobody has compared with a real table must not seem to work.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// An item: attribute values as the protocol writes them, `{"S": "text"}`.
pub(crate) type Row = BTreeMap<String, Value>;

/// An expression under way: its words, and what its placeholders stand for.
pub(crate) struct Expression<'a> {
    words: std::iter::Peekable<std::vec::IntoIter<String>>,
    request: &'a Value,
}

impl<'a> Expression<'a> {
    pub(crate) fn new(text: &str, request: &'a Value) -> Self {
        let mut words: Vec<String> = Vec::new();
        let mut in_word = false;
        for letter in text.chars() {
            let is_word = letter.is_alphanumeric() || "#:_".contains(letter);
            match words.last_mut().filter(|_| is_word && in_word) {
                Some(word) => word.push(letter),
                None if letter.is_whitespace() => {}
                None => words.push(letter.into()),
            }
            in_word = is_word;
        }
        Self { words: words.into_iter().peekable(), request }
    }

    fn word(&mut self) -> String {
        self.words.next().expect("the expression ends too early")
    }

    fn expect(&mut self, wanted: &str) {
        assert_eq!(self.word(), wanted);
    }

    fn takes(&mut self, wanted: &str) -> bool {
        self.words.next_if(|word| word.eq_ignore_ascii_case(wanted)).is_some()
    }

    fn name(&mut self) -> String {
        let word = self.word();
        match word.starts_with('#') {
            true => self.request["ExpressionAttributeNames"][&word].as_str().expect("a name without a value").into(),
            false => word,
        }
    }

    /// What an operand stands for; nothing if the row has no such attribute.
    fn operand(&mut self, row: Option<&Row>) -> Option<Value> {
        if self.words.peek().is_some_and(|word| word.starts_with(':')) {
            let value = &self.request["ExpressionAttributeValues"][self.word()];
            assert!(!value.is_null(), "a placeholder without a value");
            return Some(value.clone());
        }
        let name = self.name();
        row?.get(&name).cloned()
    }

    /// Whether the row, or its absence, meets the condition.
    pub(crate) fn holds(mut self, row: Option<&Row>) -> bool {
        let holds = self.any(row);
        assert_eq!(self.words.next(), None, "what follows the condition");
        holds
    }

    fn any(&mut self, row: Option<&Row>) -> bool {
        let mut holds = self.all(row);
        while self.takes("OR") {
            holds |= self.all(row);
        }
        holds
    }

    fn all(&mut self, row: Option<&Row>) -> bool {
        let mut holds = self.one(row);
        while self.takes("AND") {
            holds &= self.one(row);
        }
        holds
    }

    fn one(&mut self, row: Option<&Row>) -> bool {
        if self.takes("(") {
            let holds = self.any(row);
            self.expect(")");
            return holds;
        }
        for (function, exists) in [("attribute_exists", true), ("attribute_not_exists", false)] {
            if self.takes(function) {
                self.expect("(");
                let name = self.name();
                self.expect(")");
                return row.is_some_and(|row| row.contains_key(&name)) == exists;
            }
        }
        let left = self.operand(row);
        self.expect("=");
        let right = self.operand(row);
        left.is_some() && left == right
    }

    /// The row as the update leaves it, and the attributes that it sets.
    pub(crate) fn updated(mut self, before: &Row) -> (Row, Vec<String>) {
        let (mut after, mut set) = (before.clone(), Vec::new());
        while self.words.peek().is_some() {
            let clause = self.word();
            loop {
                match clause.as_str() {
                    "SET" => set.push(self.set(before, &mut after)),
                    "REMOVE" => drop(after.remove(&self.name())),
                    "ADD" => self.add(before, &mut after),
                    other => panic!("an update without {other}"),
                }
                if !self.takes(",") {
                    break;
                }
            }
        }
        (after, set)
    }

    fn set(&mut self, before: &Row, after: &mut Row) -> String {
        let name = self.name();
        self.expect("=");
        let mut value = self.operand(Some(before)).expect("an operand that the row lacks");
        if self.takes("+") {
            let more = self.operand(Some(before)).expect("an operand that the row lacks");
            value = number(&value, &more);
        }
        after.insert(name.clone(), value);
        name
    }

    fn add(&mut self, before: &Row, after: &mut Row) {
        let name = self.name();
        let more = self.operand(None).expect("a value to add");
        let sum = before.get(&name).map_or_else(|| more.clone(), |value| number(value, &more));
        after.insert(name, sum);
    }
}

fn number(a: &Value, b: &Value) -> Value {
    let read = |value: &Value| value["N"].as_str().expect("a number").parse::<i64>().expect("a whole number");
    json!({"N": (read(a) + read(b)).to_string()})
}
