package kinesink.peers;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import software.amazon.awssdk.services.cloudwatch.CloudWatchAsyncClient;
import software.amazon.awssdk.services.dynamodb.DynamoDbAsyncClient;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.kinesis.common.ConfigsBuilder;
import software.amazon.kinesis.common.InitialPositionInStream;
import software.amazon.kinesis.common.InitialPositionInStreamExtended;
import software.amazon.kinesis.common.KinesisClientUtil;
import software.amazon.kinesis.coordinator.Scheduler;
import software.amazon.kinesis.metrics.NullMetricsFactory;
import software.amazon.kinesis.processor.SingleStreamTracker;
import software.amazon.kinesis.retrieval.RetrievalSpecificConfig;
import software.amazon.kinesis.retrieval.fanout.FanOutConfig;
import software.amazon.kinesis.retrieval.polling.PollingConfig;

/**
 * Workers of the KCL in one JVM, applications of their own on the same stream: one polls, one has fan-out.
 *
 * <p>{@code KclWorker STREAM DIR polling fan-out} writes {@code DIR/polling.tsv} and {@code DIR/fan-out.tsv} until its
 * standard input ends. Addresses, region and credentials come from the environment that `kinesink local` sets.
 */
public final class KclWorker {
    private static final long STOP_SECONDS_MAX = 30;

    private final String stream;
    private final KinesisAsyncClient kinesis = KinesisClientUtil.createKinesisAsyncClient(KinesisAsyncClient.builder());
    private final DynamoDbAsyncClient dynamodb = DynamoDbAsyncClient.create();
    /** Never called, because metrics go nowhere; the library insists on one. */
    private final CloudWatchAsyncClient cloudwatch = CloudWatchAsyncClient.create();

    private KclWorker(String stream) {
        this.stream = stream;
    }

    public static void main(String[] args) throws Exception {
        KclWorker worker = new KclWorker(args[0]);
        List<Scheduler> workers = new ArrayList<>();
        List<Journal> journals = new ArrayList<>();
        for (String mode : List.of(args).subList(2, args.length)) {
            Journal journal = new Journal(Path.of(args[1], mode + ".tsv"));
            journals.add(journal);
            workers.add(worker.start(mode, journal));
        }
        awaitEndOfInput();
        for (var stopped : workers.stream().map(Scheduler::startGracefulShutdown).toList()) {
            stopped.get(STOP_SECONDS_MAX, TimeUnit.SECONDS);
        }
        for (Journal journal : journals) {
            journal.close();
        }
        // The library leaves threads behind that would keep the JVM alive.
        System.exit(0);
    }

    private Scheduler start(String mode, Journal journal) {
        String application = "java-" + mode;
        Scheduler scheduler = scheduler(application, retrieval(mode, application), journal);
        Thread thread = new Thread(scheduler, application);
        thread.setDaemon(true);
        thread.start();
        return scheduler;
    }

    private RetrievalSpecificConfig retrieval(String mode, String application) {
        return switch (mode) {
            case "polling" -> new PollingConfig(stream, kinesis).idleTimeBetweenReadsInMillis(250);
            case "fan-out" -> new FanOutConfig(kinesis).streamName(stream).applicationName(application);
            default -> throw new IllegalArgumentException("a mode is polling or fan-out, not " + mode);
        };
    }

    private Scheduler scheduler(String application, RetrievalSpecificConfig retrieval, Journal journal) {
        var start = InitialPositionInStreamExtended.newInitialPosition(InitialPositionInStream.TRIM_HORIZON);
        ConfigsBuilder configs = new ConfigsBuilder(new SingleStreamTracker(stream, start), application, kinesis,
                dynamodb, cloudwatch, "worker-of-" + application, () -> new Processor(journal));
        // The library's own waits are made for large fleets: with its defaults a child is read a minute after its
        // parent's end. A short list of what a test shortens.
        var leases = configs.leaseManagementConfig()
                .failoverTimeMillis(6_000)
                .leaseAssignmentIntervalMillis(1_000L)
                .shardSyncIntervalMillis(1_000);
        leases.workerUtilizationAwareAssignmentConfig().disableWorkerMetrics(true);
        var coordinator = configs.coordinatorConfig().parentShardPollIntervalMillis(250);
        return new Scheduler(configs.checkpointConfig(), coordinator, leases, configs.lifecycleConfig(),
                configs.metricsConfig().metricsFactory(new NullMetricsFactory()), configs.processorConfig(),
                configs.retrievalConfig().retrievalSpecificConfig(retrieval));
    }

    private static void awaitEndOfInput() throws IOException {
        while (System.in.read() >= 0) {
            // Whatever is written is no end.
        }
    }
}
