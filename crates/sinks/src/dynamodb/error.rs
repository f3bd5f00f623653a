//! Judges what DynamoDB answers: once, here.

use std::error::Error as StdError;

use kinesink_aws::dynamodb::error::ProvideErrorMetadata;
use kinesink_aws::dynamodb::operation::batch_write_item::BatchWriteItemError;
use kinesink_aws::dynamodb::operation::put_item::PutItemError;
use kinesink_aws::dynamodb::operation::transact_write_items::TransactWriteItemsError;
use kinesink_aws::dynamodb::operation::update_item::UpdateItemError;
use kinesink_aws::dynamodb::types::{CancellationReason, ThrottlingReason};
use kinesink_aws::{HttpResponse, SdkError, code, failure, is_throttle};
use kinesink_core::{Failure, Reject};

pub(super) const CONDITION_FAILED: &str = "ConditionalCheckFailedException";
/// Of one item of a transaction.
pub(super) const CONDITION_FAILED_OF_MANY: &str = "ConditionalCheckFailed";
const ACCESS_DENIED: &str = "AccessDeniedException";
const VALIDATION: &str = "ValidationException";
/// A status of HTTP.
const TOO_LARGE: u16 = 413;

/// What the service says of an item that is at fault. Some of it quotes what was sent.
const OF_THE_ITEM: &[&str] = &[
    "The parameter cannot be converted to a numeric value",
    "Supplied AttributeValue",
    "Type mismatch for attribute to update",
    "ExpressionAttributeValues contains invalid value",
    "Input collection",
];
/// The same, without quoting it.
const SAYABLE: &[&str] = &[
    "An operand in the update expression has an incorrect data type",
    "Attempting to store more than 38 significant digits in a Number",
    "Item size",
    "Nesting Levels",
    "Number overflow",
    "Number underflow",
    "One or more parameter values are not valid",
    "One or more parameter values were invalid",
];
/// What it says where an item does not go with the table as it is now.
const OF_THE_KEY: &[&str] = &[
    "The provided key element does not match the schema",
    "The number of conditions on the keys is invalid",
    "Missing the key",
    "Type mismatch for key",
    "One of the required keys was not given a value",
];

/// Which limit was met, by the end of the service's reason, and what to do about it.
const LIMITS: &[(&str, Throttle, &str)] = &[
    (
        "KeyRangeThroughputExceeded",
        Throttle::KeyRange,
        "some keys are written more often than any key may be: write them less often, or divide them",
    ),
    ("MaxOnDemandThroughputExceeded", Throttle::Table, "raise the table's maximum throughput"),
    ("AccountLimitExceeded", Throttle::Account, "raise the account's quota of write throughput"),
    ("ProvisionedThroughputExceeded", Throttle::Table, "raise the table's write capacity, or pay by the request"),
];

/// Whose limit was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Throttle {
    /// That of some keys: others have room.
    KeyRange,
    Table,
    Account,
    /// That of one key, or of the table that it is in: of an item of a transaction, the service does not say which.
    KeyOrTable,
    /// The service does not say.
    Unknown,
}

impl Throttle {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::KeyRange => "key-range",
            Self::Table => "table",
            Self::Account => "account",
            Self::KeyOrTable | Self::Unknown => "unknown",
        }
    }
}

/// A request, as policies call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    BatchWriteItem,
    CreateTable,
    DescribeTable,
    DescribeTimeToLive,
    PutItem,
    UpdateItem,
    UpdateTimeToLive,
}

impl Action {
    pub(super) fn name(self) -> String {
        format!("dynamodb:{self:?}")
    }

    /// What it does to a table, as a verb phrase.
    fn attempt(self) -> &'static str {
        match self {
            Self::BatchWriteItem => "put items into",
            Self::CreateTable => "create",
            Self::DescribeTable => "describe",
            Self::DescribeTimeToLive => "see whether items expire in",
            Self::PutItem => "put an item into",
            Self::UpdateItem => "update an item in",
            Self::UpdateTimeToLive => "turn on the expiry of items in",
        }
    }

    /// The statement of a policy that allows it.
    fn policy(self, table: &str) -> String {
        let (action, resource) = (self.name(), format!("arn:aws:dynamodb:*:*:table/{table}"));
        format!(r#"{{"Effect": "Allow", "Action": "{action}", "Resource": "{resource}"}}"#)
    }
}

