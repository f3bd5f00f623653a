package kinesink.bench;

import com.amazonaws.auth.DefaultAWSCredentialsProviderChain;
import com.amazonaws.services.dynamodbv2.model.AttributeValue;
import com.amazonaws.services.kinesis.clientlibrary.lib.worker.KinesisClientLibConfiguration;
import com.amazonaws.services.kinesis.clientlibrary.lib.worker.Worker;
import com.amazonaws.services.kinesis.connectors.KinesisConnectorConfiguration;
import com.amazonaws.services.kinesis.connectors.KinesisConnectorExecutorBase;
import com.amazonaws.services.kinesis.connectors.KinesisConnectorRecordProcessorFactory;
import com.amazonaws.services.kinesis.connectors.UnmodifiableBuffer;
import com.amazonaws.services.kinesis.connectors.dynamodb.DynamoDBEmitter;
import com.amazonaws.services.kinesis.connectors.impl.AllPassFilter;
import com.amazonaws.services.kinesis.connectors.impl.BasicMemoryBuffer;
import com.amazonaws.services.kinesis.connectors.interfaces.IBuffer;
import com.amazonaws.services.kinesis.connectors.interfaces.IEmitter;
import com.amazonaws.services.kinesis.connectors.interfaces.IFilter;
import com.amazonaws.services.kinesis.connectors.interfaces.IKinesisConnectorPipeline;
import com.amazonaws.services.kinesis.connectors.interfaces.ITransformer;
import com.amazonaws.services.kinesis.metrics.impl.NullMetricsFactory;
import com.amazonaws.services.kinesis.model.Record;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicLong;

/**
 * The connector library's DynamoDB pipeline, as its users put it together: {@code Tables RECORDS NAME=VALUE...}, the properties being
 * the library's. Prints the CPU time that it took until its first record, then "done" once so many are in the table, and ends with its
 * standard input.
 */
public final class Tables implements IKinesisConnectorPipeline<Map<String, AttributeValue>, Map<String, AttributeValue>> {
    private static final ObjectMapper JSON = new ObjectMapper();

    private final long records;
    private final AtomicLong read = new AtomicLong();
    private final AtomicLong written = new AtomicLong();

    private Tables(long records) {
        this.records = records;
    }

    public static void main(String[] args) throws Exception {
        Properties properties = new Properties();
        for (int i = 1; i < args.length; i++) {
            String[] property = args[i].split("=", 2);
            properties.setProperty(property[0], property[1]);
        }
        var config = new KinesisConnectorConfiguration(properties, new DefaultAWSCredentialsProviderChain());
        Thread worker = new Thread(new Executor(config, new Tables(Long.parseLong(args[0]))));
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

    @Override
    public ITransformer<Map<String, AttributeValue>, Map<String, AttributeValue>> getTransformer(KinesisConnectorConfiguration config) {
        return new ITransformer<>() {
            @Override
            public Map<String, AttributeValue> toClass(Record record) throws IOException {
                if (read.getAndIncrement() == 0) {
                    say("cpu " + ProcessHandle.current().info().totalCpuDuration().orElse(Duration.ZERO).toMillis() / 1e3);
                }
                byte[] data = new byte[record.getData().remaining()];
                record.getData().duplicate().get(data);
                Map<String, AttributeValue> item = new HashMap<>();
                JSON.readTree(data).fields().forEachRemaining(field -> item.put(field.getKey(), attribute(field.getValue())));
                return item;
            }

            @Override
            public Map<String, AttributeValue> fromClass(Map<String, AttributeValue> item) {
                return item;
            }
        };
    }

    private static AttributeValue attribute(JsonNode value) {
        return value.isNumber() ? new AttributeValue().withN(value.asText()) : new AttributeValue(value.asText());
    }

    @Override
    public IFilter<Map<String, AttributeValue>> getFilter(KinesisConnectorConfiguration config) {
        return new AllPassFilter<>();
    }

    @Override
    public IBuffer<Map<String, AttributeValue>> getBuffer(KinesisConnectorConfiguration config) {
        return new BasicMemoryBuffer<>(config);
    }

    @Override
    public IEmitter<Map<String, AttributeValue>> getEmitter(KinesisConnectorConfiguration config) {
        return new DynamoDBEmitter(config) {
            @Override
            public List<Map<String, AttributeValue>> emit(UnmodifiableBuffer<Map<String, AttributeValue>> buffer) throws IOException {
                List<Map<String, AttributeValue>> failed = super.emit(buffer);
                long count = buffer.getRecords().size() - failed.size();
                if (written.addAndGet(count) == records) {
                    say("done");
                }
                return failed;
            }
        };
    }

    private static final class Executor extends KinesisConnectorExecutorBase<Map<String, AttributeValue>, Map<String, AttributeValue>> {
        private final KinesisConnectorConfiguration config;
        private final Tables pipeline;

        Executor(KinesisConnectorConfiguration config, Tables pipeline) {
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
        public KinesisConnectorRecordProcessorFactory<Map<String, AttributeValue>, Map<String, AttributeValue>>
                getKinesisConnectorRecordProcessorFactory() {
            return new KinesisConnectorRecordProcessorFactory<>(pipeline, config);
        }
    }
}
