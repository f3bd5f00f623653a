package kinesink.interop;

import com.amazonaws.auth.DefaultAWSCredentialsProviderChain;
import com.amazonaws.client.builder.AwsClientBuilder.EndpointConfiguration;
import com.amazonaws.services.cloudwatch.AmazonCloudWatchClientBuilder;
import com.amazonaws.services.dynamodbv2.AmazonDynamoDBClientBuilder;
import com.amazonaws.services.kinesis.AmazonKinesisClientBuilder;
import com.amazonaws.services.kinesis.clientlibrary.interfaces.IRecordProcessorCheckpointer;
import com.amazonaws.services.kinesis.clientlibrary.interfaces.v2.IRecordProcessor;
import com.amazonaws.services.kinesis.clientlibrary.interfaces.v2.IShutdownNotificationAware;
import com.amazonaws.services.kinesis.clientlibrary.lib.worker.InitialPositionInStream;
import com.amazonaws.services.kinesis.clientlibrary.lib.worker.KinesisClientLibConfiguration;
import com.amazonaws.services.kinesis.clientlibrary.lib.worker.ShutdownReason;
import com.amazonaws.services.kinesis.clientlibrary.types.InitializationInput;
import com.amazonaws.services.kinesis.clientlibrary.types.ProcessRecordsInput;
import com.amazonaws.services.kinesis.clientlibrary.types.ShutdownInput;
import com.amazonaws.services.kinesis.clientlibrary.types.UserRecord;
import com.amazonaws.services.kinesis.metrics.impl.NullMetricsFactory;
import com.amazonaws.services.kinesis.metrics.interfaces.MetricsLevel;
import com.amazonaws.services.kinesis.model.Record;
import java.nio.file.Path;
import java.util.concurrent.TimeUnit;

/**
 * A worker of KCL 1.x: {@code Worker STREAM APP WORKER JOURNAL FAILOVER_MS}. Addresses come from the environment. With a
 * sixth argument it prepares its checkpoints, for which it knows no state, and commits only the ends of shards.
 * {@link Habits} has what properties change.
 */
public final class Worker {
    private static final long STOP_SECONDS_MAX = 15;

    private Worker() {}

    public static void main(String[] args) throws Exception {
        Journal journal = new Journal(Path.of(args[3]), args[2]);
        boolean prepares = args.length > 5;
        var worker = worker(args[0], args[1], args[2], Long.parseLong(args[4]), journal, prepares);
        Lifetime.run(worker, () -> worker.startGracefulShutdown().get(STOP_SECONDS_MAX, TimeUnit.SECONDS));
    }

    private static com.amazonaws.services.kinesis.clientlibrary.lib.worker.Worker worker(
            String stream, String app, String id, long failoverMillis, Journal journal,
            boolean prepares) {
        var config = new KinesisClientLibConfiguration(app, stream, DefaultAWSCredentialsProviderChain.getInstance(), id)
                .withInitialPositionInStream(InitialPositionInStream.TRIM_HORIZON)
                .withFailoverTimeMillis(failoverMillis)
                // The library's waits are made for large fleets.
                .withShardSyncIntervalMillis(1_000)
                .withParentShardPollIntervalMillis(500)
                .withIdleTimeBetweenReadsInMillis(250)
                .withMaxRecords(Habits.RECORDS_MAX)
                .withCallProcessRecordsEvenForEmptyRecordList(true)
                .withMetricsLevel(MetricsLevel.NONE)
                .withRegionName(System.getenv("AWS_REGION"));
        return new com.amazonaws.services.kinesis.clientlibrary.lib.worker.Worker.Builder()
                .recordProcessorFactory(() -> new Processor(new ShardLog(journal), prepares))
                .config(config)
                .kinesisClient(AmazonKinesisClientBuilder.standard()
                        .withEndpointConfiguration(endpoint("AWS_ENDPOINT_URL_KINESIS")).build())
                .dynamoDBClient(AmazonDynamoDBClientBuilder.standard()
                        .withEndpointConfiguration(endpoint("AWS_ENDPOINT_URL_DYNAMODB")).build())
                // Never called, because metrics go nowhere; the library insists on one.
                .cloudWatchClient(AmazonCloudWatchClientBuilder.standard().withRegion(config.getRegionName()).build())
                .metricsFactory(new NullMetricsFactory())
                .build();
    }

    /** The first SDK for Java does not read these variables by itself. */
    private static EndpointConfiguration endpoint(String variable) {
        return new EndpointConfiguration(System.getenv(variable), System.getenv("AWS_REGION"));
    }

    private record Processor(ShardLog log, boolean prepares) implements IRecordProcessor, IShutdownNotificationAware {
        @Override
        public void initialize(InitializationInput input) {
            var start = input.getExtendedSequenceNumber();
            log.gained(input.getShardId(), start.getSequenceNumber(), start.getSubSequenceNumber());
        }

        @Override
        public void processRecords(ProcessRecordsInput input) {
            for (Record record : input.getRecords()) {
                long subSequence = record instanceof UserRecord user ? user.getSubSequenceNumber() : 0;
                log.record(record.getSequenceNumber(), subSequence);
            }
            log.batchEnded(() -> checkpoint(input.getCheckpointer()));
        }

        @Override
        public void shutdown(ShutdownInput input) {
            if (input.getShutdownReason() == ShutdownReason.TERMINATE) {
                log.ended(input.getCheckpointer()::checkpoint);
            } else {
                log.lost();
            }
        }

        @Override
        public void shutdownRequested(IRecordProcessorCheckpointer checkpointer) {
            log.drained(() -> checkpoint(checkpointer));
        }

        private void checkpoint(IRecordProcessorCheckpointer checkpointer) throws Exception {
            if (prepares) {
                checkpointer.prepareCheckpoint();
            } else {
                checkpointer.checkpoint();
            }
        }
    }
}
