//! A connector from a pipeline file.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use kinesink_aws::{BucketOptions, Clients, ServiceOptions, dynamodb, s3};
use kinesink_core::{Buffer, Emitter, Item, Transformer};
use kinesink_pipeline::{Event, PatternFilter, Pipeline, Sink, Spill, WindowBuffer, WindowLimits};
use kinesink_sinks::Location;
use kinesink_sinks::dynamodb::{DynamoDbConfig, DynamoDbEmitter, TableMetrics, TableTraffic};
use kinesink_sinks::s3::parquet::{Codec, ParquetSettings};
use kinesink_sinks::s3::{Compression, Encoding, Format, Naming, S3Config, S3Emitter};
use prometheus_client::registry::Registry;

use crate::config::{self, Config, TableSink};
use crate::connector::METRICS_PREFIX;
use crate::handler::{Earlier, any};
use crate::programs::{Programs, Transform};
use crate::retry::retried;
use crate::until::Until;
use crate::{Connector, Error, recipe};

/// Objects of spilled windows that all sinks encode at a time, of earlier settings too: they leave threads to read what they
/// encode.
const ENCODERS_MAX: usize = 6;

/// Builds what the file asks for. Sends nothing yet.
///
/// # Errors
/// [`Error::Configuration`] names the setting.
pub async fn connector_from(
    config: &Config,
    programs: Programs,
    clients: Clients,
    registry: &mut Registry,
) -> Result<Connector, Error> {
    connector_named(config, programs, clients, registry, Naming::Positions, None).await
}

/// The same with objects named otherwise, or up to a time of the stream.
pub(crate) async fn connector_named(
    config: &Config,
    programs: Programs,
    clients: Clients,
    registry: &mut Registry,
    naming: Naming,
    until: Option<Arc<Until>>,
) -> Result<Connector, Error> {
    let Programs { filter, transform } = programs;
    let services = services(config, &clients).await;
    if !config.tables.is_empty() {
        services.counted.register(registry.sub_registry_with_prefix(METRICS_PREFIX));
    }
    let earlier = earlier(config, &services);
    match transform {
        Transform::Raw(raw) => {
            let pipeline = pipeline(config, filter, raw, &services, naming)?;
            connector(config, pipeline, earlier, until, clients, registry)
        }
        Transform::Jq(jq) => {
            let pipeline = pipeline(config, filter, *jq, &services, naming)?;
            connector(config, pipeline, earlier, until, clients, registry)
        }
    }
}

/// A client for each way in which a destination is reached, and what the pipelines of one file share.
#[derive(Debug, Clone, Default)]
pub(crate) struct Services {
    buckets: HashMap<BucketOptions, s3::Client>,
    tables: HashMap<ServiceOptions, (dynamodb::Client, TableTraffic)>,
    counted: TableMetrics,
    pub(crate) spill: Option<Spill<Bytes>>,
    /// Of objects that are named by their windows,
    objects: Arc<Encoding>,
    /// and of others: who sends those may hold what an encoder of the first waits for.
    others: Arc<Encoding>,
}

impl Services {
    fn encoding(&self, naming: Naming) -> Arc<Encoding> {
        Arc::clone(if naming == Naming::Unique { &self.others } else { &self.objects })
    }
}

pub(crate) async fn services(config: &Config, clients: &Clients) -> Services {
    let sinks = config.sinks.iter().map(|sink| &sink.reached);
    let disk = config.spill.as_ref().map(|spill| (spill.dir.clone(), spill.bytes_max));
    let of_objects = encoded_bytes(config) * config.sinks.len();
    let mut services = Services {
        spill: spill(config),
        objects: Arc::new(Encoding::new(of_objects, ENCODERS_MAX, disk)),
        others: Arc::new(Encoding::new(encoded_bytes(config), 1, None)),
        ..Services::default()
    };
    for reached in sinks.chain(config.dead_letter.iter().map(|dead_letter| &dead_letter.reached)) {
        services.buckets.insert(reached.clone(), clients.s3(reached).await);
    }
    for TableSink { reached, .. } in &config.tables {
        let client = clients.dynamodb(reached).await;
        services.tables.insert(reached.clone(), (client, TableTraffic::default()));
    }
    services
}

