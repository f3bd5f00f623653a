//! Which application is meant, and which table and stream are its own.

use std::path::Path;

use kinesink::StreamName;
use kinesink::config::{TABLE_NAME, is_table_name};
use kinesink::consumer::Coordination;

use crate::args::Leases;
use crate::commands::check;
use crate::exit::{Exit, Problem};

/// What the command line says, and what a pipeline file says where it leaves something open.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) app: String,
    pub(super) table: String,
    pub(super) stream: Option<StreamName>,
    pub(super) region: Option<String>,
    /// Whether workers of this file make a new application one of KCL 3.x.
    pub(super) asks_for_kcl_3: bool,
}

impl Target {
    pub(super) fn of(args: &Leases) -> Result<Self, Problem> {
        let stream = args.stream.as_deref().map(str::parse::<StreamName>).transpose();
        let stream = stream.map_err(|error| Problem::new(Exit::Configuration, error))?;
        let file = Path::new(&args.app);
        if file.extension().is_none_or(|extension| extension != "toml") {
            let table = args.table.clone().unwrap_or_else(|| args.app.clone());
            check_table(&table)?;
            return Ok(Self { app: args.app.clone(), table, stream, region: None, asks_for_kcl_3: false });
        }
        args.table.as_deref().map(check_table).transpose()?;
        let (config, _programs) = check::read(file)?;
        Ok(Self {
            app: config.app,
            table: args.table.clone().unwrap_or(config.lease.table),
            stream: Some(stream.unwrap_or(config.source.stream)),
            region: config.source.region,
            asks_for_kcl_3: config.lease.coordination == Coordination::Kcl3,
        })
    }
}

fn check_table(table: &str) -> Result<(), Problem> {
    if is_table_name(table) {
        return Ok(());
    }
    Err(Problem::new(Exit::Configuration, format!("the lease table cannot be {table:?}: {TABLE_NAME}")))
}
