//! Numbers of JSON, which have any number of digits, without a detour by binary fractions.

/// A number as a whole one of some unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scaled {
    /// It is that many units.
    Exact(i128),
    /// It is between two: the one below it, and the nearest, of which halves go away from zero.
    Between(i128, i128),
    /// 128 bits do not hold it.
    TooLarge,
}

/// What a number of JSON is in units of `10^-scale`.
pub(super) fn scaled(number: &str, scale: i64) -> Scaled {
    let (negative, number) = number.strip_prefix('-').map_or((false, number), |number| (true, number));
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = whole.bytes().chain(fraction.bytes()).map(|digit| digit.wrapping_sub(b'0'));
    let count = signed(whole.len() + fraction.len());
    // So many of the digits stand before the point.
    let before = signed(whole.len()).saturating_add(shift(exponent)).saturating_add(scale);

    let (mut units, mut left_out, mut half) = (0_i128, false, false);
    for (place, digit) in (0..).zip(digits) {
        if place < before {
            let next = units.checked_mul(10).and_then(|units| units.checked_add(digit.into()));
            let Some(next) = next else { return Scaled::TooLarge };
            units = next;
        } else {
            left_out |= digit != 0;
            half |= place == before && digit >= 5;
        }
    }
    for _ in count..before {
        if units == 0 {
            break;
        }
        let Some(next) = units.checked_mul(10) else { return Scaled::TooLarge };
        units = next;
    }
    let sign = if negative { -1 } else { 1 };
    if !left_out {
        return Scaled::Exact(sign * units);
    }
    let below = if negative { -units - 1 } else { units };
    Scaled::Between(below, sign * (units + i128::from(half)))
}

/// Beyond what any text can hold, all exponents are alike.
fn shift(exponent: &str) -> i64 {
    const FAR: i64 = i64::MAX / 4;
    let digits = exponent.trim_start_matches(['+', '-']);
    let size = digits.parse().unwrap_or(FAR).min(FAR);
    if exponent.starts_with('-') { -size } else { size }
}

fn signed(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

/// Whether text is a number as JSON writes it, and nothing beside it.
pub(super) fn is_number(text: &str) -> bool {
    let digit = |letter: Option<&u8>| letter.is_some_and(u8::is_ascii_digit);
    let bytes = text.as_bytes();
    (digit(bytes.last()) && (digit(bytes.first()) || bytes.first() == Some(&b'-')))
        && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// Whether a number survives as one of 64 bits: its nearest, written as short as can be, has the same digits.
pub(super) fn is_float64(number: &str) -> bool {
    let Ok(nearest) = number.parse::<f64>() else { return false };
    nearest.is_finite() && normal(number) == normal(&format!("{nearest:e}"))
}

/// Sign, digits without zeros at either end, and where the point stands: alike where two texts are one number.
fn normal(number: &str) -> (bool, String, i64) {
    let (negative, number) = number.strip_prefix('-').map_or((false, number), |number| (true, number));
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0');
    let point = signed(whole.len()) - signed(digits.len() - significant.len()) + shift(exponent);
    match significant.trim_end_matches('0') {
        "" => (negative, String::new(), 0),
        significant => (negative, significant.into(), point),
    }
}

/// How many digits a number has before and after its point.
pub(super) fn digits(number: &str) -> (i64, i64) {
    let (_, significant, point) = normal(number);
    (point.max(0), (signed(significant.len()) - point).max(0))
}
