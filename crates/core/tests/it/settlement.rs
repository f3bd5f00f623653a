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
    use Answer::{Delivered, Rejected, RejectedAndRetry, Retry, RetryTwice};
    let answer = prop::sample::select(vec![Delivered, Delivered, Retry, Rejected, RejectedAndRetry, RetryTwice]);
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
            Answer::Rejected => {
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
                    let unsettled = settlement.unsettled(sink).to_vec();
                    let owed = (0..items).filter(|&item| fates[sink][item] == Fate::Owed).collect::<Vec<_>>();
                    prop_assert_eq!(&unsettled, &owed);
                    let expected = apply(&mut fates[sink], &unsettled, &answers);
                    let rejected = settlement.emitted(sink, &outcome(&answers, reversed));
                    let mut rejected: Vec<usize> = rejected.into_iter().map(|(item, _)| item).collect();
                    rejected.sort_unstable();
                    prop_assert_eq!(rejected, expected);
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
