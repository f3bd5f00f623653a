//! Records to a model and a model to what a destination takes.

use crate::{Record, Reject};

/// Turns a record into any number of models, and a model into one output for the sinks.
///
/// Synchronous and pure: the same record gives the same outputs in the same order, whatever ran before and on
/// whichever machine, because a replay must rebuild what was sent. A refused record goes to the dead letters with
/// the reason; it is never dropped.
///
/// ```
/// use kinesink_core::{Record, Reject, Transformer};
///
/// /// Upper-cases ASCII text.
/// struct Upper;
///
/// impl Transformer for Upper {
///     type Model = String;
///     type Output = String;
///
///     fn to_model(&self, record: &Record, models: &mut Vec<String>) -> Result<(), Reject> {
///         let text = std::str::from_utf8(&record.data).map_err(|_| Reject::new("not UTF-8"))?;
///         models.push(text.to_ascii_uppercase());
///         Ok(())
///     }
///
///     fn to_output(&self, model: String) -> Result<String, Reject> {
///         Ok(model)
///     }
/// }
/// ```
pub trait Transformer: Send + Sync + 'static {
    /// What filters and buffers see.
    type Model: Send + Sync + 'static;
    /// What emitters send.
    type Output: Send + Sync + 'static;

    /// Appends the models of one record: none, one or several.
    ///
    /// # Errors
    /// A [`Reject`] refuses the record as a whole; models already appended are discarded.
    fn to_model(&self, record: &Record, models: &mut Vec<Self::Model>) -> Result<(), Reject>;

    /// Encodes one model for the sinks, when its window is committed.
    ///
    /// # Errors
    /// A [`Reject`] refuses this model alone.
    fn to_output(&self, model: Self::Model) -> Result<Self::Output, Reject>;
}
