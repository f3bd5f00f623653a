//! Changes of some attributes of an item, and what several of them make together.

use std::collections::{BTreeMap, HashMap};

use kinesink_aws::dynamodb::types::AttributeValue;
use kinesink_core::Reject;

use super::attributes::{Attributes, elements_bytes, type_of, value_bytes};
use super::config::{Changes, REFUSED};
use super::notes::DELETE_NOTES;
use super::number::Decimal;

/// What the service takes of the text of an expression, and of operators and functions in it.
const EXPRESSION_BYTES_MAX: usize = 4096;
pub(super) const OPERATORS_MAX: usize = 300;

impl Changes {
    /// Whether each record counts, also one that is made behind later ones.
    pub(super) fn counts(&self) -> bool {
        !self.add.is_empty() || !self.append.is_empty()
    }

    /// Whether one request can change all of them, and say at which rank it did.
    #[must_use]
    pub fn fit_in_a_request(&self) -> bool {
        let mut update = Update::of_all(self, |_| AttributeValue::Null(true));
        for own in [".rank", ".expiry"] {
            // No field has such a name: one at the top is without dots in `set`, `add` and `append`.
            update.set(own, AttributeValue::Null(true));
        }
        let text = update.expression(&[".mark"]).text;
        // What is appended has an assignment and two functions. Five are the rank's, the expiry's, the mark's and the refusals'.
        let operators = self.set.len() + self.add.len() + 3 * self.append.len() + 5;
        text.len() + DELETE_NOTES.len() <= EXPRESSION_BYTES_MAX && operators <= OPERATORS_MAX
    }
}

/// What one record changes of its item, or several in their order.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Update {
    set: BTreeMap<String, AttributeValue>,
    add: BTreeMap<String, Decimal>,
    append: BTreeMap<String, Vec<AttributeValue>>,
    /// What the item gets unless it has it.
    default: BTreeMap<String, AttributeValue>,
    /// Positions of changes before these that were refused.
    pub(super) refused: Vec<String>,
}

/// An update as a request has it.
#[derive(Debug)]
pub(super) struct Expression {
    pub(super) text: String,
    pub(super) names: HashMap<String, String>,
    pub(super) values: HashMap<String, AttributeValue>,
}

impl Update {
    /// What the record has of the attributes that change. A field that it lacks changes nothing.
    pub(super) fn of(changes: &Changes, attributes: &mut Attributes) -> Result<Self, Reject> {
        let mut update = Self::default();
        for name in &changes.set {
            if let Some(value) = attributes.remove(name) {
                update.set.insert(name.clone(), value);
            }
        }
        for name in &changes.add {
            let number = match attributes.remove(name) {
                None => continue,
                Some(AttributeValue::N(number)) => Decimal::parse(&number).map_err(|why| why.to_string()),
                Some(other) => Err(type_of(&other).to_owned()),
            };
            let number =
                number.map_err(|what| Reject::new(format!("its field {name}, which is added up, is {what}")))?;
            update.add.insert(name.clone(), number);
        }
        for name in &changes.append {
            let values = match attributes.remove(name) {
                None => continue,
                Some(AttributeValue::L(values)) => values,
                Some(value) => vec![value],
            };
            update.append.insert(name.clone(), values);
        }
        Ok(update)
    }

    /// All that a record can change, and a change that was refused.
    pub(super) fn of_all(changes: &Changes, value: impl Fn(&str) -> AttributeValue) -> Self {
        Self {
            set: changes.set.iter().map(|name| (name.clone(), value(name))).collect(),
            add: changes.add.iter().map(|name| (name.clone(), Decimal::ZERO)).collect(),
            append: changes.append.iter().map(|name| (name.clone(), Vec::new())).collect(),
            refused: vec!["0".into()],
            ..Self::default()
        }
    }

    pub(super) fn set(&mut self, name: &str, value: AttributeValue) {
        self.set.insert(name.to_owned(), value);
    }