/// Makes the tables of the file's sinks that are missing, paid by the request, and waits until they can be used. Dropped, it may
/// or may not have made them.
///
/// # Errors
/// [`Error::Start`] names the table and what to do.
pub async fn create_tables(config: &Config, clients: &Clients) -> Result<(), Error> {
    let services = services(config, clients).await;
    for sink in &config.tables {
        let emitter = table_emitter(config, sink, &services, Naming::Positions)?;
        retried(|| emitter.create_table()).await?;
    }
    Ok(())
}

fn spill(config: &Config) -> Option<Spill<Bytes>> {
    let spill = config.spill.as_ref()?;
    Some(Spill::new(spill.dir.clone(), spill.bytes_max, config.spilled_bytes(), config.catalog_bytes()))
}

/// Makes the pipeline of a window that was announced with other settings.
fn earlier(config: &Config, services: &Services) -> Earlier {
    let (config, services) = (config.clone(), services.clone());
    Arc::new(move |recipe| {
        let then = recipe::applied(&config, recipe)?;
        let programs = Programs::compile(&then).map_err(|error| Error::Configuration(error.to_string()))?;
        let filter = programs.filter;
        Ok(match programs.transform {
            Transform::Raw(raw) => any(pipeline(&then, filter, raw, &services, Naming::Positions)?, None),
            Transform::Jq(jq) => any(pipeline(&then, filter, *jq, &services, Naming::Positions)?, None),
        })
    })
}

pub(crate) fn pipeline<T: Transformer<Model = Event, Output = Bytes>>(
    config: &Config,
    filter: Option<PatternFilter>,
    transformer: T,
    services: &Services,
    naming: Naming,
) -> Result<Pipeline<T>, Error> {
    let mut sinks = sinks(config, services, naming)?.into_iter();
    let first = sinks.next().ok_or_else(|| Error::Configuration("there is no [[sink]]".into()))?;
    let limits = WindowLimits { records: config.buffer.records, bytes: config.buffer.bytes, age: config.buffer.age };
    // A jq program may make more of a record than it is.
    let size = |item: &Item<Event>| item.record.data.len().max(item.value.data.len());
    // What a jq program makes is in no budget: spilled or not, a window holds no more of it.
    let held_bytes = config.record_bytes();
    let buffer = move || Box::new(WindowBuffer::sized(limits, size).holding(held_bytes)) as Box<dyn Buffer<Event>>;
    let mut pipeline = Pipeline::new(transformer, first).buffer(buffer, limits.age).with_recipe(recipe::of(config));
    for sink in sinks {
        pipeline = pipeline.and_sink(sink);
    }
    if let Some(filter) = filter {
        pipeline = pipeline.filter(Arc::new(filter));
    }
    if let Some(spill) = &services.spill {
        pipeline = pipeline.spill(spill.clone());
    }
    if let Some(place) = dead_letter_place(config, services) {
        pipeline = pipeline.dead_letters(emitter(place)?);
    }
    #[cfg(feature = "planted-faults")]
    let pipeline = pipeline.planted(config.fault);
    Ok(pipeline)
}

/// Every sink of the file.
pub(crate) fn sinks(config: &Config, services: &Services, naming: Naming) -> Result<Vec<Sink<Bytes>>, Error> {
    let objects = config.sinks.iter().map(|sink| {
        let emitter = emitter(objects_config(config, sink, services, naming)?)?;
        Ok(Sink::new(sink.name.clone(), emitter))
    });
    let tables = config.tables.iter().map(|sink| {
        let emitter: Arc<dyn Emitter<Bytes>> = Arc::new(table_emitter(config, sink, services, naming)?);
        Ok(Sink::new(sink.name.clone(), emitter))
    });
    objects.chain(tables).collect()
}

