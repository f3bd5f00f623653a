//! The one place that builds AWS SDK clients and judges their errors.