    pub(super) fn set_default(&mut self, name: &str, value: AttributeValue) {
        self.default.insert(name.to_owned(), value);
    }

    /// This one, then a later one. Says whether one request can do both, and changes nothing where it cannot, as where a sum has
    /// too many digits.
    pub(super) fn absorb(&mut self, later: Self) -> bool {
        let mut sums = BTreeMap::new();
        for (name, number) in later.add {
            let sum = self.add.get(&name).map_or(Some(number), |before| before.checked_add(number));
            let Some(sum) = sum else { return false };
            sums.insert(name, sum);
        }
        self.add.extend(sums);
        self.set.extend(later.set);
        for (name, values) in later.append {
            self.append.entry(name).or_default().extend(values);
        }
        true
    }

    /// What it adds and appends, which counts whenever it is made; nothing where that is nothing. What it sets, later changes have.
    pub(super) fn counted(mut self) -> Option<Self> {
        self.set.clear();
        (!self.add.is_empty() || !self.append.is_empty()).then_some(self)
    }

    /// The request's expression. `remove` are attributes that go, unless they are set.
    pub(super) fn expression(self, remove: &[&str]) -> Expression {
        let mut expression = Expression { text: String::new(), names: HashMap::new(), values: HashMap::new() };
        let remove: Vec<_> = remove.iter().filter(|name| !self.set.contains_key(**name)).collect();
        let mut sets = Vec::new();
        for (name, value) in self.set {
            let place = expression.name(&name);
            sets.push(format!("#n{place} = :v{place}"));
            expression.values.insert(format!(":v{place}"), value);
        }
        for (name, value) in self.default {
            let place = expression.name(&name);
            sets.push(format!("#n{place} = if_not_exists(#n{place}, :v{place})"));
            expression.values.insert(format!(":v{place}"), value);
        }
        for (name, values) in self.append {
            let place = expression.name(&name);
            sets.push(format!("#n{place} = list_append(if_not_exists(#n{place}, :none), :v{place})"));
            expression.values.insert(":none".into(), AttributeValue::L(Vec::new()));
            expression.values.insert(format!(":v{place}"), AttributeValue::L(values));
        }
        let mut adds = Vec::new();
        for (name, number) in self.add {
            let place = expression.name(&name);
            adds.push(format!("#n{place} :v{place}"));
            expression.values.insert(format!(":v{place}"), AttributeValue::N(number.to_string()));
        }
        if !self.refused.is_empty() {
            let place = expression.name(REFUSED);
            adds.push(format!("#n{place} :v{place}"));
            expression.values.insert(format!(":v{place}"), AttributeValue::Ss(self.refused));
        }
        let removes: Vec<_> = remove.into_iter().map(|name| format!("#n{}", expression.name(name))).collect();
        for (clause, parts) in [("SET", sets), ("ADD", adds), ("REMOVE", removes)] {
            if !parts.is_empty() {
                expression.text.push_str(&format!("{clause} {} ", parts.join(", ")));
            }
        }
        expression.text = expression.text.trim_end().to_owned();
        expression
    }

    /// Of what it sets, appends and notes, as it counts towards an item's size.
    pub(super) fn bytes(&self) -> usize {
        let set = self.set.iter().map(|(name, value)| name.len() + value_bytes(value));
        let appended = self.append.iter().map(|(name, values)| name.len() + elements_bytes(values));
        set.chain(appended).chain(self.refused.iter().map(String::len)).sum()
    }

    /// What the item has afterwards, whatever it had before.
    pub(super) fn sets(&self) -> Attributes {
        self.set.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

impl Expression {
    /// The place by which a name stands: no name of an attribute is a reserved word then.
    fn name(&mut self, name: &str) -> usize {
        let place = self.names.len();
        self.names.insert(format!("#n{place}"), name.to_owned());
        place
    }
}
