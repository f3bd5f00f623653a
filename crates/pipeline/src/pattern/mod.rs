//! Event patterns, in the syntax of Lambda event filters, as a filter.
//!
//! - `rule`: one pattern, read and expanded

mod rule;
#[cfg(test)]
mod tests;

use std::fmt;

use kinesink_core::Filter;
use quamina::Quamina;
use serde_json::Value;

use self::rule::Rule;
use crate::{Error, Event, Needs};

/// Keeps the events that one of its patterns matches.
///
/// A pattern is what AWS Lambda takes for a Kinesis event source: `{"data": {...}, "partitionKey": [...]}`, with the
/// matchers of EventBridge (exact values, `prefix`, `suffix`, `anything-but`, `numeric`, `exists`,
/// `equals-ignore-case`, `wildcard`, `cidr`) and `$or`. `data` as an object asks for JSON; as a list it matches the
/// data as text. `data` is what the transformer made.
///
/// ```
/// use kinesink_pipeline::PatternFilter;
/// let pattern = serde_json::json!({"data": {"type": ["click"], "price": [{"numeric": [">", 10]}]}});
/// let filter = PatternFilter::new(&[pattern])?;
/// assert!(filter.needs().json);
/// # Ok::<(), kinesink_pipeline::Error>(())
/// ```
///
/// Limits: `$or` may expand to 1,000 patterns. In Lambda, data that is not JSON is dropped where a pattern asks for
/// JSON; here the transformer rejects it, so that it is not lost silently.
pub struct PatternFilter {
    rules: Vec<Rule>,
    /// The `data` objects of all rules at once; ids are indexes of rules.
    data: Quamina<usize>,
}

impl PatternFilter {
    /// Reads the patterns, of which one must match.
    ///
    /// # Errors
    /// [`Error::Pattern`] names the part that is not one.
    pub fn new(patterns: &[Value]) -> Result<Self, Error> {
        let mut rules = Vec::new();
        let mut data = Quamina::new();
        for pattern in patterns {
            for (rule, data_pattern) in rule::read(pattern)? {
                if let Some(pattern) = data_pattern {
                    rule::add(&mut data, rules.len(), &pattern)?;
                }
                rules.push(rule);
            }
        }
        Ok(Self { rules, data })
    }

    /// What the transformer before it has to provide.
    #[must_use]
    pub fn needs(&self) -> Needs {
        Needs {
            json: self.rules.iter().any(|rule| rule.data),
            partition_key: self.rules.iter().any(|rule| rule.partition_key.is_some()),
            lines: false,
        }
    }
}

impl Filter<Event> for PatternFilter {
    fn keep(&self, event: &Event) -> bool {
        // Data that is not JSON matches no object.
        let matched =
            if self.needs_data() { self.data.matches_for_event(&event.data).unwrap_or_default() } else { Vec::new() };
        let holds = |(id, rule): (usize, &Rule)| {
            (!rule.has_present || matched.contains(&id))
                && rule.matches_text(event)
                && rule.matches_absence(&event.data)
        };
        self.rules.iter().enumerate().any(holds)
    }
}

impl PatternFilter {
    fn needs_data(&self) -> bool {
        !self.data.is_empty()
    }
}

impl fmt::Debug for PatternFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PatternFilter").field("patterns", &self.rules.len()).finish_non_exhaustive()
    }
}
