package kinesink.interop;

import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.concurrent.TimeUnit;
import software.amazon.awssdk.services.cloudwatch.CloudWatchAsyncClient;
import software.amazon.awssdk.services.dynamodb.DynamoDbAsyncClient;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.kinesis.common.ConfigsBuilder;
import software.amazon.kinesis.common.InitialPositionInStream;
import software.amazon.kinesis.common.InitialPositionInStreamExtended;
import software.amazon.kinesis.common.KinesisClientUtil;
import software.amazon.kinesis.coordinator.Scheduler;
import software.amazon.kinesis.lifecycle.events.InitializationInput;
import software.amazon.kinesis.lifecycle.events.LeaseLostInput;
import software.amazon.kinesis.lifecycle.events.ProcessRecordsInput;
import software.amazon.kinesis.lifecycle.events.ShardEndedInput;
import software.amazon.kinesis.lifecycle.events.ShutdownRequestedInput;
import software.amazon.kinesis.metrics.NullMetricsFactory;
import software.amazon.kinesis.processor.RecordProcessorCheckpointer;
import software.amazon.kinesis.processor.ShardRecordProcessor;
import software.amazon.kinesis.processor.SingleStreamTracker;
import software.amazon.kinesis.retrieval.KinesisClientRecord;
import software.amazon.kinesis.retrieval.polling.PollingConfig;

/**
 * A worker of KCL 2.x or 3.x, whichever is compiled in: {@code Worker STREAM APP WORKER JOURNAL FAILOVER_MS}. Addresses
 * come from the environment. With a sixth argument it prepares its checkpoints, with these bytes as the state, and
 * commits only the ends of shards. {@code Line} has what only one of the two knows, {@link Habits} what properties change.
 */
public final class Worker {
    private static final long STOP_SECONDS_MAX = 15;

    private Worker() {}

    public static void main(String[] args) throws Exception {
        Journal journal = new Journal(Path.of(args[3]), args[2]);
        String state = args.length > 5 ? args[5] : null;
        Scheduler scheduler = scheduler(args[0], args[1], args[2], Long.parseLong(args[4]), journal, state);
        Lifetime.run(scheduler, () -> scheduler.startGracefulShutdown().get(STOP_SECONDS_MAX, TimeUnit.SECONDS));
    }

    private static Scheduler scheduler(String stream, String app, String id, long failoverMillis, Journal journal,
            String state) {
        KinesisAsyncClient kinesis = KinesisClientUtil.createKinesisAsyncClient(KinesisAsyncClient.builder());
        DynamoDbAsyncClient dynamodb = DynamoDbAsyncClient.create();
        // Never called, because metrics go nowhere; the library insists on one.
        CloudWatchAsyncClient cloudwatch = CloudWatchAsyncClient.create();
        var start = InitialPositionInStreamExtended.newInitialPosition(InitialPositionInStream.TRIM_HORIZON);
        ConfigsBuilder configs = new ConfigsBuilder(new SingleStreamTracker(stream, start), app, kinesis, dynamodb,
                cloudwatch, id, () -> new Processor(new ShardLog(journal), state));
        // The library's waits are made for large fleets.
        var leases = configs.leaseManagementConfig().failoverTimeMillis(failoverMillis).shardSyncIntervalMillis(1_000);
        Line.tune(leases);
        var retrieval = new PollingConfig(stream, kinesis).idleTimeBetweenReadsInMillis(250)
                .maxRecords(Habits.RECORDS_MAX);
        return new Scheduler(configs.checkpointConfig(),
                configs.coordinatorConfig().parentShardPollIntervalMillis(500), leases,
                configs.lifecycleConfig(), configs.metricsConfig().metricsFactory(new NullMetricsFactory()),
                configs.processorConfig().callProcessRecordsEvenForEmptyRecordList(true),
                configs.retrievalConfig().retrievalSpecificConfig(retrieval));
    }

    private record Processor(ShardLog log, String state) implements ShardRecordProcessor {
        @Override
        public void initialize(InitializationInput input) {
            var start = input.extendedSequenceNumber();
            log.gained(input.shardId(), start.sequenceNumber(), start.subSequenceNumber());
        }

        @Override
        public void processRecords(ProcessRecordsInput input) {
            for (KinesisClientRecord record : input.records()) {
                log.record(record.sequenceNumber(), record.subSequenceNumber());
            }
            log.batchEnded(() -> checkpoint(input.checkpointer()));
        }

        @Override
        public void leaseLost(LeaseLostInput input) {
            log.lost();
        }

        @Override
        public void shardEnded(ShardEndedInput input) {
            log.ended(input.checkpointer()::checkpoint);
        }

        @Override
        public void shutdownRequested(ShutdownRequestedInput input) {
            log.drained(() -> checkpoint(input.checkpointer()));
        }

        private void checkpoint(RecordProcessorCheckpointer checkpointer) throws Exception {
            if (state == null) {
                checkpointer.checkpoint();
            } else {
                checkpointer.prepareCheckpoint(state.getBytes(StandardCharsets.UTF_8));
            }
        }
    }
}