pub(crate) fn objects_config(
    config: &Config,
    sink: &config::Sink,
    services: &Services,
    naming: Naming,
) -> Result<S3Config, Error> {
    Ok(S3Config {
        parquet: parquet(config, sink)?,
        format: format(sink.format),
        compression: compression(sink.compression),
        key: sink.key.clone(),
        bucket: sink.bucket.clone(),
        naming,
        encoding: services.encoding(naming),
        #[cfg(feature = "planted-faults")]
        planted: kinesink_core::Planted::new(config.fault),
        ..place(&sink.url, &sink.reached, services)
    })
}

/// Where refused records go.
pub(crate) fn dead_letter_place(config: &Config, services: &Services) -> Option<S3Config> {
    let dead_letter = config.dead_letter.as_ref()?;
    let place = place(&dead_letter.url, &dead_letter.reached, services);
    Some(S3Config { naming: Naming::Unique, encoding: services.encoding(Naming::Unique), ..place })
}

fn place(location: &Location, reached: &BucketOptions, services: &Services) -> S3Config {
    let mut place = S3Config::new(location.clone());
    place.client = services.buckets.get(reached).cloned();
    place
}

/// What each destination may hold of encoded records.
fn encoded_bytes(config: &Config) -> usize {
    let destinations = config.sinks.len() + config.tables.len() + usize::from(config.dead_letter.is_some());
    config.encoded_bytes() / destinations.max(1)
}

pub(crate) fn table_emitter(
    config: &Config,
    sink: &TableSink,
    services: &Services,
    naming: Naming,
) -> Result<DynamoDbEmitter, Error> {
    let client = services.tables.get(&sink.reached).cloned();
    let (client, traffic) =
        client.ok_or_else(|| Error::Configuration(format!("no client for table {}: a bug", sink.table)))?;
    let mut table = DynamoDbConfig::new(client, sink.table.clone(), sink.key.clone());
    table.types.clone_from(&sink.types);
    table.order.clone_from(&sink.order);
    table.partition_key.clone_from(&sink.partition_key);
    table.guard = sink.guard;
    table.changes.clone_from(&sink.changes);
    table.aggregate.clone_from(&sink.aggregate);
    table.delete.clone_from(&sink.delete);
    table.ttl.clone_from(&sink.ttl);
    table.expire_after = sink.expire_after;
    table.requests_max = sink.requests_max;
    table.provisioned = sink.provisioned;
    table.write_units = sink.write_units;
    table.max_write_fraction = sink.max_write_fraction;
    table.metrics = services.counted.clone();
    table.traffic = traffic;
    table.is_replay = matches!(naming, Naming::Replay { .. });
    table.encoded_bytes_max = encoded_bytes(config);
    DynamoDbEmitter::open(table).map_err(|error| Error::Configuration(error.to_string()))
}

fn connector<T: Transformer<Model = Event, Output = Bytes>>(
    config: &Config,
    pipeline: Pipeline<T>,
    earlier: Earlier,
    until: Option<Arc<Until>>,
    clients: Clients,
    registry: &mut Registry,
) -> Result<Connector, Error> {
    let lease = config.lease.clone();
    Connector::builder(&config.app, config.source.stream.clone(), clients, pipeline)
        .start(config.source.start)
        .earlier(earlier)
        .until(until)
        .memory_bytes(config.record_bytes())
        .grace(config.drain_grace)
        .consumer(|consumer| {
            let consumer =
                consumer.failover(lease.failover).lease_table(lease.table).table_options(lease.table_options);
            let consumer = consumer.max_steals(lease.max_steals).shard_sync(lease.shard_sync).cleanup(lease.cleanup);
            let consumer = consumer.list_shards(lease.list_shards_attempts, lease.list_shards_pause);
            let consumer = consumer.idle(config.source.idle).max_records(config.source.max_records);
            let consumer = consumer.retrieval(config.source.fetch.clone()).coordination(lease.coordination);
            let consumer = consumer.beyond_retention(config.source.beyond_retention);
            let consumer = match lease.max {
                Some(leases) => consumer.max_leases(leases),
                None => consumer,
            };
            match lease.worker_id {
                Some(id) => consumer.worker_id(id),
                None => consumer,
            }
        })
        .build(registry)
}

fn emitter(config: S3Config) -> Result<Arc<dyn Emitter<Bytes>>, Error> {
    let emitter = S3Emitter::open(config).map_err(|error| Error::Configuration(error.to_string()))?;
    Ok(Arc::new(emitter))
}

