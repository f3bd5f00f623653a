use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::{Blob, DateTime};
use aws_sdk_kinesis::types::{Shard, ShardFilter, ShardFilterType, ShardIteratorType};

use crate::client::{STREAM, code, create, emulator, get, in_process, put_one, shard_ids, start, texts, trim_horizon};

const HALF: u128 = 1 << 127;

async fn split(client: &Client, shard: &str, at: u128) {
    let request = client.split_shard().stream_name(STREAM).shard_to_split(shard);
    request.new_starting_hash_key(at.to_string()).send().await.unwrap();
}

async fn merge(client: &Client, shard: &str, adjacent: &str) {
    let request = client.merge_shards().stream_name(STREAM).shard_to_merge(shard);
    request.adjacent_shard_to_merge(adjacent).send().await.unwrap();
}

fn id(number: u32) -> String {
    format!("shardId-{number:012}")
}

async fn put_at(client: &Client, hash_key: u128, data: &str) -> String {
    let put = client.put_record().stream_name(STREAM).partition_key("k").data(Blob::new(data));
    put.explicit_hash_key(hash_key.to_string()).send().await.unwrap().sequence_number
}

#[tokio::test]
async fn a_reader_follows_a_split_and_a_merge_to_every_record() {
    let (emulator, _) = emulator();
    let client = in_process(&emulator);
    create(&client, 1).await;
    let mut numbers = vec![put_at(&client, 0, "parent low").await, put_at(&client, HALF, "parent high").await];
    split(&client, &id(0), HALF).await;
    numbers.extend([put_at(&client, 1, "left").await, put_at(&client, HALF + 1, "right").await]);
    merge(&client, &id(1), &id(2)).await;
    numbers.push(put_at(&client, 2, "merged").await);

    // The end of a shard is told with its last records, by naming the children and no further iterator.
    let parent = get(&client, &trim_horizon(&client, &id(0)).await).await;
    assert_eq!(texts(&parent), ["parent low", "parent high"]);
    assert_eq!((parent.next_shard_iterator.as_deref(), parent.millis_behind_latest), (None, Some(0)));
    let children = parent.child_shards.unwrap();
    let named: Vec<_> = children.iter().map(|child| (child.shard_id.clone(), child.parent_shards.clone())).collect();
    assert_eq!(named, [(id(1), vec![id(0)]), (id(2), vec![id(0)])]);
    assert_eq!(children[0].hash_key_range.as_ref().unwrap().ending_hash_key, (HALF - 1).to_string());

    // Not before: a closed shard with records left goes on.
    let half = client.get_records().shard_iterator(trim_horizon(&client, &id(0)).await).limit(1).send().await.unwrap();
    assert!(half.next_shard_iterator.is_some() && half.child_shards().is_empty());

    let left = get(&client, &trim_horizon(&client, &id(1)).await).await;
    let right = get(&client, &trim_horizon(&client, &id(2)).await).await;
    assert_eq!((texts(&left), texts(&right)), (vec!["left".to_owned()], vec!["right".to_owned()]));
    for reply in [left, right] {
        assert_eq!(reply.next_shard_iterator, None);
        let child = reply.child_shards.unwrap();
        assert_eq!((child[0].shard_id.as_str(), child[0].parent_shards.as_slice()), (&*id(3), &[id(1), id(2)][..]));
    }
    let merged = get(&client, &trim_horizon(&client, &id(3)).await).await;
    assert_eq!(texts(&merged), ["merged"]);
    assert!(merged.next_shard_iterator.is_some() && merged.child_shards.unwrap_or_default().is_empty());

    // The clock stood still all the time, and yet every child's numbers are above its parents'.
    for (parent, child) in [(0, 2), (1, 3), (2, 4), (3, 4)] {
        assert!(numbers[parent] < numbers[child], "{parent} {child}");
    }
}

