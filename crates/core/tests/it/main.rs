//! The orders, held against oracles that compute them otherwise, and the contract suites, held against
//! implementations that are right and ones that break one rule each.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests may panic as tests do")]

/// Checkpoints: KCL's order and text.
mod checkpoint;
/// The suites of the testkit.
mod contracts;
/// Sequence numbers: numeric order and text.
mod sequence_number;
/// Settlements: no proof while anything is owed.
mod settlement;

use kinesink_core::testkit::Broken;

#[track_caller]
fn assert_breaks(outcome: Result<(), Broken>, rule: &str) {
    let broken = outcome.expect_err("the suite found nothing wrong");
    assert_eq!(broken.rule, rule, "{broken}");
}