fn format(format: config::Format) -> Format {
    match format {
        config::Format::Ndjson => Format::Ndjson,
        config::Format::Raw => Format::Raw,
        config::Format::LengthDelimited => Format::LengthDelimited,
        // Its columns say how.
        config::Format::Parquet => Format::default(),
    }
}

fn compression(compression: config::Compression) -> Compression {
    match compression {
        config::Compression::None => Compression::None,
        config::Compression::Gzip => Compression::Gzip,
        config::Compression::Zstd => Compression::Zstd,
        // Of pages alone.
        config::Compression::Snappy => Compression::None,
    }
}

fn parquet(config: &Config, sink: &config::Sink) -> Result<Option<ParquetSettings>, Error> {
    if sink.format != config::Format::Parquet {
        return Ok(None);
    }
    let Some(schema) = sink.columns.clone() else {
        let mistake = config.missing_columns().map(|mistake| mistake.to_string());
        return Err(Error::Configuration(mistake.unwrap_or_default()));
    };
    let codec = match sink.compression {
        config::Compression::Snappy => Codec::Snappy,
        config::Compression::Zstd => Codec::Zstd,
        config::Compression::None | config::Compression::Gzip => Codec::None,
    };
    Ok(Some(ParquetSettings { schema, codec, file: sink.file }))
}

#[cfg(test)]
mod tests {
    use kinesink_aws::{AwsOptions, StaticCredentials, connect};

    use super::*;

    #[tokio::test]
    async fn what_finishes_earlier_windows_encodes_within_the_limits_of_today() {
        let file = |compression: &str| {
            let text = format!(
                "version = 1\napp = \"orders\"\n[source]\nstream = \"orders\"\n[[sink]]\ntype = \"s3\"\n\
                 url = \"file:///var/orders\"\ncompression = \"{compression}\"\n\
                 [dead_letter]\nurl = \"file:///var/letters\"\n"
            );
            Config::parse(&text, "orders.toml").unwrap()
        };
        let (now, then) = (file("zstd"), file("gzip"));
        let services = services(&now, &clients().await).await;
        let encoding =
            |config: &Config, naming| objects_config(config, &config.sinks[0], &services, naming).unwrap().encoding;
        let today = encoding(&now, Naming::Positions);
        for _ in 0..2 {
            let again = recipe::applied(&now, &recipe::of(&then)).unwrap();
            assert!(
                Arc::ptr_eq(&encoding(&again, Naming::Positions), &today),
                "each shard makes a pipeline of its own"
            );
        }
        // Those are buried while a window's objects are made.
        let letters = dead_letter_place(&now, &services).unwrap().encoding;
        assert!(!Arc::ptr_eq(&letters, &today));
        assert!(Arc::ptr_eq(&letters, &encoding(&now, Naming::Unique)));
    }

    async fn clients() -> Clients {
        let keys = StaticCredentials { access_key: "test".into(), secret_key: "test".into() };
        let options = AwsOptions { region: Some("us-east-1".into()), credentials: Some(keys), ..AwsOptions::default() };
        connect(&options).await.unwrap()
    }

    #[tokio::test]
    async fn sinks_of_one_table_share_what_is_on_its_way_there_whatever_their_settings_were() {
        let text = "version = 1\napp = \"orders\"\n[source]\nstream = \"orders\"\n\
                    [[sink]]\ntype = \"dynamodb\"\ntable = \"latest\"\nkey = { id = \".id\" }\n";
        let config = Config::parse(text, "orders.toml").unwrap();
        let [sink] = &config.tables[..] else { panic!("one sink") };
        let services = services(&config, &clients().await).await;
        let traffic = || format!("{:?}", services.clone().tables[&sink.reached].1);
        assert!(!traffic().contains("latest"));
        table_emitter(&config, sink, &services, Naming::Positions).unwrap();
        let before = traffic();
        assert!(before.contains("latest"), "{before}");
        table_emitter(&config, sink, &services, Naming::Positions).unwrap();
        assert_eq!(traffic(), before);
    }
}
