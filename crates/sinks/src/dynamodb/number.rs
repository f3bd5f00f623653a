//! Numbers as DynamoDB has them: 38 digits, exact.

use std::cmp::Ordering;
use std::fmt;

/// DynamoDB keeps so many digits.
const DIGITS_MAX: usize = 38;
/// Of the first digit's place: from 1E-130 to 9.99…E+125.
const MAGNITUDE_MIN: i64 = -130;
const MAGNITUDE_MAX: i64 = 125;

/// A number that DynamoDB keeps exactly: a whole number without zeros at its end, and a power of ten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Decimal {
    mantissa: i128,
    exponent: i32,
}

/// Why text is no number that a table keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NumberError {
    NotANumber,
    TooManyDigits,
    OutOfRange,
}

impl fmt::Display for NumberError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotANumber => "no number",
            Self::TooManyDigits => "a number of more than 38 digits",
            Self::OutOfRange => "a number outside of 1E-130 to 9.99E+125",
        })
    }
}

impl Decimal {
    pub(super) const ZERO: Self = Self { mantissa: 0, exponent: 0 };

    /// Reads a number as JSON writes it.
    pub(super) fn parse(text: &str) -> Result<Self, NumberError> {
        let (negative, unsigned) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (coefficient, power) = match unsigned.split_once(['e', 'E']) {
            Some((coefficient, power)) => (coefficient, Some(power)),
            None => (unsigned, None),
        };
        let (whole, fraction) = coefficient.split_once('.').unwrap_or((coefficient, ""));
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let has_bare_point = coefficient.contains('.') && fraction.is_empty();
        if whole.is_empty() || has_bare_point || !is_digits(whole) || !is_digits(fraction) {
            return Err(NumberError::NotANumber);
        }
        let shift = power.map_or(Ok(0), shift)?;
        let digits = format!("{whole}{fraction}");
        let digits = digits.trim_start_matches('0');
        let significant = digits.trim_end_matches('0');
        if significant.is_empty() {
            return Ok(Self::ZERO);
        }
        if significant.len() > DIGITS_MAX {
            return Err(NumberError::TooManyDigits);
        }
        let exponent = shift - length(fraction) + length(digits) - length(significant);
        if !(MAGNITUDE_MIN..=MAGNITUDE_MAX).contains(&(exponent + length(significant) - 1)) {
            return Err(NumberError::OutOfRange);
        }
        let mantissa: i128 = significant.parse().map_err(|_| NumberError::TooManyDigits)?;
        let exponent = i32::try_from(exponent).map_err(|_| NumberError::OutOfRange)?;
        Ok(Self { mantissa: if negative { -mantissa } else { mantissa }, exponent })
    }

    /// As a whole number that is not negative, if it is one; the highest there is where it is more than that.
    pub(super) fn to_whole(self) -> Option<u64> {
        if self.mantissa < 0 {
            return None;
        }
        let power = 10_u64.checked_pow(u32::try_from(self.exponent).ok()?).unwrap_or(u64::MAX);
        Some(u64::try_from(self.mantissa).unwrap_or(u64::MAX).saturating_mul(power))
    }

    /// The exact sum; none where a table does not keep it.
    pub(super) fn checked_add(self, other: Self) -> Option<Self> {
        if self == Self::ZERO || other == Self::ZERO {
            return Some(if self == Self::ZERO { other } else { self });
        }
        let exponent = self.exponent.min(other.exponent);
        let sum = self.scaled(exponent)?.checked_add(other.scaled(exponent)?)?;
        Self::parse(&format!("{sum}e{exponent}")).ok()
    }

    /// In units of a smaller power of ten.
    fn scaled(self, exponent: i32) -> Option<i128> {
        let power = u32::try_from(self.exponent - exponent).ok()?;
        self.mantissa.checked_mul(10_i128.checked_pow(power)?)
    }

    /// Where the first digit stands.
    fn magnitude(self) -> i64 {
        i64::from(self.exponent) + length(&self.mantissa.unsigned_abs().to_string()) - 1
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let sign = self.mantissa.signum();
        let by_sign = sign.cmp(&other.mantissa.signum());
        if by_sign != Ordering::Equal || sign == 0 {
            return by_sign;
        }
        let by_size = self.magnitude().cmp(&other.magnitude()).then_with(|| {
            // Of one magnitude: as whole numbers of as many digits.
            let padded = |number: &Self| format!("{:0<DIGITS_MAX$}", number.mantissa.unsigned_abs().to_string());
            padded(self).cmp(&padded(other))
        });
        if sign < 0 { by_size.reverse() } else { by_size }
    }
}