#[tokio::test]
async fn an_open_iterator_reaches_the_end_after_the_split() {
    let (emulator, _) = emulator();
    let client = in_process(&emulator);
    create(&client, 1).await;
    put_one(&client, "k", "first").await;
    put_one(&client, "k", "last").await;
    let first = client.get_records().shard_iterator(trim_horizon(&client, &id(0)).await).limit(1).send().await.unwrap();
    split(&client, &id(0), HALF).await;
    let at_end = client.get_shard_iterator().stream_name(STREAM).shard_id(id(0));
    let latest = at_end.shard_iterator_type(ShardIteratorType::Latest).send().await.unwrap().shard_iterator.unwrap();
    let last = get(&client, &first.next_shard_iterator.unwrap()).await;
    assert_eq!((texts(&last), last.next_shard_iterator.is_none()), (vec!["last".to_owned()], true));
    let after = get(&client, &latest).await;
    assert_eq!((after.records.len(), after.next_shard_iterator.is_none()), (0, true));
    assert_eq!(after.child_shards.unwrap().len(), 2);
}

#[tokio::test]
async fn shards_tell_their_ranges_and_parents() {
    let (emulator, clock) = emulator();
    let client = in_process(&emulator);
    create(&client, 2).await;
    let last = put_at(&client, 0, "x").await;
    clock.advance(Duration::from_secs(5));
    merge(&client, &id(1), &id(0)).await;
    let shards = client.list_shards().stream_name(STREAM).send().await.unwrap().shards.unwrap();
    let Shard { sequence_number_range, .. } = &shards[0];
    let range = sequence_number_range.as_ref().unwrap();
    assert!(range.starting_sequence_number < last && &last < range.ending_sequence_number.as_ref().unwrap());
    let child = &shards[2];
    assert_eq!(child.parent_shard_id, Some(id(1)));
    assert_eq!(child.adjacent_parent_shard_id, Some(id(0)));
    let keys = child.hash_key_range.as_ref().unwrap();
    assert_eq!((keys.starting_hash_key.as_str(), keys.ending_hash_key.as_str()), ("0", &*u128::MAX.to_string()));
    let child_range = child.sequence_number_range.as_ref().unwrap();
    assert!(child_range.starting_sequence_number > *range.ending_sequence_number.as_ref().unwrap());
    assert_eq!(child_range.ending_sequence_number, None);

    let description = client.describe_stream().stream_name(STREAM).limit(2).send().await.unwrap();
    let description = description.stream_description.unwrap();
    assert_eq!((description.shards.len(), description.has_more_shards), (2, true));
    let rest = client.describe_stream().stream_name(STREAM).exclusive_start_shard_id(id(1)).send().await.unwrap();
    let rest = rest.stream_description.unwrap();
    assert_eq!((rest.shards[0].shard_id.clone(), rest.has_more_shards), (id(2), false));
}

#[tokio::test]
async fn what_cannot_be_split_or_merged_is_refused() {
    let (emulator, _) = emulator();
    let client = in_process(&emulator);
    create(&client, 3).await;
    let range_of_0_ends = (u128::MAX / 3).to_string();
    // What is no number is refused by the constraint, what is no place in the shard by the operation.
    for (expected, places) in [
        ("ValidationException", ["x", "-5", "01"]),
        ("InvalidArgumentException", ["0", "1", &range_of_0_ends]),
        ("InvalidArgumentException", ["340282366920938463463374607431768211456"; 3]),
    ] {
        for at in places {
            let request = client.split_shard().stream_name(STREAM).shard_to_split(id(0)).new_starting_hash_key(at);
            assert_eq!(code(request.send().await), expected, "{at}");
        }
    }
    for (one, other, expected) in [
        (id(0), id(2), "InvalidArgumentException"),
        (id(0), id(0), "InvalidArgumentException"),
        (id(0), id(7), "ResourceNotFoundException"),
    ] {
        let request = client.merge_shards().stream_name(STREAM).shard_to_merge(one).adjacent_shard_to_merge(other);
        assert_eq!(code(request.send().await), expected);
    }
    split(&client, &id(0), 1000).await;
    let again = client.split_shard().stream_name(STREAM).shard_to_split(id(0)).new_starting_hash_key("500");
    assert_eq!(code(again.send().await), "InvalidArgumentException");
    let closed = client.merge_shards().stream_name(STREAM).shard_to_merge(id(0)).adjacent_shard_to_merge(id(1));
    assert_eq!(code(closed.send().await), "InvalidArgumentException");
}

