//! Mistakes in a file, shown with their line.

use std::fmt;
use std::ops::Range;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};

use super::secrets::{without_passwords, without_secrets};

/// One mistake: what, where, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub(super) struct Mistake {
    /// Names the key, in lower case.
    pub(super) what: String,
    /// In bytes of the file.
    pub(super) span: Range<usize>,
    /// What stands beside the marked place.
    pub(super) label: &'static str,
    /// What to write instead.
    pub(super) hint: Option<String>,
    /// Whether values on its lines are shown as `*`: one may be a secret that stands in the wrong place.
    hides_values: bool,
}

impl Mistake {
    pub(super) fn new(what: impl Into<String>, span: Range<usize>, label: &'static str) -> Self {
        Self { what: what.into(), span, label, hint: None, hides_values: false }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn hiding_values(mut self) -> Self {
        self.hides_values = true;
        self
    }
}

impl Diagnostic for Mistake {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.hint.as_ref().map(|hint| Box::new(hint) as Box<dyn fmt::Display>)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = LabeledSpan::new_with_span(Some(self.label.into()), self.span.clone());
        Some(Box::new(std::iter::once(label)))
    }
}

/// What is wrong with a pipeline file: mend the file. A [`Diagnostic`], to be shown with file, line, key and hint.
#[derive(Debug)]
pub struct ConfigError {
    file: String,
    text: NamedSource<String>,
    mistakes: Vec<Mistake>,
}

impl ConfigError {
    pub(super) fn new(file: &str, text: &str, mut mistakes: Vec<Mistake>) -> Self {
        mistakes.sort_by_key(|mistake| mistake.span.start);
        let hiding: Vec<_> =
            mistakes.iter().filter(|mistake| mistake.hides_values).map(|mistake| mistake.span.start).collect();
        let shown = without_secrets(text, &hiding);
        for mistake in &mut mistakes {
            mistake.what = without_passwords(&mistake.what);
        }
        Self { file: file.into(), text: NamedSource::new(file, shown), mistakes }
    }

    fn only(&self) -> Option<&Mistake> {
        match self.mistakes.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.only() {
            Some(mistake) => mistake.fmt(f),
            None => write!(f, "{} mistakes in {}", self.mistakes.len(), self.file),
        }
    }
}

impl std::error::Error for ConfigError {}

impl Diagnostic for ConfigError {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.text)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.only()?.help()
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.only()?.labels()
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        match self.only() {
            Some(_) => None,
            None => Some(Box::new(self.mistakes.iter().map(|mistake| mistake as &dyn Diagnostic))),
        }
    }
}
