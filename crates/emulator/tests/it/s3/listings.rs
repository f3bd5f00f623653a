use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use http::Method;
use kinesink_emulator::S3;
use proptest::prelude::*;

use super::{BUCKET, elements, put, send, temporary, with_bucket};

/// What is asked for.
#[derive(Debug, Clone)]
struct Asked {
    prefix: String,
    delimiter: Option<String>,
    start_after: String,
    max_keys: usize,
}

/// Keys and common beginnings, told apart by what is before them, in order.
fn expected(keys: &BTreeSet<String>, asked: &Asked) -> Vec<String> {
    let mut lines = BTreeMap::new();
    for key in keys.iter().filter(|key| key.starts_with(&asked.prefix) && **key > asked.start_after) {
        let rest = key.strip_prefix(&asked.prefix).unwrap();
        let line = match asked.delimiter.as_ref().and_then(|delimiter| rest.split_once(delimiter.as_str())) {
            Some((first, _)) => {
                let beginning = format!("{}{first}{}", asked.prefix, asked.delimiter.as_ref().unwrap());
                // A listing that starts after a whole beginning has that behind it.
                if beginning == asked.start_after {
                    continue;
                }
                format!("beginning {beginning}")
            }
            None => format!("key {key}"),
        };
        lines.insert(line.split_once(' ').unwrap().1.to_owned(), line);
    }
    lines.into_values().collect()
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn unpercent(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, more)) = rest.split_first() {
        rest = more;
        bytes.push(*byte);
        if *byte == b'%' {
            bytes.pop();
            bytes.push(u8::from_str_radix(str::from_utf8(&rest[..2]).unwrap(), 16).unwrap());
            rest = &rest[2..];
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// All pages, each with its number of lines.
async fn pages(s3: &S3, asked: &Asked, version: u8) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut from = match version {
        2 => format!("&list-type=2&start-after={}", percent(&asked.start_after)),
        _ => format!("&marker={}", percent(&asked.start_after)),
    };
    for _ in 0..1000 {
        let delimiter = asked.delimiter.as_ref().map(|delimiter| format!("&delimiter={}", percent(delimiter)));
        let (prefix, max) = (percent(&asked.prefix), asked.max_keys);
        let path = format!(
            "/{BUCKET}?encoding-type=url&prefix={prefix}&max-keys={max}{}{from}",
            delimiter.unwrap_or_default()
        );
        let answer = send(s3, Method::GET, &path, &[], Body::empty()).await;
        let text = answer.text();
        let keys = elements(&text, "Contents").into_iter().flat_map(|one| elements(&one, "Key"));
        let keys: Vec<_> = keys.map(|key| (unpercent(&key), "key")).collect();
        let beginnings = elements(&text, "CommonPrefixes").into_iter().flat_map(|one| elements(&one, "Prefix"));
        let mut lines: Vec<_> = keys.into_iter().chain(beginnings.map(|one| (unpercent(&one), "beginning"))).collect();
        lines.sort();
        let last = lines.last().map(|(line, _)| line.clone());
        pages.push(lines.into_iter().map(|(line, kind)| format!("{kind} {line}")).collect());
        if answer.element("IsTruncated").as_deref() == Some("false") {
            return pages;
        }
        from = match (version, answer.element("NextContinuationToken"), answer.element("NextMarker")) {
            (2, Some(token), _) => format!("&list-type=2&continuation-token={token}"),
            (1, _, Some(marker)) => format!("&marker={marker}"),
            (1, _, None) => format!("&marker={}", percent(&last.unwrap())),
            // A page that says that there are more says where.
            _ => return vec![vec![text]],
        };
    }
    vec![vec!["it never ends".to_owned()]]
}

fn text(characters: &'static str, lengths: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    let characters: Vec<char> = characters.chars().collect();
    prop::collection::vec(prop::sample::select(characters), lengths).prop_map(String::from_iter)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn pages_joined_are_what_is_there(
        keys in prop::collection::btree_set(text("ab/é&", 1..5), 0..24),
        prefix in prop_oneof![Just(String::new()), text("ab/", 1..3)],
        delimiter in prop::option::of(prop_oneof![Just("/".to_owned()), text("ab/", 1..3)]),
        start_after in prop_oneof![Just(String::new()), text("ab/é", 1..4)],
        max_keys in 1_usize..5,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let s3 = temporary();
            for key in &keys {
                assert_eq!(put(&s3, &percent(key), "text").await.status, 200);
            }
            let asked = Asked { prefix, delimiter, start_after, max_keys };
            let expected = expected(&keys, &asked);
            for version in [1, 2] {
                let pages = pages(&s3, &asked, version).await;
                let (last, full) = pages.split_last().unwrap();
                assert!(full.iter().all(|page| page.len() == max_keys), "version {version}: {pages:?}");
                assert!(last.len() <= max_keys);
                assert_eq!(pages.concat(), expected, "version {version}, {asked:?}");
            }
        });
    }
}

#[tokio::test]
async fn a_page_has_at_most_a_thousand_lines_and_none_has_no_next() {
    let directory = tempfile::tempdir().unwrap();
    let bucket = directory.path().join(BUCKET);
    std::fs::create_dir(&bucket).unwrap();
    for number in 0..1001 {
        std::fs::write(bucket.join(format!("{number:04}")), "").unwrap();
    }
    let s3 = with_bucket(directory.path());
    let first = send(&s3, Method::GET, &format!("/{BUCKET}?list-type=2&max-keys=5000"), &[], Body::empty()).await;
    assert_eq!(first.element("KeyCount").as_deref(), Some("1000"));
    assert_eq!(first.element("MaxKeys").as_deref(), Some("1000"));
    let none = send(&s3, Method::GET, &format!("/{BUCKET}?list-type=2&max-keys=0"), &[], Body::empty()).await;
    assert_eq!(
        (none.element("KeyCount").as_deref(), none.element("IsTruncated").as_deref()),
        (Some("0"), Some("false"))
    );
}
