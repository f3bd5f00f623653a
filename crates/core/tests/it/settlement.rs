use kinesink_core::{Checkpoint, Emitted, Reject, Settlement};
use proptest::collection::vec;
use proptest::prelude::*;

/// What an emitter answers about one item, in a batch of those unsettled.
#[derive(Debug, Clone, Copy)]
enum Answer {
    Delivered,
    Retry,
    Rejected,
    /// A confused emitter names an item twice.
    RejectedAndRetry,
    RetryTwice,
    RejectedTwice,
}

#[derive(Debug, Clone)]
enum Step {
    /// A sink answers about its unsettled items, the last first if `reversed`; answers beyond them name items that are
    /// not in the batch.
    Emit { sink: usize, answers: Vec<Answer>, reversed: bool },
    /// The oldest owed dead letter becomes durable.
    DeadLetter,
}

/// Where an item stands with a sink, kept one by one.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Owed,
    Delivered,
    DeadLetterOwed,
    DeadLettered,
}

fn any_step(sinks: usize) -> impl Strategy<Value = Step> {
    use Answer::{Delivered, Rejected, RejectedAndRetry, RejectedTwice, Retry, RetryTwice};
    let answer =
        prop::sample::select(vec![Delivered, Delivered, Retry, Rejected, RejectedAndRetry, RetryTwice, RejectedTwice]);
    prop_oneof![
        (0..sinks, vec(answer, 0..12), any::<bool>()).prop_map(|(sink, answers, reversed)| Step::Emit {
            sink,
            answers,
            reversed
        }),
        Just(Step::DeadLetter),
    ]
}

fn any_run() -> impl Strategy<Value = (usize, usize, usize, Vec<Step>)> {
    let window = (1..4_usize, 0..8_usize, 0..3_usize);
    window.prop_flat_map(|(sinks, items, dead_letters)| {
        (Just(sinks), Just(items), Just(dead_letters), vec(any_step(sinks), 0..40))
    })
}

/// What the emitter says.
fn outcome(answers: &[Answer], reversed: bool) -> Emitted {
    let mut emitted = Emitted::all();
    let why = || Reject::new("why");
    let mut indexes: Vec<usize> = (0..answers.len()).collect();
    if reversed {
        indexes.reverse();
    }
    for index in indexes {
        match answers[index] {
            Answer::Delivered => {}
            Answer::Retry => emitted.retry(index, why()),
            Answer::Rejected => emitted.reject(index, why()),
            Answer::RejectedAndRetry => {
                emitted.reject(index, why());
                emitted.retry(index, why());
            }
            Answer::RetryTwice => {
                emitted.retry(index, why());
                emitted.retry(index, why());
            }
            Answer::RejectedTwice => {
                emitted.reject(index, why());
                emitted.reject(index, why());
            }
        }
    }
    emitted
}

/// Applies answers to the model; the items that they make owed dead letters.
fn apply(fates: &mut [Fate], unsettled: &[usize], answers: &[Answer]) -> Vec<usize> {
    let mut rejected = Vec::new();
    for (index, &item) in unsettled.iter().enumerate() {
        match answers.get(index).copied().unwrap_or(Answer::Delivered) {
            Answer::Delivered => fates[item] = Fate::Delivered,
            Answer::Rejected | Answer::RejectedTwice => {
                fates[item] = Fate::DeadLetterOwed;
                rejected.push(item);
            }
            Answer::Retry | Answer::RejectedAndRetry | Answer::RetryTwice => {}
        }
    }
    rejected
}