/// One text for one number, such as `1200`, `0.5`, `12E+40`.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.mantissa.unsigned_abs().to_string();
        let sign = if self.mantissa < 0 { "-" } else { "" };
        let whole = length(&digits) + i64::from(self.exponent);
        let places = usize::try_from(self.exponent.unsigned_abs()).unwrap_or(usize::MAX);
        if self.exponent >= 0 && whole <= i64::try_from(DIGITS_MAX).unwrap_or(i64::MAX) {
            write!(f, "{sign}{digits}{}", "0".repeat(places))
        } else if self.exponent < 0 && places <= DIGITS_MAX {
            let padded = format!("{digits:0>width$}", width = places + 1);
            let (whole, fraction) = padded.split_at(padded.len() - places);
            write!(f, "{sign}{whole}.{fraction}")
        } else {
            write!(f, "{sign}{digits}E{:+}", self.exponent)
        }
    }
}

/// The power of ten behind `e`. All that are far away are alike.
fn shift(power: &str) -> Result<i64, NumberError> {
    const FAR: i64 = 1 << 40;
    let digits = power.strip_prefix(['+', '-']).unwrap_or(power);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NumberError::NotANumber);
    }
    let size = digits.parse().unwrap_or(FAR).min(FAR);
    Ok(if power.starts_with('-') { -size } else { size })
}

fn length(text: &str) -> i64 {
    i64::try_from(text.len()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> Result<String, NumberError> {
        Decimal::parse(text).map(|number| number.to_string())
    }

    #[test]
    fn one_number_has_one_text() {
        for (written, stored) in [
            ("0", "0"),
            ("-0", "0"),
            ("0.000e9999999999999999999", "0"),
            ("1", "1"),
            ("1.0", "1"),
            ("10e-1", "1"),
            ("1200", "1200"),
            ("-0.050", "-0.05"),
            ("1e2", "100"),
            ("12345678901234567890123456789012345678", "12345678901234567890123456789012345678"),
            ("99999999999999999999999999999999999999", "99999999999999999999999999999999999999"),
            ("0.00000000000000000000000000000000000001", "0.00000000000000000000000000000000000001"),
            ("1e40", "1E+40"),
            ("9.9e125", "99E+124"),
            ("1e-130", "1E-130"),
            ("1e-39", "1E-39"),
        ] {
            assert_eq!(shown(written).as_deref(), Ok(stored), "{written}");
        }
    }

    #[test]
    fn what_a_table_does_not_keep_is_told_apart() {
        for text in ["", "-", "1.", ".5", "1e", "1e+", "+1", "0x1", "1_0", "NaN", " 1", "1e1.5", "--1"] {
            assert_eq!(shown(text), Err(NumberError::NotANumber), "{text}");
        }
        assert_eq!(shown("123456789012345678901234567890123456789"), Err(NumberError::TooManyDigits));
        assert_eq!(shown("1.00000000000000000000000000000000000001"), Err(NumberError::TooManyDigits));
        for text in ["1e126", "10e125", "1e-131", "1e99999999999999999999999", "1e-99999999999999999999999"] {
            assert_eq!(shown(text), Err(NumberError::OutOfRange), "{text}");
        }
    }

    #[test]
    fn a_sum_is_exact_or_none() {
        let sum = |a: &str, b: &str| {
            let (a, b) = (Decimal::parse(a).unwrap(), Decimal::parse(b).unwrap());
            a.checked_add(b).map(|sum| sum.to_string())
        };
        assert_eq!(sum("0.1", "0.2").as_deref(), Some("0.3"));
        assert_eq!(sum("5", "-5").as_deref(), Some("0"));
        assert_eq!(sum("0", "1e100").as_deref(), Some("1E+100"));
        assert_eq!(sum("1e37", "1").as_deref(), Some("10000000000000000000000000000000000001"));
        assert_eq!(sum("1e38", "1"), None, "39 digits");
        assert_eq!(sum("9e125", "9e125"), None, "out of range");
        assert_eq!(sum("1e100", "1e-100"), None);
    }

    proptest! {
        /// Whole numbers in `i128`, and their halves, are the other way to compare and to add.
        #[test]
        fn order_and_sums_are_those_of_whole_numbers(a in -(1_i128 << 100)..1_i128 << 100, b in -(1_i128 << 100)..1_i128 << 100, power in -60..60_i32) {
            let number = |mantissa: i128| Decimal::parse(&format!("{mantissa}e{power}")).unwrap();
            prop_assert_eq!(number(a).cmp(&number(b)), a.cmp(&b));
            prop_assert_eq!(number(a).checked_add(number(b)), Some(number(a + b)));
            prop_assert_eq!(Decimal::parse(&number(a).to_string()), Ok(number(a)));
        }
    }
}