/// A write that says why it was throttled.
pub(super) trait Throttled {
    /// Empty for what was not, or by a service that does not say.
    fn reasons(&self) -> &[ThrottlingReason];
}

macro_rules! throttled {
    ($($error:ty),*) => {
        $(impl Throttled for $error {
            fn reasons(&self) -> &[ThrottlingReason] {
                match self {
                    Self::ProvisionedThroughputExceededException(error) => error.throttling_reasons(),
                    Self::RequestLimitExceeded(error) => error.throttling_reasons(),
                    Self::ThrottlingException(error) => error.throttling_reasons(),
                    _ => &[],
                }
            }
        })*
    };
}

throttled!(PutItemError, UpdateItemError, BatchWriteItemError, TransactWriteItemsError);

/// What an answer means for what was sent.
#[derive(Debug, Clone)]
pub(super) enum Verdict {
    /// The items are at fault.
    Refused(Reject),
    /// The items are, for a reason that is not known here, or the service takes no such request, as it said.
    Unclear { why: Reject, said: String },
    /// The table is not as it was described: ask again before anything else.
    Changed(Failure),
    /// There was no room in that table.
    Throttled { table: String, limit: Throttle, failure: Failure },
    /// The request is at fault, or passes.
    Failed(Failure),
}

impl Verdict {
    /// Where no item can be at fault, or is.
    pub(super) fn into_failure(self) -> Failure {
        match self {
            Self::Refused(why) => Failure::configuration(why.to_string()),
            Self::Unclear { said, .. } => Failure::configuration(said),
            Self::Changed(failure) | Self::Throttled { failure, .. } | Self::Failed(failure) => failure,
        }
    }

    /// Why it is sent again, if it is.
    pub(super) fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Changed(failure) | Self::Throttled { failure, .. } | Self::Failed(failure) => Some(failure),
            Self::Refused(_) | Self::Unclear { .. } => None,
        }
    }
}

/// Judges the answer to a write.
pub(super) fn write<E>(action: Action, table: &str, error: &SdkError<E, HttpResponse>) -> Verdict
where
    E: ProvideErrorMetadata + Throttled + StdError + 'static,
{
    let message = message(error);
    match code(error) {
        // The front of the service, which gives no code.
        None if status(error) == Some(TOO_LARGE) => Verdict::Refused(Reject::new(format!(
            "table {table} refuses the item: a request with it is larger than the 16 MB of one"
        ))),
        Some(VALIDATION) => invalid(action, table, message),
        Some("ItemCollectionSizeLimitExceededException") => collection(table),
        Some("ResourceNotFoundException") => Verdict::Changed(missing(action, table)),
        Some("ReplicatedWriteConflictException" | "TransactionInProgressException") => conflict(action, table),
        _ => {
            let mut failure = refused(action, table, error);
            if !is_throttle(error) {
                return Verdict::Failed(failure);
            }
            let (limit, of_table, said) = limits(error);
            failure.message.push_str(&said);
            Verdict::Throttled { table: of_table.unwrap_or_else(|| table.to_owned()), limit, failure }
        }
    }
}

/// Judges one item's reason why a transaction was cancelled; none where that was not because of it, or its condition did not hold.
pub(super) fn cancelled(action: Action, table: &str, reason: &CancellationReason) -> Option<Verdict> {
    let message = reason.message().unwrap_or_default();
    match reason.code() {
        None | Some("None" | CONDITION_FAILED_OF_MANY) => None,
        Some("ValidationError") => Some(invalid(action, table, message)),
        Some("ItemCollectionSizeLimitExceeded") => Some(collection(table)),
        Some("TransactionConflict") => Some(conflict(action, table)),
        Some(code) => {
            let attempt = action.attempt();
            let failure = Failure::transient(format!("cannot {attempt} table {table}: {code}: {message}"));
            let is_throttle = matches!(code, "ProvisionedThroughputExceeded" | "ThrottlingError");
            Some(if is_throttle {
                Verdict::Throttled { table: table.to_owned(), limit: Throttle::KeyOrTable, failure }
            } else {
                Verdict::Failed(failure)
            })
        }
    }
}

