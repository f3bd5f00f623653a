//! HTTP in, HTTP out. Operations know nothing of it but the errors, tokens and binary members defined here.

pub(crate) mod blob;
pub(crate) mod http;
pub(crate) mod payload;
pub(crate) mod service_error;
pub(crate) mod token;
pub(crate) mod validation;
