//! Contract suites for implementations of the traits, and fakes.