/// What the service finds wrong with what was sent.
fn invalid(action: Action, table: &str, message: &str) -> Verdict {
    if OF_THE_KEY.iter().any(|text| message.contains(text)) {
        let attempt = action.attempt();
        return Verdict::Changed(Failure::configuration(format!(
            "cannot {attempt} table {table}: its key is not the one that it had at the start: mend `key`, or restore the table"
        )));
    }
    let starts_with = |texts: &[&str]| texts.iter().any(|text| message.starts_with(text));
    let is_sayable = starts_with(SAYABLE);
    let why = if is_sayable && !message.contains('[') {
        message.trim_end_matches('.')
    } else {
        "it says that the item is not valid"
    };
    let why = Reject::new(format!("table {table} refuses the item: {why}"));
    if is_sayable || starts_with(OF_THE_ITEM) {
        return Verdict::Refused(why);
    }
    let attempt = action.attempt();
    let said =
        format!("cannot {attempt} table {table}: the service takes no such request, of no item: it says: {message}");
    Verdict::Unclear { why, said }
}

/// Items of one hash key are too many.
fn collection(table: &str) -> Verdict {
    Verdict::Refused(Reject::new(format!(
        "table {table} refuses the item: the items of its hash key are more than 10 GB, the most beside a local index"
    )))
}

/// Two writes of an item met.
fn conflict(action: Action, table: &str) -> Verdict {
    let attempt = action.attempt();
    Verdict::Failed(Failure::transient(format!("cannot {attempt} table {table}: another write is on its way")))
}

/// Which limits were met, of which table if it says so, and what to do. Where some keys are at theirs and more is, what is more counts.
fn limits<E: Throttled>(error: &SdkError<E, HttpResponse>) -> (Throttle, Option<String>, String) {
    let (mut throttle, mut table, mut said) = (Throttle::Unknown, None, String::new());
    let SdkError::ServiceError(service) = error else { return (throttle, table, said) };
    for of_one in service.err().reasons() {
        let Some(reason) = of_one.reason() else { continue };
        let Some((_, limit, remedy)) = LIMITS.iter().find(|(limit, ..)| reason.ends_with(limit)) else {
            said.push_str(&format!("; {reason}"));
            continue;
        };
        said.push_str(&format!("; {reason}: {remedy}"));
        if *limit != Throttle::KeyRange || throttle == Throttle::Unknown {
            (throttle, table) = (*limit, of_one.resource().and_then(table_of));
        }
    }
    (throttle, table, said)
}

/// The table that an ARN is of, or of an index of which.
fn table_of(arn: &str) -> Option<String> {
    let (_, path) = arn.split_once(":table/")?;
    path.split('/').next().map(str::to_owned)
}

/// Judges the answer to a transaction that is tried: of an item, and of its guard in another table.
pub(super) fn transaction<E>(table: &str, guards: &str, error: &SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    let mut failure = failure("count in", &format!("table {table} together with table {guards}"), error);
    match code(error) {
        Some(ACCESS_DENIED) => {
            let policies = [Action::UpdateItem.policy(table), Action::PutItem.policy(guards)].join(", ");
            failure.message.push_str(&format!(": {policies}"));
        }
        Some("UnknownOperationException") => failure.message.push_str("; name a service that has transactions"),
        _ => {}
    }
    failure
}

/// Judges the answer to what is not a write.
pub(super) fn other<E>(action: Action, table: &str, error: &SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    match code(error) {
        Some("ResourceNotFoundException") => missing(action, table),
        _ => refused(action, table, error),
    }
}

fn refused<E>(action: Action, table: &str, error: &SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    let mut failure = failure(action.attempt(), &format!("table {table}"), error);
    if code(error) == Some(ACCESS_DENIED) {
        failure.message.push_str(&format!(": {}", action.policy(table)));
    }
    failure
}

fn missing(action: Action, table: &str) -> Failure {
    let attempt = action.attempt();
    Failure::configuration(format!(
        "cannot {attempt} table {table}: there is none of this name: create it, as `kinesink run FILE --create` does, or mend \
         `table`, `region` or the account"
    ))
}

fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

fn message<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> &str {
    match error {
        SdkError::ServiceError(service) => service.err().message().unwrap_or_default(),
        _ => "",
    }
}
