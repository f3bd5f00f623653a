//! The sections `[[sink]]` and `[dead_letter]`.

use std::collections::HashMap;
use std::path::Path;
use std::str::FromStr as _;

use kinesink_aws::Error as AwsError;
use kinesink_pipeline::DEAD_LETTERS;
use kinesink_sinks::{Error as SinkError, Location};
use toml::Spanned;

use super::Checks;
use crate::config::error::Mistake;
use crate::config::raw::{RawDeadLetter, RawSink};
use crate::config::structure::not_one_of;
use crate::config::validated::{DeadLetter, Sink, Source};

impl Checks {
    pub(super) fn sinks(&mut self, raw: &[Spanned<RawSink>], source: Option<&Source>) -> Vec<Sink> {
        if raw.is_empty() {
            let hint = "add `[[sink]]` and below it `type = \"s3\"` and `url = \"...\"`";
            self.refuse("there is no sink", 0..0, "the file starts here", hint);
        }
        let mut names = HashMap::new();
        let mut sinks: Vec<Sink> = Vec::new();
        for (index, spanned) in raw.iter().enumerate() {
            let Some(sink) = self.sink(spanned.get_ref(), source) else {
                continue;
            };
            if names.insert(sink.name.clone(), index).is_some() {
                let what = format!("two sinks have the name `{}`", sink.name);
                self.refuse(what, spanned.span(), "the second", "add a `name` of its own");
            }
            if let Some(other) = sinks.iter().find(|other| overlap(&other.url, &sink.url)) {
                let what = match other.url == sink.url {
                    true => format!("two sinks write to {}", sink.url),
                    false => {
                        format!("a sink writes to {} and another to {}, one inside the other", other.url, sink.url)
                    }
                };
                let span = spanned.get_ref().url.span();
                self.refuse(what, span, "the second", "give each a prefix or directory of its own");
            }
            sinks.push(sink);
        }
        sinks
    }

    fn sink(&mut self, raw: &RawSink, source: Option<&Source>) -> Option<Sink> {
        if raw.kind.get_ref() != "s3" {
            self.mistakes.push(not_one_of("sink.type", raw.kind.get_ref(), &["s3"], raw.kind.span()));
        }
        let url = self.location("sink.url", &raw.url)?;
        let name = raw.name.as_ref().map_or_else(|| "s3".into(), |name| self.not_empty("sink.name", name));
        if let Some(given) = raw.name.as_ref().filter(|_| name == DEAD_LETTERS) {
            let hint = "logs and metrics call the dead letters so; write another";
            self.refuse("`sink.name` is that of the dead letters", given.span(), "taken", hint);
        }
        if matches!(url, Location::Directory(_)) {
            for (key, value) in [("endpoint", &raw.endpoint), ("region", &raw.region)] {
                let Some(value) = value else { continue };
                let what = format!("`sink.{key}` means nothing for a directory");
                self.refuse(what, value.span(), "contradicts `url`", "leave it out, or write an s3:// url");
            }
        }
        let endpoint = raw.endpoint.as_ref().map(|endpoint| {
            if let Err(error) = kinesink_aws::check_endpoint("S3", endpoint.get_ref()) {
                let what = "`sink.endpoint` cannot be used";
                let hint = match error {
                    AwsError::Endpoint { why, .. } => format!("{why}; write it as \"https://host:port\""),
                    other => other.to_string(),
                };
                let mistake = Mistake::new(what, endpoint.span(), "not an endpoint").hint(hint);
                let has_password = endpoint.get_ref().contains('@');
                self.mistakes.push(if has_password { mistake.hiding_values() } else { mistake });
            }
            endpoint.get_ref().clone()
        });
        let own = raw.region.as_ref().map(|region| self.region("sink.region", region));
        let region = own.or_else(|| source.and_then(|source| source.region.clone()));
        Some(Sink { name, url, format: raw.format, compression: raw.compression, endpoint, region })
    }

    pub(super) fn dead_letter(
        &mut self,
        raw: &RawDeadLetter,
        sinks: &[Sink],
        source: Option<&Source>,
    ) -> Option<DeadLetter> {
        let url = self.location("dead_letter.url", &raw.url)?;
        if let Some(sink) = sinks.iter().find(|sink| overlap(&sink.url, &url)) {
            let what = match sink.url == url {
                true => "`dead_letter.url` is that of a sink".to_owned(),
                false => format!("`dead_letter.url` and the sink at {} stand one inside the other", sink.url),
            };
            self.refuse(what, raw.url.span(), "refused records would mix with delivered ones", "write another");
        }
        Some(DeadLetter { url, region: source.and_then(|source| source.region.clone()) })
    }

    fn location(&mut self, key: &str, url: &Spanned<String>) -> Option<Location> {
        match Location::from_str(url.get_ref()) {
            Ok(location) => Some(location),
            Err(error) => {
                let why = match error {
                    SinkError::Url { why, .. } => why,
                    other => other.to_string(),
                };
                self.refuse(format!("`{key}` cannot be {:?}", url.get_ref()), url.span(), "not a place", why);
                None
            }
        }
    }
}

/// Whether who reads one of them finds the other's objects.
fn overlap(a: &Location, b: &Location) -> bool {
    match (a, b) {
        (Location::Directory(a), Location::Directory(b)) => a.starts_with(b) || b.starts_with(a),
        (Location::Bucket { bucket: a, prefix: a_prefix }, Location::Bucket { bucket: b, prefix: b_prefix }) => {
            let (a_prefix, b_prefix) = (Path::new(a_prefix), Path::new(b_prefix));
            a == b && (a_prefix.starts_with(b_prefix) || b_prefix.starts_with(a_prefix))
        }
        _ => false,
    }
}
