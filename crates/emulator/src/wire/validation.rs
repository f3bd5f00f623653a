//! Constraints that the service checks before it looks at anything: one error that lists every violation.

use std::fmt::Display;
use std::ops::RangeInclusive;

use super::service_error::ServiceError;

/// Gathers the violations of one request.
#[derive(Debug, Default)]
pub(crate) struct Validation {
    violations: Vec<String>,
}

/// Violations that one message lists; a request of 500 bad records needs no longer one.
const VIOLATIONS_LISTED_MAX: usize = 10;
/// Characters of a refused value that a message repeats.
const VALUE_CHARS_MAX: usize = 200;

/// Whether the text is a decimal number of at most so many digits, without a leading zero.
pub(crate) fn is_number(text: &str, digits_max: usize) -> bool {
    let is_plain = text == "0" || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()));
    is_plain && (1..=digits_max).contains(&text.len())
}

impl Validation {
    fn violation(&mut self, value: impl Display, member: &str, constraint: impl Display) {
        let value: String = value.to_string().chars().take(VALUE_CHARS_MAX).collect();
        self.violations
            .push(format!("Value {value} at '{member}' failed to satisfy constraint: Member must {constraint}"));
    }

    /// The member is there.
    pub(crate) fn required<T>(&mut self, member: &str, value: Option<&T>) -> &mut Self {
        if value.is_none() {
            self.violation("null", member, "not be null");
        }
        self
    }

    /// The number, if it is there, is in the range.
    pub(crate) fn number(&mut self, member: &str, value: Option<i64>, range: RangeInclusive<i64>) -> &mut Self {
        value.into_iter().for_each(|value| self.range(format_args!("'{value}'"), member, "have value", &value, &range));
        self
    }

    /// The length, of a value that is too long or too secret to show, is in the range.
    pub(crate) fn length(&mut self, member: &str, length: usize, range: RangeInclusive<usize>) -> &mut Self {
        self.range("'[...]'", member, "have length", &length, &range);
        self
    }

    fn range<T: Display + PartialOrd>(
        &mut self,
        shown: impl Display,
        member: &str,
        what: &str,
        value: &T,
        range: &RangeInclusive<T>,
    ) {
        if value < range.start() {
            self.violation(shown, member, format_args!("{what} greater than or equal to {}", range.start()));
        } else if value > range.end() {
            self.violation(shown, member, format_args!("{what} less than or equal to {}", range.end()));
        }
    }

    /// The text, if it is there, is a name of a stream or an id of a shard.
    pub(crate) fn name(&mut self, member: &str, value: Option<&str>) -> &mut Self {
        let Some(value) = value else { return self };
        if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)) {
            let constraint = "satisfy regular expression pattern: [a-zA-Z0-9_.-]+";
            self.violation(format_args!("'{value}'"), member, constraint);
        }
        self.length(member, value.chars().count(), 1..=128)
    }

    /// The text, if it is there, is the ARN of a stream.
    pub(crate) fn stream_arn(&mut self, member: &str, value: Option<&str>) -> &mut Self {
        self.arn(member, value, |rest| rest.starts_with("stream/"), "arn:aws.*:kinesis:.*:\\d{12}:stream/\\S+")
    }

    /// The text, if it is there, is the ARN of a consumer.
    pub(crate) fn consumer_arn(&mut self, member: &str, value: Option<&str>) -> &mut Self {
        let is_consumer = |rest: &str| {
            let number = rest.rsplit_once(':').map(|(_, number)| number).unwrap_or_default();
            rest.starts_with("stream/") && rest.contains("/consumer/") && number.parse::<u64>().is_ok()
        };
        let pattern = "^(arn):aws.*:kinesis:.*:\\d{12}:.*stream\\/[a-zA-Z0-9_.-]+\\/consumer\\/[a-zA-Z0-9_.-]+:[0-9]+";
        self.arn(member, value, is_consumer, pattern)
    }

    fn arn(&mut self, member: &str, value: Option<&str>, is_kind: impl Fn(&str) -> bool, pattern: &str) -> &mut Self {
        let Some(value) = value else { return self };
        let mut parts = value.splitn(6, ':');
        let (arn, partition, service) = (parts.next(), parts.next(), parts.next());
        let (_region, account, rest) = (parts.next(), parts.next(), parts.next());
        let is_account = |text: &str| text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
        let is_arn = arn == Some("arn")
            && partition.is_some_and(|partition| partition.starts_with("aws"))
            && service == Some("kinesis")
            && account.is_some_and(is_account)
            && rest.is_some_and(|rest| is_kind(rest) && !rest.contains(char::is_whitespace));
        if !is_arn {
            self.violation(
                format_args!("'{value}'"),
                member,
                format_args!("satisfy regular expression pattern: {pattern}"),
            );
        }
        self
    }

    /// The text, if it is there, is the ARN of anything that can have tags.
    pub(crate) fn resource_arn(&mut self, member: &str, value: Option<&str>) -> &mut Self {
        self.arn(member, value, |rest| rest.starts_with("stream/"), "arn:aws.*:kinesis:.*:\\d{12}:.*stream/\\S+")
    }

    /// The text, if it is there, is a decimal number of at most so many digits, without a leading zero.
    pub(crate) fn digits(&mut self, member: &str, value: Option<&str>, digits_max: usize) -> &mut Self {
        if let Some(value) = value
            && !is_number(value, digits_max)
        {
            let pattern = format!("satisfy regular expression pattern: 0|([1-9]\\d{{0,{}}})", digits_max - 1);
            self.violation(format_args!("'{value}'"), member, pattern);
        }
        self
    }

    /// The text, if it is there, is one of the words.
    pub(crate) fn one_of(&mut self, member: &str, value: Option<&str>, words: &[&str]) -> &mut Self {
        if let Some(value) = value
            && !words.contains(&value)
        {
            let constraint = format!("satisfy enum value set: [{}]", words.join(", "));
            self.violation(format_args!("'{value}'"), member, constraint);
        }
        self
    }

    /// The error, if anything was violated.
    pub(crate) fn finish(&self) -> Result<(), ServiceError> {
        let (count, plural) = match self.violations.len() {
            0 => return Ok(()),
            1 => (1, ""),
            count => (count, "s"),
        };
        let listed = self.violations.iter().take(VIOLATIONS_LISTED_MAX).cloned().collect::<Vec<_>>().join("; ");
        Err(ServiceError::validation(format!("{count} validation error{plural} detected: {listed}")))
    }
}
