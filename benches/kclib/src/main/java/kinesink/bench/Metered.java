package kinesink.bench;

import com.amazonaws.auth.DefaultAWSCredentialsProviderChain;
import com.amazonaws.services.kinesis.clientlibrary.lib.worker.KinesisClientLibConfiguration;
import com.amazonaws.services.kinesis.clientlibrary.lib.worker.Worker;
import com.amazonaws.services.kinesis.connectors.KinesisConnectorConfiguration;
import com.amazonaws.services.kinesis.connectors.KinesisConnectorExecutorBase;
import com.amazonaws.services.kinesis.connectors.KinesisConnectorRecordProcessorFactory;
import com.amazonaws.services.kinesis.connectors.impl.AllPassFilter;
import com.amazonaws.services.kinesis.connectors.impl.BasicMemoryBuffer;
import com.amazonaws.services.kinesis.connectors.interfaces.IBuffer;
import com.amazonaws.services.kinesis.connectors.interfaces.IFilter;
import com.amazonaws.services.kinesis.connectors.interfaces.IKinesisConnectorPipeline;
import com.amazonaws.services.kinesis.connectors.interfaces.ITransformer;
import com.amazonaws.services.kinesis.metrics.impl.NullMetricsFactory;
import com.amazonaws.services.kinesis.model.Record;
import java.io.IOException;
import java.time.Duration;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.LongFunction;

/**
 * A pipeline of the connector library, as its users put one together: {@code RECORDS NAME=VALUE...}, the properties being the
 * library's. Prints the CPU time that it took until its first record, then "done" once so many are delivered, and ends with its
 * standard input.
 */
abstract class Metered<T> implements IKinesisConnectorPipeline<T, T> {
    private final long records;
    private final AtomicLong read = new AtomicLong();
    private final AtomicLong delivered = new AtomicLong();

    Metered(long records) {
        this.records = records;
    }

    static void run(String[] args, LongFunction<Metered<?>> pipeline) throws IOException {
        Properties properties = new Properties();
        for (int i = 1; i < args.length; i++) {
            String[] property = args[i].split("=", 2);
            properties.setProperty(property[0], property[1]);
        }
        var config = new KinesisConnectorConfiguration(properties, new DefaultAWSCredentialsProviderChain());
        Thread worker = new Thread(pipeline.apply(Long.parseLong(args[0])).executor(config));
        worker.setDaemon(true);
        worker.start();
        while (System.in.read() >= 0) {
            // Its meter still looks at it.
        }
        Runtime.getRuntime().halt(0);
    }

    private static void say(String line) {
        System.out.println(line);
        System.out.flush();
    }

    abstract T model(byte[] data) throws IOException;

    void delivered(long count) {
        if (delivered.addAndGet(count) == records) {
            say("done");
        }
    }

    @Override
    public ITransformer<T, T> getTransformer(KinesisConnectorConfiguration config) {
        return new ITransformer<>() {
            @Override
            public T toClass(Record record) throws IOException {
                if (read.getAndIncrement() == 0) {
                    say("cpu " + ProcessHandle.current().info().totalCpuDuration().orElse(Duration.ZERO).toMillis() / 1e3);
                }
                byte[] data = new byte[record.getData().remaining()];
                record.getData().duplicate().get(data);
                return model(data);
            }

            @Override
            public T fromClass(T model) {
                return model;
            }
        };
    }

    @Override
    public IFilter<T> getFilter(KinesisConnectorConfiguration config) {
        return new AllPassFilter<>();
    }

    @Override
    public IBuffer<T> getBuffer(KinesisConnectorConfiguration config) {
        return new BasicMemoryBuffer<>(config);
    }

    private Runnable executor(KinesisConnectorConfiguration config) {
        return new Executor<>(config, this);
    }

    private static final class Executor<T> extends KinesisConnectorExecutorBase<T, T> {
        private final KinesisConnectorConfiguration config;
        private final Metered<T> pipeline;

        Executor(KinesisConnectorConfiguration config, Metered<T> pipeline) {
            this.config = config;
            this.pipeline = pipeline;
            var kcl = new KinesisClientLibConfiguration(config.APP_NAME, config.KINESIS_INPUT_STREAM,
                    config.AWS_CREDENTIALS_PROVIDER, config.WORKER_ID)
                    .withKinesisEndpoint(config.KINESIS_ENDPOINT)
                    .withDynamoDBEndpoint(config.DYNAMODB_ENDPOINT)
                    .withRegionName(config.REGION_NAME)
                    .withInitialPositionInStream(config.INITIAL_POSITION_IN_STREAM)
                    .withMaxRecords(config.MAX_RECORDS)
                    .withIdleTimeBetweenReadsInMillis(config.IDLE_TIME_BETWEEN_READS)
                    .withShardSyncIntervalMillis(config.SHARD_SYNC_INTERVAL)
                    .withCallProcessRecordsEvenForEmptyRecordList(true);
            // The base class has no way to point the lease table at an endpoint.
            worker = new Worker(getKinesisConnectorRecordProcessorFactory(), kcl, new NullMetricsFactory());
        }

        @Override
        public KinesisConnectorRecordProcessorFactory<T, T> getKinesisConnectorRecordProcessorFactory() {
            return new KinesisConnectorRecordProcessorFactory<>(pipeline, config);
        }
    }
}
