use std::panic::{AssertUnwindSafe, catch_unwind};

use fastrand::Rng;

use super::{Broken, require, sample_record, sample_shard};
use crate::{Record, Reject, Transformer};

/// A run of the record's bytes this long in a reason is a quotation.
const QUOTATION_BYTES: usize = 12;
/// Quotations are looked for in so much of a record.
const QUOTED_BYTES_MAX: usize = 4096;

/// What a transformer makes of one record.
type Outcome<O> = Result<Vec<Result<O, Reject>>, Reject>;

/// Checks a [`Transformer`] with `samples` of the records it is meant for, and with hostile ones: empty, cut short,
/// not text, deeply nested, 1 MiB, random. A transformer that overflows its stack on them aborts the test. Rules:
/// - no record makes it panic;
/// - the same record gives the same outputs again;
/// - outputs do not depend on what ran before;
/// - `to_model` only appends;
/// - a reject says why, and does not quote the record.
///
/// # Errors
/// The first rule that is broken.
pub fn transformer_contract<T>(make: impl Fn() -> T, samples: &[Record]) -> Result<(), Broken>
where
    T: Transformer,
    T::Output: PartialEq,
{
    let records: Vec<Record> = samples.iter().cloned().chain(hostile_records()).collect();
    let transformer = make();
    let outcomes = records.iter().map(|record| outcome(&transformer, record)).collect::<Result<Vec<_>, _>>()?;
    let cases = || records.iter().zip(&outcomes);
    for (record, expected) in cases() {
        reasons_are_fit(record, expected)?;
        // Twice, so that no rhythm of a counter hides.
        let again = outcome(&transformer, record)? == *expected && outcome(&transformer, record)? == *expected;
        require(again, "the same record gives the same outputs again", || name(record))?;
    }
    let other = make();
    for (record, expected) in cases().rev() {
        let reversed = outcome(&other, record)?;
        require(reversed == *expected, "outputs do not depend on what ran before", || name(record))?;
    }
    for (before, after) in cases().zip(cases().skip(1)) {
        only_appends(&other, before, after)?;
    }
    Ok(())
}

fn outcome<T: Transformer>(transformer: &T, record: &Record) -> Result<Outcome<T::Output>, Broken> {
    unpanicked(record, || {
        let mut models = Vec::new();
        transformer.to_model(record, &mut models)?;
        Ok(outputs(transformer, models))
    })
}

fn outputs<T: Transformer>(transformer: &T, models: Vec<T::Model>) -> Vec<Result<T::Output, Reject>> {
    models.into_iter().map(|model| transformer.to_output(model)).collect()
}

fn unpanicked<R>(record: &Record, run: impl FnOnce() -> R) -> Result<R, Broken> {
    catch_unwind(AssertUnwindSafe(run))
        .map_err(|_| Broken { rule: "no record makes it panic", detail: format!("{} did", name(record)) })
}

/// Transforms `before` and `after` into one vector and compares each part with what it was alone.
fn only_appends<T>(
    transformer: &T,
    before: (&Record, &Outcome<T::Output>),
    after: (&Record, &Outcome<T::Output>),
) -> Result<(), Broken>
where
    T: Transformer,
    T::Output: PartialEq,
{
    let Ok(mut expected) = before.1.as_ref().map(|outputs| outputs.iter().collect::<Vec<_>>()) else { return Ok(()) };
    let (accepted, held) = unpanicked(after.0, || {
        let mut models = Vec::new();
        // Accepted before, and found to be repeatable.
        let _repeated = transformer.to_model(before.0, &mut models);
        let accepted = transformer.to_model(after.0, &mut models).is_ok();
        (accepted, outputs(transformer, models))
    })?;
    // What a refused record appended is discarded by the caller.
    let compared = if accepted { held.len() } else { expected.len() };
    expected.extend(after.1.iter().flatten());
    let kept = held.iter().take(compared).eq(expected);
    require(kept, "to_model only appends", || format!("{} after {}", name(after.0), name(before.0)))
}

fn reasons_are_fit<O>(record: &Record, outcome: &Outcome<O>) -> Result<(), Broken> {
    let rejects: Vec<&Reject> = match outcome {
        Ok(outputs) => outputs.iter().filter_map(|output| output.as_ref().err()).collect(),
        Err(reject) => vec![reject],
    };
    let data = record.data.get(..QUOTED_BYTES_MAX).unwrap_or(&record.data);
    for reject in rejects {
        let reason = reject.reason();
        require(!reason.trim().is_empty(), "a reject says why", || name(record))?;
        let mut runs = reason.as_bytes().windows(QUOTATION_BYTES);
        let quoted = runs.any(|run| data.windows(QUOTATION_BYTES).any(|window| window == run));
        require(!quoted, "a reject does not quote the record", || format!("{}: {reason}", name(record)))?;
    }
    Ok(())
}

fn name(record: &Record) -> String {
    format!("the record at {} with {} bytes", record.position, record.data.len())
}

fn hostile_records() -> Vec<Record> {
    let mut rng = Rng::with_seed(7);
    let mut data: Vec<Vec<u8>> = vec![
        b"".into(),
        b"\n".into(),
        b"null".into(),
        b"\xEF\xBB\xBF{}".into(),
        b"{\"card\":\"4111111111111111\"".into(),
        b"{\"card\":\"4111111111111111\",\"card\":[4111111111111111]}".into(),
        b"\"4111111111111111 is the number of the card\"".into(),
        b"[1e999,-0,18446744073709551616,0.1]".into(),
        b"{\"a\":\"\\ud800\"}".into(),
        b"first line\nsecond line\n".into(),
        b"\x00\xFF\xFE\xC3\x28".into(),
        "[".repeat(100_000).into(),
        format!("{}{}", "[".repeat(500), "]".repeat(500)).into(),
        vec![b'x'; 1024 * 1024],
    ];
    for length in [1, 10, 100, 1_000, 10_000] {
        data.push((0..length).map(|_| rng.u8(..)).collect());
    }
    let shard = sample_shard(0);
    (0..).zip(data).map(|(n, data)| sample_record(&shard, n, data)).collect()
}
