//! Bytes of objects.

use std::io::Read as _;

use super::items;
use crate::s3::blocks::{Blocks, Encoded};
use crate::s3::compressor;
use crate::s3::config::Format;
use crate::s3::format::Body;
use bytes::Bytes;

fn encode(format: Format, values: &[&[u8]]) -> (Vec<u8>, Vec<usize>) {
    let (mut body, mut rejected) = (Body::new(format), Vec::new());
    for (index, value) in values.iter().enumerate() {
        if let Err(why) = body.push(&Bytes::copy_from_slice(value)) {
            assert_eq!(why.reason(), "a newline inside a record that is not JSON");
            rejected.push(index);
        }
    }
    body.close();
    (body.take_chunks().concat(), rejected)
}

fn gzip(chunks: &[Bytes]) -> Vec<u8> {
    held(compressor::gzip(&mut chunks.iter().cloned(), Blocks::default())).concat()
}

fn held(encoded: std::io::Result<Encoded>) -> Vec<Bytes> {
    encoded.unwrap().into_held().unwrap()
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
    let mut body = Body::new(Format::Ndjson);
    items.iter().for_each(|item| body.push(&item.value).unwrap());
    body.close();
    let chunks = body.take_chunks();
    let expected: Vec<u8> = values.iter().flat_map(|value| [*value, b"\n"].concat()).collect();
    assert_eq!(chunks.concat(), expected);
    // 600 small ones in three blocks; one large and its newline; a block between; one large and its newline.
    assert_eq!(chunks.len(), 8);
    let shared = chunks.iter().filter(|chunk| items.iter().any(|item| item.value.as_ptr() == chunk.as_ptr()));
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
    let blocks = held(compressor::gzip(&mut noise.chunks(70_000).map(Bytes::copy_from_slice), Blocks::default()));
    assert!(blocks.len() == 4 && blocks.iter().all(|block| block.len() <= 256 * 1024), "{}", blocks.len());
    let mut decoded = Vec::new();
    flate2::bufread::GzDecoder::new(blocks.concat().as_slice()).read_to_end(&mut decoded).unwrap();
    assert!(decoded == noise);
}

#[test]
fn zstd_decodes_to_the_same_and_is_the_same_each_time() {
    let chunks = [Bytes::from(vec![b'a'; 100_000]), Bytes::from_static(b"end\n")];
    let compressed = || held(compressor::zstd(&mut chunks.iter().cloned(), Blocks::default())).concat();
    // Magic, and a descriptor with the bit of a checksum.
    assert_eq!(compressed().get(..4).unwrap(), [0x28, 0xb5, 0x2f, 0xfd]);
    assert_eq!(compressed()[4] & 0b100, 0b100);
    assert_eq!(compressed(), compressed());
    assert_eq!(zstd::decode_all(compressed().as_slice()).unwrap(), chunks.concat());
}

#[test]
fn length_delimited_is_each_item_behind_its_length() {
    let (content, rejected) = encode(Format::LengthDelimited, &[b"a\nb", b"", &[b'x'; 300]]);
    let expected = [&[0, 0, 0, 3][..], b"a\nb", &[0, 0, 0, 0], &[0, 0, 1, 44], &[b'x'; 300]].concat();
    assert_eq!((content, rejected), (expected, vec![]));
}
