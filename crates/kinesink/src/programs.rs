//! The programs of a pipeline file: which records go on, and what becomes of them.

use bytes::Bytes;
use kinesink_core::{Filter as _, Record, Reject, Transformer};
use kinesink_pipeline::{Event, Jq, Needs, PatternFilter, Raw};

use crate::config::{self, Config, ConfigError};

/// What the file's programs compile to. Made before anything is started, so that a mistake in one is a mistake in the
/// file.
#[derive(Debug)]
pub struct Programs {
    pub(crate) filter: Option<PatternFilter>,
    pub(crate) transform: Transform,
}

#[derive(Debug)]
pub(crate) enum Transform {
    Raw(Raw),
    Jq(Box<Jq>),
}

impl Programs {
    /// Compiles the jq program and reads the patterns.
    ///
    /// # Errors
    /// [`ConfigError`] shows the place in the file.
    pub fn compile(config: &Config) -> Result<Self, ConfigError> {
        let filter = (!config.patterns.is_empty()).then(|| PatternFilter::new(&config.patterns)).transpose();
        let filter = filter.map_err(|error| config.mistake("filter.pattern", &error.to_string()))?;
        let mut needs = filter.as_ref().map_or_else(Needs::default, PatternFilter::needs);
        needs.lines = config.sinks.iter().any(|sink| sink.format == config::Format::Ndjson);
        let transform = match &config.jq {
            None => Transform::Raw(Raw::new(needs)),
            Some(program) => {
                let jq = Jq::new(program, needs);
                Transform::Jq(Box::new(jq.map_err(|error| config.mistake("transform.jq", &error.to_string()))?))
            }
        };
        Ok(Self { filter, transform })
    }

    /// What the sinks would get of one record: nothing, one output or several.
    ///
    /// # Errors
    /// A [`Reject`], if the transform refuses it.
    pub fn outputs(&self, record: &Record) -> Result<Vec<Bytes>, Reject> {
        match &self.transform {
            Transform::Raw(raw) => outputs(raw, self.filter.as_ref(), record),
            Transform::Jq(jq) => outputs(&**jq, self.filter.as_ref(), record),
        }
    }
}

fn outputs<T: Transformer<Model = Event, Output = Bytes>>(
    transformer: &T,
    filter: Option<&PatternFilter>,
    record: &Record,
) -> Result<Vec<Bytes>, Reject> {
    let mut models = Vec::new();
    transformer.to_model(record, &mut models)?;
    models.retain(|model| filter.is_none_or(|filter| filter.keep(model)));
    models.into_iter().map(|model| transformer.to_output(model)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_of_lines_takes_no_bytes_of_a_schema_registry() {
        let needs = |formats: &[&str]| {
            let sink = |(index, format): (usize, &&str)| {
                format!(
                    "[[sink]]\nname = \"{index}\"\ntype = \"s3\"\nurl = \"s3://bucket/{index}\"\nformat = \"{format}\"\n"
                )
            };
            let sinks: String = formats.iter().enumerate().map(sink).collect();
            let text = format!("version = 1\napp = \"orders\"\n[source]\nstream = \"orders\"\n{sinks}");
            let config = Config::parse(&text, "orders.toml").unwrap();
            let programs = Programs::compile(&config).unwrap();
            format!("{:?}", programs.transform)
        };
        assert!(needs(&["ndjson"]).contains("lines: true") && needs(&["raw", "ndjson"]).contains("lines: true"));
        assert!(needs(&["raw"]).contains("lines: false"));
    }
}
