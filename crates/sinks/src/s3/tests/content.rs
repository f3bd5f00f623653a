//! Bytes of objects, and their names.

use std::io::Read as _;

use bytes::Bytes;
use kinesink_core::{Batch, Position};
use object_store::path::Path;
use proptest::prelude::*;

use super::{items, position, source};
use crate::s3::config::{Compression, Format, Naming};
use crate::s3::format::{Body, holds, may_hold};
use crate::s3::gzip::compress;
use crate::s3::key::object_key;

fn encode(format: Format, values: &[&[u8]]) -> (Vec<u8>, Vec<usize>) {
    let (mut body, mut rejected) = (Body::new(format), Vec::new());
    for (index, value) in values.iter().enumerate() {
        if let Err(why) = body.push(&Bytes::copy_from_slice(value)) {
            assert_eq!(why.reason(), "a newline inside a record that is not JSON");
            rejected.push(index);
        }
    }
    body.close();
    (body.chunks().concat(), rejected)
}

fn gzip(chunks: &[Bytes]) -> Vec<u8> {
    compress(chunks.iter().cloned()).unwrap().concat()
}

#[test]
fn ndjson_is_a_line_for_each_item() {
    let cases: [(&[u8], &[u8]); 7] = [
        (b"{\"a\": 1}", b"{\"a\": 1}\n"),
        (b"not JSON, no newline \xff", b"not JSON, no newline \xff\n"),
        (b"{\"a\":1}\n", b"{\"a\":1}\n"),
        (b"", b"\n"),
        (b"\n", b"\n"),
        // Numbers, order, doubled keys and what stands in strings are the producer's: only space between tokens goes.
        (
            b"{\n  \"b\": 1.10e400,\r\n\t\"a\" : \"x  \\\" y\\\\\",\n  \"a\": [ 1, 2 ]\n}\n",
            b"{\"b\":1.10e400,\"a\":\"x  \\\" y\\\\\",\"a\":[1,2]}\n",
        ),
        (b"1\n\n", b"1\n"),
    ];
    for (value, line) in cases {
        assert_eq!(encode(Format::Ndjson, &[value]), (line.to_vec(), vec![]), "{:?}", Bytes::copy_from_slice(value));
    }
}

#[test]
fn a_newline_inside_what_is_not_json_rejects_that_item_alone() {
    let (content, rejected) = encode(Format::Ndjson, &[b"1", b"two\nlines", b"{\"a\":\n\n", b"3", b"\n\n"]);
    assert_eq!((content.as_slice(), rejected), (&b"1\n3\n"[..], vec![1, 2, 4]));
}

#[test]
fn raw_is_the_bytes_as_they_are() {
    let (content, rejected) = encode(Format::Raw, &[b"a\nb", b"", b"\0\xff\n", b"c"]);
    assert_eq!((content.as_slice(), rejected), (&b"a\nb\0\xff\nc"[..], vec![]));
}

#[test]
fn small_values_are_copied_together_and_large_ones_are_not_copied() {
    let (small, large) = (vec![b's'; 1000], vec![b'l'; 100_000]);
    let mut values = vec![small.as_slice(); 600];
    values.extend([large.as_slice(), b"x", large.as_slice()]);
    let items = items(&values);
    let body = Body::of(Format::Ndjson, &items.iter().collect::<Vec<_>>());
    let expected: Vec<u8> = values.iter().flat_map(|value| [*value, b"\n"].concat()).collect();
    assert_eq!(body.chunks().concat(), expected);
    assert_eq!(body.bytes(), expected.len() as u64);
    // 600 small ones in three blocks; one large and its newline; a block between; one large and its newline.
    assert_eq!(body.chunks().len(), 8);
    let shared = body.chunks().iter().filter(|chunk| items.iter().any(|item| item.value.as_ptr() == chunk.as_ptr()));
    assert_eq!(shared.count(), 2);
}

#[test]
fn gzip_decodes_to_the_same_and_has_nothing_of_the_run_in_its_header() {
    let chunks = [Bytes::from(vec![b'a'; 100_000]), Bytes::from_static(b"end\n")];
    let compressed = gzip(&chunks);
    // Magic, deflate, no flags, no time, no level hint, no system.
    assert_eq!(compressed.get(..10).unwrap(), [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
    assert_eq!(compressed, gzip(&chunks));
    let mut decoded = Vec::new();
    flate2::bufread::GzDecoder::new(compressed.as_slice()).read_to_end(&mut decoded).unwrap();
    assert_eq!(decoded, chunks.concat());
}

#[test]
fn what_does_not_compress_comes_in_blocks() {
    // A sequence without repetitions of length 3: a linear congruential generator's high bytes.
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    })
    .take(1_000_000)
    .collect();
    let blocks = compress(noise.chunks(70_000).map(Bytes::copy_from_slice)).unwrap();
    assert!(blocks.len() == 4 && blocks.iter().all(|block| block.len() <= 256 * 1024), "{}", blocks.len());
    let mut decoded = Vec::new();
    flate2::bufread::GzDecoder::new(blocks.concat().as_slice()).read_to_end(&mut decoded).unwrap();
    assert!(decoded == noise);
}

