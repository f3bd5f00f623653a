//! Values that are written as text, and suggestions for what was mistyped.

use std::time::Duration;

/// So many of a unit are told without the rest.
const UNITS_NEAR: usize = 16;

/// A whole number and a unit, such as `500ms`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number.checked_mul(60)?)),
        "h" => Some(Duration::from_secs(number.checked_mul(3600)?)),
        _ => None,
    }
}

/// A whole number and a unit, such as `64MiB`, in bytes.
pub(super) fn size(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let factor = match unit {
        "B" => 1,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// A duration as a file has it, exact to the millisecond.
pub(super) fn duration_text(duration: Duration) -> String {
    let ms = duration.as_millis();
    let units = [("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    let exact = units.into_iter().find(|(_, factor)| ms > 0 && ms.is_multiple_of(*factor));
    let (unit, factor) = exact.unwrap_or(("ms", 1));
    format!("{}{unit}", ms / factor)
}

/// A size as a file has it: exact where a unit of 1024 divides it, else the next lower one of which there are many.
pub(super) fn size_text(bytes: usize) -> String {
    let units = [("GiB", 1_usize << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let exact = units.into_iter().find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor));
    let near = || units.into_iter().find(|(_, factor)| bytes / factor >= UNITS_NEAR);
    let (unit, factor) = exact.or_else(near).unwrap_or(("B", 1));
    format!("{}{unit}", bytes / factor)
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit.trim_start()))
}

/// The one of `allowed` that was most likely meant, if any is near.
pub(super) fn nearest<'a>(text: &str, allowed: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let text = text.to_lowercase().replace('_', "-");
    let (distance, nearest) =
        allowed.into_iter().map(|word| (distance(&text, &word.replace('_', "-")), word)).min_by_key(|(far, _)| *far)?;
    (distance <= text.chars().count().max(3) / 3).then_some(nearest)
}

/// How many letters must be changed, added, left out, or swapped with their neighbour.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows = vec![(0..=to.len()).collect::<Vec<usize>>()];
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let changed = rows[i][j] + usize::from(a != b);
            let mut best = changed.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_have_units() {
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("10s"), Some(Duration::from_secs(10)));
        assert_eq!(duration("5 m"), Some(Duration::from_secs(300)));
        assert_eq!(duration("2h"), Some(Duration::from_secs(7200)));
        for text in ["", "10", "s", "1.5s", "-1s", "10 S", "99999999999999999999s", "9999999999999999999h", "1é"] {
            assert_eq!(duration(text), None, "{text}");
        }
        assert_eq!(size("64MiB"), Some(64 << 20));
        assert_eq!(size("10MB"), Some(10_000_000));
        assert_eq!(size("1 GiB"), Some(1 << 30));
        assert_eq!(size("7B"), Some(7));
        for text in ["", "64", "MiB", "64mb", "18446744073709551615KB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn durations_and_sizes_are_told_as_a_file_has_them() {
        for text in ["1ms", "1500ms", "1s", "90s", "2m", "24h", "8760h", "0ms"] {
            assert_eq!(duration_text(duration(text).unwrap()), text);
        }
        for text in ["0B", "1B", "1000B", "1KiB", "8KiB", "1MiB", "160MiB", "17GiB", "1023B"] {
            assert_eq!(size_text(usize::try_from(size(text).unwrap()).unwrap()), text);
        }
        // Never more than there is.
        assert_eq!(size_text(100_000_000), "95MiB");
        assert_eq!(size_text(10_000_000), "9765KiB");
    }

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("sotp", "stop"), 1);
        assert_eq!(distance("", "abc"), 3);
        let words = ["source", "sink", "start", "trim-horizon"];
        assert_eq!(nearest("sorce", words), Some("source"));
        assert_eq!(nearest("TRIM_HORIZON", words), Some("trim-horizon"));
        assert_eq!(nearest("snik", words), Some("sink"));
        assert_eq!(nearest("colour", words), None);
        assert_eq!(nearest("x", []), None);
    }
}
