//! Which models go on.

/// Decides which models reach the buffer. Synchronous and pure, as a [`Transformer`](crate::Transformer) is.
///
/// A model that is not kept still moves the watermark.
pub trait Filter<T>: Send + Sync + 'static {
    /// Whether `model` goes on.
    fn keep(&self, model: &T) -> bool;
}

/// Any function from a model to a verdict is a filter.
impl<T, F> Filter<T> for F
where
    F: Fn(&T) -> bool + Send + Sync + 'static,
{
    fn keep(&self, model: &T) -> bool {
        self(model)
    }
}