#[test]
fn contents_are_the_same_only_byte_by_byte() {
    let items = items(&[&[b'a'; 20_000], &[b'b'; 50_000]]);
    let body = Body::of(Format::Raw, &items.iter().collect::<Vec<_>>());
    let content = body.chunks().concat();
    let mut altered = content.clone();
    *altered.last_mut().unwrap() = b'c';
    let longer = [content.as_slice(), b"c"].concat();
    let shorter = content.get(1..).unwrap().to_vec();
    for (other, same) in [(&content, true), (&altered, false), (&longer, false), (&shorter, false), (&vec![], false)] {
        let plain =
            may_hold(&body, other.len() as u64, Compression::None) && holds(other, body.chunks(), Compression::None);
        assert_eq!(plain, same);
        let compressed = gzip(&[Bytes::copy_from_slice(other)]);
        assert_eq!(holds(&compressed, body.chunks(), Compression::Gzip), same);
    }
    assert!(!holds(b"no gzip", body.chunks(), Compression::Gzip));
    // Stored, not compressed: the most another encoder can make of it.
    let mut stored = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    std::io::Write::write_all(&mut stored, &content).unwrap();
    let stored = stored.finish().unwrap();
    assert!(may_hold(&body, stored.len() as u64, Compression::Gzip));
    assert!(holds(&stored, body.chunks(), Compression::Gzip));
    assert!(!may_hold(&body, 1 << 20, Compression::Gzip));
}

fn key(first: Position, last: Position, naming: Naming, format: Format, compression: Compression) -> String {
    let source = source();
    let batch: Batch<'_, Bytes> =
        Batch { stream: &source.stream, shard: &source.shard, first, last, items: vec![], attempt: 7 };
    object_key(&Path::parse("a/b").unwrap(), &batch, naming, format, compression).to_string()
}

#[test]
fn keys_are_prefix_stream_shard_and_padded_positions() {
    let first = position("49590338271490256608559692538361571095921575989136588898", 0);
    let last = position("49590338271490256608559692540925702759324208523137515618", 12);
    let whole = "a/b/orders/shardId-000000000003/\
                 49590338271490256608559692538361571095921575989136588898.00000000-\
                 49590338271490256608559692540925702759324208523137515618.00000012";
    let named = |format, compression| key(first, last, Naming::Positions, format, compression);
    assert_eq!(named(Format::Ndjson, Compression::None), format!("{whole}.ndjson"));
    assert_eq!(named(Format::Raw, Compression::Gzip), format!("{whole}.raw.gz"));
    let short = key(position("7", 0), position("10", 3), Naming::Positions, Format::Ndjson, Compression::Gzip);
    let zeros = "0".repeat(54);
    assert_eq!(short, format!("a/b/orders/shardId-000000000003/{zeros}07.00000000-{zeros}10.00000003.ndjson.gz"));

    let unique = |()| key(first, last, Naming::Unique, Format::Ndjson, Compression::None);
    let (one, two) = (unique(()), unique(()));
    assert_ne!(one, two);
    assert!(one.starts_with(&format!("{whole}-")), "{one}");
}

prop_compose! {
    /// As (number, sub-sequence), the number below 2^186 and often short or close to another.
    fn place()(high in prop_oneof![Just(0_u64), 0_u64..1 << 58], low in prop_oneof![0_u128..20, any::<u128>()],
               sub_sequence in prop_oneof![0_u64..12, 0_u64..99_999_999]) -> (u64, u128, u64) {
        (high, low, sub_sequence)
    }
}

/// Decimal text of `high × 2^128 + low` by long multiplication on digits, sharing no code with what it checks.
fn decimal(high: u64, low: u128) -> String {
    let mut digits = vec![0_u8];
    for bit in (0..64).map(|bit| high >> (63 - bit) & 1 == 1).chain((0..128).map(|bit| low >> (127 - bit) & 1 == 1)) {
        let mut carry = u8::from(bit);
        for digit in &mut digits {
            let doubled = *digit * 2 + carry;
            (*digit, carry) = (doubled % 10, doubled / 10);
        }
        if carry > 0 {
            digits.push(carry);
        }
    }
    digits.iter().rev().map(|digit| char::from(b'0' + digit)).collect()
}

proptest! {
    #[test]
    fn listing_order_is_stream_order(mut places in prop::collection::vec(place(), 2..40)) {
        places.sort_unstable();
        places.dedup();
        let position = |&(high, low, sub): &(u64, u128, u64)| position(&decimal(high, low), sub);
        let window = |pair: &[(u64, u128, u64)]| {
            let (first, last) = (position(&pair[0]), position(pair.last().unwrap()));
            key(first, last, Naming::Positions, Format::Ndjson, Compression::None)
        };
        let keys: Vec<String> = places.chunks(2).map(window).collect();
        let mut listed = keys.clone();
        listed.sort_unstable();
        prop_assert_eq!(listed, keys);
    }
}
