use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use kinesink_core::testkit::{Broken, sample_record, sample_shard, transformer_contract};
use kinesink_core::{Record, Reject, Transformer};

use crate::assert_breaks;

/// What is wrong with a transformer of lines.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wrong {
    Nothing,
    DropsEveryThird,
    CountsItsRecords,
    RemembersTheFirst,
    ClearsModels,
    InsertsInFront,
    QuotesTheRecord,
    GivesNoReason,
    PanicsOnText,
    EncodesByTurns,
}

/// A record's lines, each upper-cased; a record that is not text is refused, an empty line by itself.
struct Lines {
    wrong: Wrong,
    calls: AtomicUsize,
    first_bytes: OnceLock<usize>,
}

impl Lines {
    fn next_call(&self) -> usize {
        self.calls.fetch_add(1, Ordering::Relaxed)
    }

    fn refuse(&self, data: &Bytes) -> Reject {
        match self.wrong {
            Wrong::QuotesTheRecord => Reject::new(format!("not text: {}", String::from_utf8_lossy(data))),
            Wrong::GivesNoReason => Reject::new(""),
            _ => Reject::new("not text"),
        }
    }
}

impl Transformer for Lines {
    type Model = String;
    type Output = String;

    fn to_model(&self, record: &Record, models: &mut Vec<String>) -> Result<(), Reject> {
        if self.wrong == Wrong::QuotesTheRecord && record.data.starts_with(b"{\"card") {
            return Err(self.refuse(&record.data));
        }
        let text = match (std::str::from_utf8(&record.data), self.wrong) {
            (Ok(text), _) => text,
            (Err(_), Wrong::PanicsOnText) => unreachable!("records are text"),
            (Err(_), _) => return Err(self.refuse(&record.data)),
        };
        let mut lines: Vec<String> = text.lines().map(String::from).collect();
        match self.wrong {
            Wrong::DropsEveryThird if self.next_call() % 3 == 2 => lines.clear(),
            Wrong::CountsItsRecords => lines.push(self.next_call().to_string()),
            Wrong::RemembersTheFirst => lines.push(self.first_bytes.get_or_init(|| record.data.len()).to_string()),
            Wrong::ClearsModels => models.clear(),
            _ => {}
        }
        let place = if self.wrong == Wrong::InsertsInFront { 0 } else { models.len() };
        models.splice(place..place, lines);
        Ok(())
    }

    fn to_output(&self, model: String) -> Result<String, Reject> {
        if model.is_empty() {
            return Err(Reject::new("an empty line"));
        }
        let upper = self.wrong != Wrong::EncodesByTurns || self.next_call().is_multiple_of(2);
        Ok(if upper { model.to_ascii_uppercase() } else { model })
    }
}

fn check(wrong: Wrong) -> Result<(), Broken> {
    let shard = sample_shard(0);
    let data = ["one", "two\n\nlines", "three", "four\nlines\nare\nhere"];
    let samples: Vec<Record> = (0..).zip(data).map(|(n, data)| sample_record(&shard, n, data)).collect();
    transformer_contract(|| Lines { wrong, calls: AtomicUsize::new(0), first_bytes: OnceLock::new() }, &samples)
}

#[test]
fn a_pure_transformer_passes() {
    check(Wrong::Nothing).unwrap();
}

#[test]
fn each_wrong_one_is_found() {
    let again = "the same record gives the same outputs again";
    assert_breaks(check(Wrong::DropsEveryThird), again);
    assert_breaks(check(Wrong::CountsItsRecords), again);
    assert_breaks(check(Wrong::EncodesByTurns), again);
    assert_breaks(check(Wrong::RemembersTheFirst), "outputs do not depend on what ran before");
    assert_breaks(check(Wrong::ClearsModels), "to_model only appends");
    assert_breaks(check(Wrong::InsertsInFront), "to_model only appends");
    assert_breaks(check(Wrong::QuotesTheRecord), "a reject does not quote the record");
    assert_breaks(check(Wrong::GivesNoReason), "a reject says why");
    assert_breaks(check(Wrong::PanicsOnText), "no record makes it panic");
}
