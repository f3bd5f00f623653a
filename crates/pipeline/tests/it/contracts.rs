//! What this crate brings keeps the contracts that a user's own would.

use std::time::Duration;

use kinesink_core::testkit::{BufferLimits, buffer_contract, sample_record, sample_shard, transformer_contract};
use kinesink_pipeline::{Needs, Raw, WindowBuffer, WindowLimits};

#[tokio::test(start_paused = true)]
async fn the_window_buffer_keeps_the_buffers_contract() {
    let (records, bytes, age) = (7, 4_096, Duration::from_secs(3));
    let make = || WindowBuffer::new(WindowLimits { records, bytes, age });
    let limits = BufferLimits { records: Some(records), bytes: Some(bytes), age: Some(age) };
    buffer_contract(make, limits, |_| ()).unwrap();
}

#[test]
fn raw_keeps_the_transformers_contract() {
    let samples = [sample_record(&sample_shard(1), 1, "{\"a\":1}"), sample_record(&sample_shard(1), 2, "text")];
    for json in [false, true] {
        transformer_contract(|| Raw::new(Needs { json, partition_key: true, lines: !json }), &samples).unwrap();
    }
}

#[cfg(feature = "jq")]
#[test]
fn jq_keeps_the_transformers_contract() {
    let samples = [sample_record(&sample_shard(1), 1, "{\"a\":[1,2]}"), sample_record(&sample_shard(1), 2, "[]")];
    for program in [".", ".a[]", "{now: now, shard: $shard}", "error(.)"] {
        transformer_contract(|| kinesink_pipeline::Jq::new(program, Needs::default()).unwrap(), &samples).unwrap();
    }
}

#[cfg(feature = "pattern")]
#[test]
fn the_pattern_filter_keeps_the_filters_contract() {
    use kinesink_core::testkit::filter_contract;
    use kinesink_pipeline::{Event, PatternFilter};

    let patterns = [serde_json::json!({"data": {"a": [1, {"exists": false}]}, "partitionKey": ["k"]})];
    let event = |data: &'static str| Event { data: data.into(), partition_key: Some("k".into()) };
    let models = [event("{\"a\":1}"), event("{\"a\":2}"), event("{}"), event("not json")];
    filter_contract(|| PatternFilter::new(&patterns).unwrap(), &models).unwrap();
}