#[tokio::test]
async fn each_filter_lists_its_shards() {
    let (emulator, clock) = emulator();
    let client = in_process(&emulator);
    create(&client, 1).await;
    clock.advance(Duration::from_secs(10));
    split(&client, &id(0), HALF).await;
    clock.advance(Duration::from_secs(10));
    split(&client, &id(1), 1000).await;
    let list = |kind: ShardFilterType, after: Option<u32>, at_s: Option<i64>| {
        let at = at_s.map(|s| DateTime::from_millis(start().as_millisecond() + 1000 * s));
        let filter = ShardFilter::builder().r#type(kind).set_shard_id(after.map(id)).set_timestamp(at).build().unwrap();
        let request = client.list_shards().stream_name(STREAM).shard_filter(filter);
        async move {
            let shards = request.send().await.unwrap().shards.unwrap();
            let number = |shard: Shard| shard.shard_id.trim_start_matches("shardId-").parse().unwrap();
            shards.into_iter().map(number).collect::<Vec<u32>>()
        }
    };
    assert_eq!(list(ShardFilterType::FromTrimHorizon, None, None).await, [0, 1, 2, 3, 4]);
    assert_eq!(list(ShardFilterType::AtTrimHorizon, None, None).await, [0]);
    assert_eq!(list(ShardFilterType::AtLatest, None, None).await, [2, 3, 4]);
    assert_eq!(list(ShardFilterType::AfterShardId, Some(2), None).await, [3, 4]);
    assert_eq!(list(ShardFilterType::AfterShardId, Some(4), None).await, [0; 0]);
    assert_eq!(list(ShardFilterType::AtTimestamp, None, Some(9)).await, [0]);
    assert_eq!(list(ShardFilterType::AtTimestamp, None, Some(10)).await, [0, 1, 2]);
    assert_eq!(list(ShardFilterType::AtTimestamp, None, Some(15)).await, [1, 2]);
    assert_eq!(list(ShardFilterType::AtTimestamp, None, Some(-15)).await, [0]);
    assert_eq!(list(ShardFilterType::FromTimestamp, None, Some(10)).await, [0, 1, 2, 3, 4]);
    assert_eq!(list(ShardFilterType::FromTimestamp, None, Some(11)).await, [1, 2, 3, 4]);
    assert_eq!(list(ShardFilterType::FromTimestamp, None, Some(30)).await, [2, 3, 4]);

    // A day later the first shard is past its retention, and its children are the oldest.
    clock.advance(Duration::from_secs(24 * 3600 - 5));
    assert_eq!(list(ShardFilterType::FromTrimHorizon, None, None).await, [1, 2, 3, 4]);
    assert_eq!(list(ShardFilterType::AtTrimHorizon, None, None).await, [1, 2]);
    let request = client.get_shard_iterator().stream_name(STREAM).shard_id(id(0));
    let gone = request.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await;
    assert_eq!(code(gone), "ResourceNotFoundException");
}

#[tokio::test]
async fn pages_of_shards_join_to_the_whole_list() {
    let (emulator, clock) = emulator();
    let client = in_process(&emulator);
    create(&client, 10).await;
    let whole = shard_ids(&client).await;
    let filter = ShardFilter::builder().r#type(ShardFilterType::AtLatest).build().unwrap();
    let first = client.list_shards().stream_name(STREAM).shard_filter(filter).max_results(4).send().await.unwrap();
    let mut paged: Vec<String> = first.shards.unwrap().into_iter().map(|shard| shard.shard_id).collect();
    let first_token = first.next_token.unwrap();
    let mut token = Some(first_token.clone());
    while let Some(next) = token {
        let reply = client.list_shards().next_token(next).max_results(3).send().await.unwrap();
        paged.extend(reply.shards.unwrap().into_iter().map(|shard| shard.shard_id));
        token = reply.next_token;
    }
    assert_eq!((paged.len(), paged), (10, whole));

    let exact = client.list_shards().stream_name(STREAM).max_results(10).send().await.unwrap();
    assert_eq!((exact.shards.unwrap().len(), exact.next_token), (10, None));

    let both = client.list_shards().next_token(&first_token).stream_name(STREAM).send().await;
    assert_eq!(code(both), "InvalidArgumentException");
    let wrong = client.list_shards().next_token("bm9uc2Vuc2U=").send().await;
    assert_eq!(code(wrong), "InvalidArgumentException");
    clock.advance(Duration::from_secs(300));
    assert!(client.list_shards().next_token(&first_token).send().await.is_ok());
    clock.advance(Duration::from_millis(1));
    assert_eq!(code(client.list_shards().next_token(&first_token).send().await), "ExpiredNextTokenException");
}
