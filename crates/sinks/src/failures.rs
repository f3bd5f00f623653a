//! What a sink says of a batch that it sent in parts.

use kinesink_core::{Class, Failure};

/// Which of the failures is the sink's, of so many parts: one that waiting does not mend, or the first if all of them failed. Where
/// there is none, what is durable need not be sent again.
pub(crate) fn of_sink<'a>(mut failures: impl ExactSizeIterator<Item = &'a Failure>, parts: usize) -> Option<usize> {
    let all = (failures.len() > 0 && failures.len() == parts).then_some(0);
    failures.position(|failure| failure.class != Class::Transient).or(all)
}
