//! Tags of streams and consumers: AddTagsToStream, RemoveTagsFromStream and ListTagsForStream by the stream's name,
//! TagResource, UntagResource and ListTagsForResource by any ARN.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::{ServiceError, consumer_target, target};
use crate::emulator::{ACCOUNT, Shared};
use crate::stream::Streams;
use crate::stream::event::Event;
use crate::wire::validation::Validation;

pub(super) const TAGS_MAX: usize = 50;
/// Tags that one request can name at all.
const TAGS_PER_REQUEST_MAX: usize = 200;
const SYMBOLS: &str = "_./=+-%@:";
/// Keys that one request can remove.
const REMOVED_MAX: usize = 50;
const KEY_CHARS_MAX: usize = 128;
const VALUE_CHARS_MAX: usize = 256;

type Tags = BTreeMap<String, String>;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StreamTags {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    tags: Option<Tags>,
    tag_keys: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ResourceTags {
    #[serde(rename = "ResourceARN")]
    resource_arn: Option<String>,
    tags: Option<Tags>,
    tag_keys: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListForStream {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    exclusive_start_tag_key: Option<String>,
    limit: Option<i64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TagsOfStream {
    tags: Vec<Tag>,
    has_more_tags: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TagsOfResource {
    tags: Vec<Tag>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Tag {
    key: String,
    value: String,
}

impl Tag {
    fn new((key, value): (&String, &String)) -> Self {
        Self { key: key.clone(), value: value.clone() }
    }
}

/// What has tags.
struct Tagged {
    stream: String,
    consumer: Option<String>,
}

impl Tagged {
    fn stream(shared: &Shared, name: Option<&str>, arn: Option<&str>) -> Result<Self, ServiceError> {
        Ok(Self { stream: target::stream_name(shared, name, arn)?, consumer: None })
    }

    /// The stream or the consumer of that ARN.
    fn resource(shared: &Shared, arn: &str) -> Result<Self, ServiceError> {
        if !arn.contains("/consumer/") {
            return Self::stream(shared, None, Some(arn));
        }
        let name = consumer_target::consumer_name(shared, None, None, Some(arn))?;
        consumer_target::consumer(shared, &shared.store().streams, &name)?;
        Ok(Self { stream: name.stream, consumer: Some(name.consumer) })
    }

    fn tags<'a>(&self, streams: &'a Streams, now_ms: i64) -> Result<&'a Tags, ServiceError> {
        let stream = target::stream(streams, &self.stream)?;
        let Some(name) = &self.consumer else { return Ok(&stream.tags) };
        let consumer = stream.consumers.get(name, now_ms).map(|consumer| &consumer.tags);
        consumer.ok_or_else(|| ServiceError::resource_not_found(format!("Consumer {name} not found.")))
    }

    fn add(self, shared: &Shared, tags: Tags) -> Result<(), ServiceError> {
        let mut store = shared.store();
        let now = self.tags(&store.streams, shared.now_ms())?;
        check(&tags)?;
        let new = tags.keys().filter(|key| !now.contains_key(*key)).count();
        if now.len() + new > TAGS_MAX {
            return Err(too_many(&self.stream));
        }
        store.commit(Event::Tag { stream: self.stream, consumer: self.consumer, tags, removed: Vec::new() })
    }

    fn remove(self, shared: &Shared, removed: Vec<String>) -> Result<(), ServiceError> {
        let mut store = shared.store();
        self.tags(&store.streams, shared.now_ms())?;
        store.commit(Event::Tag { stream: self.stream, consumer: self.consumer, tags: Tags::new(), removed })
    }
}

/// Checks tags of a request, if there are any.
pub(super) fn validate(tags: Option<&Tags>, validation: &mut Validation) {
    let Some(tags) = tags else { return };
    validation.length("tags", tags.len(), 1..=TAGS_PER_REQUEST_MAX);
    validate_each(tags, validation);
}

/// Checks each tag by itself.
pub(super) fn validate_each(tags: &Tags, validation: &mut Validation) {
    for (key, value) in tags {
        validation.length("tags.key", key.chars().count(), 1..=KEY_CHARS_MAX).length(
            "tags.value",
            value.chars().count(),
            0..=VALUE_CHARS_MAX,
        );
    }
}

/// Checks what the service's constraints leave open: how many tags a stream can have, and what they consist of.
pub(super) fn check_new(stream: &str, tags: &Tags) -> Result<(), ServiceError> {
    if tags.len() > TAGS_MAX { Err(too_many(stream)) } else { check(tags) }
}

fn check(tags: &Tags) -> Result<(), ServiceError> {
    let is_allowed = |c: char| c.is_alphanumeric() || c.is_whitespace() || SYMBOLS.contains(c);
    for (key, value) in tags {
        if key.starts_with("aws:") {
            let message = format!("Tag key {key:?} is reserved: it starts with \"aws:\".");
            return Err(ServiceError::invalid_argument(message));
        }
        if !key.chars().chain(value.chars()).all(is_allowed) {
            let message =
                "Tags may only contain Unicode letters, digits, white space, or these symbols: _ . : / = + - % @.";
            return Err(ServiceError::invalid_argument(message));
        }
    }
    Ok(())
}

fn too_many(stream: &str) -> ServiceError {
    ServiceError::invalid_argument(format!(
        "Failed to add tags to stream {stream} under account {ACCOUNT} because a given stream cannot have more than \
         {TAGS_MAX} tags associated with it."
    ))
}

fn validate_keys(keys: Option<&Vec<String>>, validation: &mut Validation) {
    validation.required("tagKeys", keys).length("tagKeys", keys.map_or(1, Vec::len), 1..=REMOVED_MAX);
    for key in keys.into_iter().flatten() {
        validation.length("tagKeys.member", key.chars().count(), 1..=KEY_CHARS_MAX);
    }
}

pub(super) fn add_to_stream(shared: &Shared, request: StreamTags) -> Result<(), ServiceError> {
    let mut validation = Validation::default();
    validation
        .name("streamName", request.stream_name.as_deref())
        .stream_arn("streamARN", request.stream_arn.as_deref())
        .required("tags", request.tags.as_ref());
    validate(request.tags.as_ref(), &mut validation);
    validation.finish()?;
    let tagged = Tagged::stream(shared, request.stream_name.as_deref(), request.stream_arn.as_deref())?;
    tagged.add(shared, request.tags.unwrap_or_default())
}

pub(super) fn tag_resource(shared: &Shared, request: ResourceTags) -> Result<(), ServiceError> {
    let mut validation = Validation::default();
    validation
        .required("resourceARN", request.resource_arn.as_ref())
        .resource_arn("resourceARN", request.resource_arn.as_deref())
        .required("tags", request.tags.as_ref());
    validate(request.tags.as_ref(), &mut validation);
    validation.finish()?;
    Tagged::resource(shared, &request.resource_arn.unwrap_or_default())?.add(shared, request.tags.unwrap_or_default())
}

pub(super) fn remove_from_stream(shared: &Shared, request: StreamTags) -> Result<(), ServiceError> {
    let mut validation = Validation::default();
    validation
        .name("streamName", request.stream_name.as_deref())
        .stream_arn("streamARN", request.stream_arn.as_deref());
    validate_keys(request.tag_keys.as_ref(), &mut validation);
    validation.finish()?;
    let tagged = Tagged::stream(shared, request.stream_name.as_deref(), request.stream_arn.as_deref())?;
    tagged.remove(shared, request.tag_keys.unwrap_or_default())
}

pub(super) fn untag_resource(shared: &Shared, request: ResourceTags) -> Result<(), ServiceError> {
    let mut validation = Validation::default();
    validation
        .required("resourceARN", request.resource_arn.as_ref())
        .resource_arn("resourceARN", request.resource_arn.as_deref());
    validate_keys(request.tag_keys.as_ref(), &mut validation);
    validation.finish()?;
    let tagged = Tagged::resource(shared, &request.resource_arn.unwrap_or_default())?;
    tagged.remove(shared, request.tag_keys.unwrap_or_default())
}

pub(super) fn list_for_stream(shared: &Shared, request: &ListForStream) -> Result<TagsOfStream, ServiceError> {
    let after = request.exclusive_start_tag_key.as_deref();
    Validation::default()
        .name("streamName", request.stream_name.as_deref())
        .stream_arn("streamARN", request.stream_arn.as_deref())
        .length("exclusiveStartTagKey", after.map_or(1, |key| key.chars().count()), 1..=KEY_CHARS_MAX)
        .number("limit", request.limit, 1..=50)
        .finish()?;
    let tagged = Tagged::stream(shared, request.stream_name.as_deref(), request.stream_arn.as_deref())?;
    let store = shared.store();
    let all = tagged.tags(&store.streams, shared.now_ms())?;
    let limit = request.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(TAGS_MAX);
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let mut following = all.range::<str, _>((from, Bound::Unbounded));
    let tags = following.by_ref().take(limit).map(Tag::new).collect();
    Ok(TagsOfStream { tags, has_more_tags: following.next().is_some() })
}

pub(super) fn list_for_resource(shared: &Shared, request: &ResourceTags) -> Result<TagsOfResource, ServiceError> {
    Validation::default()
        .required("resourceARN", request.resource_arn.as_ref())
        .resource_arn("resourceARN", request.resource_arn.as_deref())
        .finish()?;
    let tagged = Tagged::resource(shared, request.resource_arn.as_deref().unwrap_or_default())?;
    let store = shared.store();
    Ok(TagsOfResource { tags: tagged.tags(&store.streams, shared.now_ms())?.iter().map(Tag::new).collect() })
}
