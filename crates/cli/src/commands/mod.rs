//! One file a command.

pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod leases;
pub(crate) mod local;
pub(crate) mod put;
pub(crate) mod replay;
pub(crate) mod run;
pub(crate) mod tail;
