//! How much of a list one answer has.

/// What a request asks for, or else as much as a page has: more may be asked for, and no more is given.
pub(super) fn size(asked: Option<i64>, max: usize) -> usize {
    asked.and_then(|asked| usize::try_from(asked).ok()).map_or(max, |asked| asked.min(max))
}
