//! A page of a listing: keys in order, and what stands for all keys with one beginning.

/// Which keys are asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Query {
    pub(super) prefix: String,
    /// Keys that have it behind the prefix are told by what they have up to there.
    pub(super) delimiter: Option<String>,
    /// Only what comes behind it: a key, or the beginning that a page ended with.
    pub(super) after: String,
    pub(super) entries_max: usize,
}

/// A line of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry<T> {
    Key(String, T),
    /// For all keys that begin so.
    Prefix(String),
}

/// The lines, and whether there are more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page<T> {
    pub(super) entries: Vec<Entry<T>>,
    pub(super) is_truncated: bool,
}

impl<T> Page<T> {
    /// What the next page comes after.
    pub(super) fn next(&self) -> Option<&str> {
        let last = self.entries.last().filter(|_| self.is_truncated)?;
        Some(match last {
            Entry::Key(key, _) => key,
            Entry::Prefix(prefix) => prefix,
        })
    }
}

/// The page, of keys in order of their bytes. They may begin anywhere before what is asked for.
pub(super) fn page<'a, T>(keys: impl Iterator<Item = (&'a str, T)>, query: &Query) -> Page<T> {
    let mut page = Page { entries: Vec::new(), is_truncated: false };
    let common = |key: &str| common(key, query).map(str::to_owned);
    // A page that ended with a beginning has told all keys that begin so.
    let mut told = common(&query.after).filter(|prefix| *prefix == query.after);
    for (key, value) in keys {
        let is_behind = query.after.is_empty() || key > query.after.as_str();
        if !is_behind || !key.starts_with(&query.prefix) {
            if is_behind && key > query.prefix.as_str() {
                break;
            }
            continue;
        }
        if told.as_ref().is_some_and(|told| key.starts_with(told)) {
            continue;
        }
        if page.entries.len() >= query.entries_max {
            // Nobody can go on behind an empty page.
            page.is_truncated = query.entries_max > 0;
            break;
        }
        told = common(key);
        page.entries.push(match &told {
            Some(prefix) => Entry::Prefix(prefix.clone()),
            None => Entry::Key(key.to_owned(), value),
        });
    }
    page
}

/// The key up to its first delimiter behind the prefix.
fn common<'a>(key: &'a str, query: &Query) -> Option<&'a str> {
    let delimiter = query.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty())?;
    let at = key.strip_prefix(&query.prefix)?.find(delimiter)?;
    key.get(..query.prefix.len() + at + delimiter.len())
}
