//! Dead letters back to whom refused them.

use std::sync::Arc;

use kinesink_core::{Class, Failure};
use kinesink_pipeline::{DeadLetter, OutputIds, Pipeline, Refusal, RefusedWindow, Sink};

use crate::fakes::{Answer, Destination, Event, Log, Split, position, record, shard};

fn letter(number: u64, data: &str, stage: &str, ordinal: u32) -> DeadLetter {
    let record = record(number, data);
    DeadLetter {
        version: 1,
        stage: stage.into(),
        stream: "orders".into(),
        shard: shard().to_string(),
        sequence: number.to_string(),
        sub_sequence: 0,
        ordinal,
        outputs: None,
        arrival: record.arrival,
        partition_key: None,
        reason: "then".into(),
        data: record.data,
    }
}

/// What became of the letters, all of which are owed.
#[derive(Debug, PartialEq)]
struct Replayed {
    records: usize,
    delivered: usize,
    refused: Vec<Refusal>,
    missing: OutputIds,
}

async fn replay(
    pipeline: &Pipeline<Split>,
    sinks: &[Sink<String>],
    letters: Vec<DeadLetter>,
) -> Result<Replayed, Failure> {
    let remade = pipeline.remake(letters, &shard(), |_, _| true)?;
    let (stream, shard, first, last) = ("orders".parse().unwrap(), shard(), position(1), position(9));
    let window = RefusedWindow { stream, shard, first, last };
    let resent = pipeline.resend(sinks, &window, &remade, &remade.owed).await?;
    let refused = [remade.refused, resent.refused].concat();
    Ok(Replayed { records: remade.records, delivered: resent.delivered, refused, missing: resent.missing })
}

/// Two sinks, `a` and `b`; the first answers so. The pipeline, and what its replay sends to.
fn pipeline(log: &Log, answers: Vec<Answer>) -> (Pipeline<Split>, Vec<Sink<String>>) {
    let a: Arc<Destination> = Arc::new(Destination::new("a", log).answering(answers));
    let b: Arc<Destination> = Arc::new(Destination::new("b", log));
    let pipeline = Pipeline::new(Split::default(), Sink::new("a", Arc::clone(&a) as _))
        .and_sink(Sink::new("b", Arc::clone(&b) as _));
    (pipeline, vec![Sink::new("a", a), Sink::new("b", b)])
}

/// Sink, number, ordinal and text of all that was delivered.
fn delivered(log: &Log) -> Vec<(String, u64, u32, String)> {
    let mut all = Vec::new();
    for event in log.lock().unwrap().iter() {
        if let Event::Durable { sink, outputs } = event {
            all.extend(outputs.iter().map(|(number, ordinal, text)| (sink.clone(), *number, *ordinal, text.clone())));
        }
    }
    all
}

fn one(sink: &str, number: u64, ordinal: u32, text: &str) -> (String, u64, u32, String) {
    (sink.into(), number, ordinal, text.into())
}

#[tokio::test(start_paused = true)]
async fn each_letter_goes_once_to_whom_refused_it() {
    let log = Log::default();
    let letters = vec![
        letter(5, "x,y", "sink:b", 1),
        letter(3, "u,v", "transform", 0),
        // Written by two attempts.
        letter(5, "x,y", "sink:b", 1),
        letter(7, "z", "sink:gone", 0),
    ];
    let (pipeline, sinks) = pipeline(&log, vec![]);
    let replayed = replay(&pipeline, &sinks, letters).await.unwrap();
    let whole = |sink| [one(sink, 3, 0, "u"), one(sink, 3, 1, "v")];
    let expected = [&whole("a")[..], &whole("b"), &[one("b", 5, 1, "y")]].concat();
    assert_eq!(delivered(&log), expected);
    assert_eq!(replayed, Replayed { records: 3, delivered: 5, refused: vec![], missing: OutputIds::new() });
    let named = |event: &Event| matches!(event, Event::Durable { .. } | Event::Begun { first: 1, last: 9, .. });
    assert!(log.lock().unwrap().iter().all(named), "batches are named by the window");
    let gone = pipeline.remake([letter(7, "z", "sink:gone", 0)], &shard(), |_, _| true).unwrap();
    assert_eq!((gone.unknown_sinks, gone.owed), (["gone".to_owned()].into(), OutputIds::new()));
}

