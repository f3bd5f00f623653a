//! Fields of a record that is JSON, as they are named in a configuration.

use std::fmt;
use std::str::FromStr;

/// The way to a field, as jq writes it: `.type`, `.user.id`, `."a b".c`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath(Vec<String>);

impl FieldPath {
    /// The name of a field at the top of a record; none of one that stands inside another.
    #[must_use]
    pub fn as_name(&self) -> Option<&str> {
        match self.0.as_slice() {
            [name] => Some(name),
            _ => None,
        }
    }

    /// The names on the way, from the outermost.
    pub(crate) fn names(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for name in &self.0 {
            match is_plain(name) {
                true => write!(f, ".{name}")?,
                false => write!(f, ".{}", serde_json::Value::from(name.as_str()))?,
            }
        }
        Ok(())
    }
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.contains(|char: char| char.is_control() || ".\"{}[]\\ ".contains(char))
}

impl FromStr for FieldPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("{text:?} is not the way to a field: write .name, .outer.inner or .\"a name\"");
        let (mut names, mut rest) = (Vec::new(), text);
        while !rest.is_empty() {
            let name = rest.strip_prefix('.').ok_or_else(refuse)?;
            if name.starts_with('"') {
                let mut quoted = serde_json::Deserializer::from_str(name).into_iter::<String>();
                names.push(quoted.next().and_then(Result::ok).ok_or_else(refuse)?);
                rest = name.get(quoted.byte_offset()..).unwrap_or_default();
            } else {
                let (plain, behind) = name.split_at(name.find('.').unwrap_or(name.len()));
                if !is_plain(plain) {
                    return Err(refuse());
                }
                names.push(plain.into());
                rest = behind;
            }
        }
        if names.is_empty() { Err(refuse()) } else { Ok(Self(names)) }
    }
}
