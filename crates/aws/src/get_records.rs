//! GetRecords with its reply as text: parsing it is what a consumer spends most of its time on, so it parses itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::operation::get_records::GetRecordsError;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextMut;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::{ConnectorError, SdkError};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

/// 10 MiB of data in base64, and 10,000 partition keys of 256 characters.
const REPLY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How long the body may take once the service has answered.
const BODY_MAX: Duration = Duration::from_secs(30);
/// What the SDK parses instead.
const EMPTY_REPLY: &str = r#"{"Records":[]}"#;

/// One GetRecords call: the SDK's in all but one thing, which is that the JSON of a successful reply is handed over
/// unparsed, in `text`.
///
/// # Errors
/// As from the SDK's call; a body that does not arrive whole, within 30 seconds and 32 MiB, is a failed dispatch.
///
/// # Cancel safety
/// Dropping the future gives the reply up; the iterator can be used again.
pub async fn get_records(
    client: &Client,
    iterator: &str,
    limit: i32,
    mut text: Vec<u8>,
) -> Result<Vec<u8>, SdkError<GetRecordsError, HttpResponse>> {
    let taken = TakenBody::default();
    let request = client.get_records().shard_iterator(iterator).limit(limit);
    request.customize().interceptor(taken.clone()).send().await?;
    let whole = tokio::time::timeout(BODY_MAX, collect(taken.take(), &mut text)).await;
    let broken = |error: BoxError| SdkError::dispatch_failure(ConnectorError::io(error));
    match whole {
        Ok(read) => read.map(|()| text).map_err(broken),
        Err(_) => Err(SdkError::timeout_error(format!("the reply's body took more than {} s", BODY_MAX.as_secs()))),
    }
}

async fn collect(body: SdkBody, text: &mut Vec<u8>) -> Result<(), BoxError> {
    let expected = body.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    text.clear();
    text.reserve(expected.min(REPLY_BYTES_MAX));
    let mut body = Limited::new(body, REPLY_BYTES_MAX);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            if error.is::<LengthLimitError>() {
                format!("a reply of more than {REPLY_BYTES_MAX} bytes").into()
            } else {
                error
            }
        })?;
        if let Some(data) = frame.data_ref() {
            text.extend_from_slice(data);
        }
    }
    Ok(())
}

/// The body of the call's reply, once the service has answered.
#[derive(Debug, Clone, Default)]
struct TakenBody(Arc<Mutex<Option<SdkBody>>>);

impl TakenBody {
    fn put(&self, body: SdkBody) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
    }

    fn take(&self) -> SdkBody {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_else(SdkBody::empty)
    }
}

impl Intercept for TakenBody {
    fn name(&self) -> &'static str {
        "TakenBody"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response_mut();
        // An error is the SDK's to parse.
        if response.status().is_success() {
            self.put(std::mem::replace(response.body_mut(), SdkBody::from(EMPTY_REPLY)));
        }
        Ok(())
    }
}
