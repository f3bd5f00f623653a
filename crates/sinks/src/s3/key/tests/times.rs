//! A record's own time.

use super::*;

const DAY: i64 = 24 * 60 * 60;

fn timed(format: &str, time_zone: &str, late: Option<Late>) -> KeyTemplate {
    KeyTemplate::new(KeySettings {
        template: "h={event:%Y-%m-%dT%H}/{first}".into(),
        time_zone: time_zone.into(),
        event_time: Some(EventTime { field: ".ts".parse().unwrap(), format: format.parse().unwrap() }),
        late,
        ..KeySettings::default()
    })
    .unwrap()
}

#[test]
fn a_records_own_time_is_read_in_its_format_and_told_in_the_zone() {
    for (format, zone, ts, hour) in [
        ("rfc3339", "UTC", r#""2026-03-28T22:30:00Z""#, "2026-03-28T22"),
        ("rfc3339", "Europe/Berlin", r#""2026-03-28T23:30:00.123+00:00""#, "2026-03-29T00"),
        // Summer time begins at 1:00 UTC.
        ("rfc3339", "Europe/Berlin", r#""2026-03-29T01:30:00Z""#, "2026-03-29T03"),
        ("epoch-s", "UTC", "1774740600", "2026-03-28T23"),
        ("epoch-s", "UTC", "1774740600.999", "2026-03-28T23"),
        ("epoch-s", "UTC", "\"1774740600\"", "2026-03-28T23"),
        ("epoch-ms", "UTC", "1774740600123", "2026-03-28T23"),
        ("epoch-ms", "UTC", "-1", "1969-12-31T23"),
        ("%d/%b/%Y:%H:%M:%S %z", "UTC", r#""28/Mar/2026:23:30:00 +0100""#, "2026-03-28T22"),
        // Without an offset it is a time of the zone.
        ("%Y-%m-%d %H:%M:%S", "Europe/Berlin", r#""2026-03-28 23:30:00""#, "2026-03-28T23"),
        ("%Y-%m-%d", "America/New_York", r#""2026-03-28""#, "2026-03-28T00"),
    ] {
        let key = key_of(&timed(format, zone, None), &format!(r#"{{"ts": {ts}}}"#), "2026-03-30T12:00:00Z");
        assert_eq!(key, format!("pre/fix/h={hour}/FIRST"), "{format} {zone} {ts}");
    }
}

#[test]
fn what_has_no_time_of_its_own_goes_by_its_arrival() {
    for (format, ts) in [
        ("rfc3339", r#""2026-03-28""#),
        ("rfc3339", "17"),
        ("epoch-s", "1e9"),
        ("epoch-s", r#""soon""#),
        ("epoch-s", "99999999999999"),
        ("epoch-ms", "\"\""),
        ("epoch-ms", "null"),
        ("%Y/%m/%d", r#""2026-03-28""#),
        ("epoch-s", "{}"),
    ] {
        let key = key_of(&timed(format, "UTC", None), &format!(r#"{{"ts": {ts}}}"#), "2026-03-30T12:00:00Z");
        assert_eq!(key, "pre/fix/h=2026-03-30T12/FIRST", "{format} {ts}");
    }
}

#[test]
fn a_late_record_goes_where_the_policy_says() {
    let late = |to| Some(Late { after: SignedDuration::from_secs(DAY), to });
    let key = |late, ts: &str| {
        key_of(&timed("rfc3339", "UTC", late), &format!(r#"{{"ts": "{ts}"}}"#), "2026-03-30T12:00:00Z")
    };
    let (just, past, ahead) = ("2026-03-29T12:00:00Z", "2026-03-29T11:59:59Z", "2026-03-31T12:00:01Z");
    assert_eq!(key(late(LateTo::Late), just), "pre/fix/h=2026-03-29T12/FIRST");
    assert_eq!(key(late(LateTo::Late), past), "pre/fix/late/h=2026-03-29T11/FIRST");
    assert_eq!(key(late(LateTo::Late), ahead), "pre/fix/late/h=2026-03-31T12/FIRST");
    assert_eq!(key(late(LateTo::Arrival), past), "pre/fix/h=2026-03-30T12/FIRST");
    assert_eq!(key(late(LateTo::Arrival), ahead), "pre/fix/h=2026-03-30T12/FIRST");
    assert_eq!(key(None, past), "pre/fix/h=2026-03-29T11/FIRST");
}

proptest! {
    #[test]
    fn epochs_are_exact(nanos in -2_000_000_000_000_000_000_i128..4_000_000_000_000_000_000) {
        let time = Timestamp::from_nanosecond(nanos).unwrap();
        let sign = if nanos < 0 { "-" } else { "" };
        let abs = nanos.unsigned_abs();
        let seconds = format!("{sign}{}.{:09}", abs / 1_000_000_000, abs % 1_000_000_000);
        let millis = format!("{sign}{}.{:06}", abs / 1_000_000, abs % 1_000_000);
        for (format, text) in [(TimeFormat::EpochSeconds, seconds), (TimeFormat::EpochMillis, millis)] {
            let event_time = EventTime { field: ".ts".parse().unwrap(), format };
            prop_assert_eq!(event_time.read(&text, &TimeZone::UTC), Some(time), "{}", text);
        }
    }
}