#[tokio::test(start_paused = true)]
async fn what_a_sink_did_not_take_is_sent_again_and_what_it_refuses_is_told() {
    let log = Log::default();
    let answers = vec![Answer::Fail(Failure::transient("busy")), Answer::Retry(vec![1])];
    let letters = vec![letter(1, "poison", "sink:a", 0), letter(2, "b", "sink:a", 0), letter(3, "c", "sink:a", 0)];
    let (pipeline, sinks) = pipeline(&log, answers);
    let replayed = replay(&pipeline, &sinks, letters).await.unwrap();
    assert_eq!(delivered(&log), [one("a", 3, 0, "c"), one("a", 2, 0, "b")]);
    let refused = (position(1), "sink:a".to_owned(), "poisonous".to_owned());
    let missing = OutputIds::from([("a".into(), [(position(1), 0)].into())]);
    assert_eq!(replayed, Replayed { records: 3, delivered: 2, refused: vec![refused], missing });
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_does_not_come_back_ends_the_replay() {
    for (failure, attempts) in [(Failure::transient("busy"), 8), (Failure::configuration("mend me"), 1)] {
        let log = Log::default();
        let (pipeline, sinks) = pipeline(&log, vec![Answer::Fail(failure.clone()); 20]);
        let ended = replay(&pipeline, &sinks, vec![letter(2, "b", "sink:a", 0)]).await.unwrap_err();
        assert_eq!((ended.class, ended.message), (failure.class, failure.message));
        assert_eq!(log.lock().unwrap().len(), attempts);
    }
}

#[tokio::test(start_paused = true)]
async fn a_letter_of_another_shard_is_not_sent() {
    let log = Log::default();
    let stray = DeadLetter { shard: "shardId-000000000009".into(), ..letter(2, "b", "sink:a", 0) };
    let (pipeline, sinks) = pipeline(&log, vec![]);
    let ended = replay(&pipeline, &sinks, vec![stray]).await.unwrap_err();
    assert_eq!(ended.class, Class::Configuration);
    assert!(ended.message.contains("shardId-000000000009") && delivered(&log).is_empty(), "{ended}");
}

/// An output was taken for the one that had its number when it was refused: that one was lost, and the other there twice.
#[tokio::test(start_paused = true)]
async fn an_output_of_a_record_that_has_more_or_fewer_now_is_not_sent_and_told() {
    let log = Log::default();
    let (pipeline, sinks) = pipeline(&log, vec![]);
    let of = |number, data, ordinal, outputs| DeadLetter { outputs, ..letter(number, data, "sink:a", ordinal) };
    let letters = vec![
        of(1, "x,y", 1, Some(3)),
        of(2, "x,y", 1, Some(2)),
        // The transformer leaves out all of it.
        of(3, "", 0, Some(1)),
        // Written before letters said how many there are.
        of(4, "x", 1, None),
        of(5, "x,y", 0, None),
        // Refused as a whole by another attempt: all of it is owed.
        of(6, "x", 0, Some(2)),
        letter(6, "x", "transform", 0),
    ];
    let replayed = replay(&pipeline, &sinks, letters).await.unwrap();
    assert_eq!(delivered(&log), [one("a", 2, 1, "y"), one("a", 5, 0, "x"), one("a", 6, 0, "x"), one("b", 6, 0, "x")]);
    let refused: Vec<_> = replayed.refused.iter().map(|(position, stage, why)| (*position, &**stage, &**why)).collect();
    let [(first, "sink:a", why), (second, "sink:a", more)] = refused[..] else { panic!("{refused:?}") };
    assert_eq!((first, second), (position(1), position(4)));
    assert!(why.starts_with("its record had 3 outputs when one of them was refused and has 2 now"), "{why}");
    assert!(more.starts_with("its record had more outputs") && more.ends_with("is not to be sent"), "{more}");
    // What is there already is no matter of the program any more.
    let done = pipeline.remake([of(1, "x,y", 1, Some(3))], &shard(), |_, _| false).unwrap();
    assert!(done.refused.is_empty() && done.owed.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_not_owed_is_made_of_no_letter_and_what_is_not_there_stays_missing() {
    let log = Log::default();
    let (pipeline, sinks) = pipeline(&log, vec![]);
    let letters = vec![letter(3, "u,v", "transform", 0), letter(5, "x", "sink:a", 0)];
    let remade = pipeline.remake(letters, &shard(), |sink, id| (sink, id) == ("b", (position(3), 1))).unwrap();
    let owed = OutputIds::from([("b".into(), [(position(3), 1)].into())]);
    assert_eq!((&remade.owed, remade.records), (&owed, 2));
    let asked = OutputIds::from([("b".into(), [(position(3), 1), (position(7), 0)].into())]);
    let (stream, shard, first, last) = ("orders".parse().unwrap(), shard(), position(1), position(9));
    let resent = pipeline.resend(&sinks, &RefusedWindow { stream, shard, first, last }, &remade, &asked).await.unwrap();
    assert_eq!(delivered(&log), [one("b", 3, 1, "v")]);
    assert_eq!((resent.delivered, resent.missing), (1, OutputIds::from([("b".into(), [(position(7), 0)].into())])));
}
