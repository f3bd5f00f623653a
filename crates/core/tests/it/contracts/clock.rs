use std::time::Duration;

use jiff::Timestamp;
use kinesink_core::Clock;
use kinesink_core::testkit::ManualClock;

#[test]
fn a_manual_clock_stands_still_until_it_is_told_otherwise() {
    let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
    assert_eq!([clock.now(), clock.now()], [Timestamp::UNIX_EPOCH; 2]);
    clock.advance(Duration::from_millis(1_500));
    assert_eq!(clock.now().as_millisecond(), 1_500);
    clock.set(Timestamp::UNIX_EPOCH);
    assert_eq!(clock.now(), Timestamp::UNIX_EPOCH);
    clock.advance(Duration::MAX);
    assert_eq!(clock.now(), Timestamp::MAX);
}