proptest! {
    /// The watermark never passes a record that some sink still owes, nor one whose dead letter is not durable; and it
    /// does move once nothing is owed.
    #[test]
    fn there_is_no_proof_while_anything_is_owed((sinks, items, dead_letters, steps) in any_run()) {
        let through = Checkpoint::ShardEnd;
        let mut settlement = Settlement::new(through, sinks, items, dead_letters);
        let mut fates = vec![vec![Fate::Owed; items]; sinks];
        // Refused before they reached a sink.
        fates.push(vec![Fate::DeadLetterOwed; dead_letters]);
        for step in steps {
            match step {
                Step::Emit { sink, answers, reversed } => {
                    let unsettled = settlement.unsettled(sink).collect::<Vec<_>>();
                    let owed = (0..items).filter(|&item| fates[sink][item] == Fate::Owed).collect::<Vec<_>>();
                    prop_assert_eq!(&unsettled, &owed);
                    let mut beyond = answers.iter().skip(unsettled.len());
                    let confused = beyond.any(|answer| !matches!(answer, Answer::Delivered));
                    match settlement.emitted(sink, &outcome(&answers, reversed)) {
                        Ok(rejected) => {
                            prop_assert!(!confused, "an answer about an item that was not sent was ignored");
                            let rejected: Vec<usize> = rejected.into_iter().map(|(item, _)| item).collect();
                            prop_assert_eq!(rejected, apply(&mut fates[sink], &unsettled, &answers));
                        }
                        // Nothing changed, as the comparison above says the next time.
                        Err(_) => prop_assert!(confused),
                    }
                }
                Step::DeadLetter => {
                    if let Some(fate) = fates.iter_mut().flatten().find(|fate| **fate == Fate::DeadLetterOwed) {
                        *fate = Fate::DeadLettered;
                        settlement.dead_lettered(1);
                    }
                }
            }
            let safe = |fate: &Fate| matches!(fate, Fate::Delivered | Fate::DeadLettered);
            let all_safe = fates.iter().flatten().all(safe);
            settlement = match settlement.finish() {
                Ok(durable) => {
                    prop_assert!(all_safe, "proven while owed: {fates:?}");
                    prop_assert_eq!(durable.through(), through);
                    return Ok(());
                }
                Err(settlement) => {
                    prop_assert!(!all_safe, "owed, though everything is safe");
                    settlement
                }
            };
        }
    }
}

#[test]
fn an_answer_about_an_item_that_was_not_sent_settles_nothing() {
    let mut settlement = Settlement::new(Checkpoint::ShardEnd, 1, 2, 0);
    let mut emitted = Emitted::all();
    emitted.retry(2, Reject::new("meant as the second of two"));
    let error = settlement.emitted(0, &emitted).unwrap_err();
    assert_eq!(error.to_string(), "an outcome names item 2 of a batch of 2, counted from 0");
    assert_eq!(settlement.unsettled(0).collect::<Vec<_>>(), [0, 1]);
    assert!(settlement.finish().is_err());
}

#[test]
fn an_item_refused_twice_in_one_outcome_is_one_dead_letter() {
    let mut settlement = Settlement::new(Checkpoint::ShardEnd, 1, 1, 0);
    let mut emitted = Emitted::all();
    emitted.reject(0, Reject::new("first"));
    emitted.reject(0, Reject::new("second"));
    assert_eq!(settlement.emitted(0, &emitted).unwrap(), [(0, Reject::new("first"))]);
    settlement.dead_lettered(1);
    assert!(settlement.finish().is_ok());
}

/// Many exceptions cost as much each as few do.
#[test]
fn a_large_window_that_is_refused_as_a_whole_is_settled() {
    const ITEMS: usize = 200_000;
    let mut settlement = Settlement::new(Checkpoint::ShardEnd, 1, ITEMS, 0);
    let (mut later, mut never) = (Emitted::all(), Emitted::all());
    for index in 0..ITEMS {
        later.retry(index, Reject::new("throttled"));
        never.reject(index, Reject::new("no such field"));
    }
    assert!(settlement.emitted(0, &later).unwrap().is_empty());
    assert_eq!(settlement.emitted(0, &never).unwrap().len(), ITEMS);
    settlement.dead_lettered(ITEMS);
    assert!(settlement.finish().is_ok());
}

#[test]
fn a_sink_that_has_settled_all_of_a_window_owes_its_dead_letters() {
    let mut settlement = Settlement::new(Checkpoint::ShardEnd, 2, 5, 0);
    settlement.settled(0, 2);
    assert_eq!(settlement.unsettled(0).len(), 0);
    let mut settlement = settlement.finish().unwrap_err();
    settlement.settled(1, 0);
    let mut settlement = settlement.finish().unwrap_err();
    settlement.dead_lettered(1);
    let mut settlement = settlement.finish().unwrap_err();
    settlement.dead_lettered(1);
    assert_eq!(settlement.finish().unwrap().through(), Checkpoint::ShardEnd);
}
