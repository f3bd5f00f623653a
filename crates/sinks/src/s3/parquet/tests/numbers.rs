//! Numbers of any length, exactly.

use proptest::prelude::*;

use crate::s3::parquet::number::{Scaled, digits, is_float64, is_number, scaled};

#[test]
fn a_number_is_units_without_a_detour_by_fractions() {
    use Scaled::{Between, Exact, TooLarge};
    let i128_max = "170141183460469231731687303715884105727";
    let cases = [
        ("0", 0, Exact(0)),
        ("-0", 5, Exact(0)),
        ("0e999999999999999999999999", 0, Exact(0)),
        ("0.000", 2, Exact(0)),
        ("9007199254740993", 0, Exact(9_007_199_254_740_993)),
        ("18446744073709551615", 0, Exact(18_446_744_073_709_551_615)),
        ("1.10", 1, Exact(11)),
        ("1.10e1", 0, Exact(11)),
        ("12300e-2", 0, Exact(123)),
        ("1e2", 2, Exact(10_000)),
        ("-1.5", 0, Between(-2, -2)),
        ("1.5", 0, Between(1, 2)),
        ("1.49", 0, Between(1, 1)),
        ("-1.49", 0, Between(-2, -1)),
        ("0.05", 0, Between(0, 0)),
        ("0.5", 0, Between(0, 1)),
        ("-0.5", 0, Between(-1, -1)),
        ("1e-400", 30, Between(0, 0)),
        ("5e-99999999999999999999", 9, Between(0, 0)),
        ("1234", -3, Between(1, 1)),
        ("1999", -3, Between(1, 2)),
        ("5000", -3, Exact(5)),
        ("500", -3, Between(0, 1)),
        ("1e400", 0, TooLarge),
        ("1e99999999999999999999", 0, TooLarge),
        ("1E+3", 0, Exact(1000)),
        (i128_max, 0, Exact(i128::MAX)),
        ("170141183460469231731687303715884105728", 0, TooLarge),
        (i128_max, 1, TooLarge),
    ];
    for (number, scale, expected) in cases {
        assert_eq!(scaled(number, scale), expected, "{number} in 10^-{scale}");
    }
}

#[test]
fn only_what_json_writes_is_a_number() {
    for number in ["0", "-1", "1.5", "1e5", "1E-5", "-0.0"] {
        assert!(is_number(number), "{number}");
    }
    for other in
        ["", "-", "+1", "01", "1.", ".5", "1e", "0x10", "1 ", " 1", "1\n", "NaN", "Infinity", "1,5", "1 2", "٣"]
    {
        assert!(!is_number(other), "{other}");
    }
}

#[test]
fn a_number_that_64_bits_would_change_is_told() {
    for kept in ["0.1", "1.5", "100", "1e300", "9007199254740992", "0.30000000000000004", "-2.5e-8", "1.0", "0"] {
        assert!(is_float64(kept), "{kept}");
    }
    for changed in ["9007199254740993", "0.1000000000000000055", "1e400", "123456789.123456789012", "1e-400"] {
        assert!(!is_float64(changed), "{changed}");
    }
}

#[test]
fn digits_count_without_zeros_at_either_end() {
    let cases =
        [("0", (0, 0)), ("120", (3, 0)), ("001.50", (1, 1)), ("0.05", (0, 2)), ("1e3", (4, 0)), ("12e-4", (0, 4))];
    for (number, expected) in cases {
        assert_eq!(digits(number), expected, "{number}");
    }
}

proptest! {
    #[test]
    fn units_with_their_point_anywhere_come_back(units in any::<i64>(), scale in 0_usize..30, moved in -40_i64..40) {
        let digits = format!("{:0>1$}", units.unsigned_abs(), scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        let (sign, dot) = (if units < 0 { "-" } else { "" }, if fraction.is_empty() { "" } else { "." });
        let number = format!("{sign}{whole}{dot}{fraction}e{moved}");
        let scale = i64::try_from(scale).unwrap();
        prop_assert_eq!(scaled(&number, scale - moved), Scaled::Exact(units.into()), "{}", number);
    }
}
