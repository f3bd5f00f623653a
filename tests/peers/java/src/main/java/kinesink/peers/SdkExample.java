package kinesink.peers;

import java.time.Duration;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.retries.api.BackoffStrategy;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.awssdk.services.kinesis.KinesisClient;
import software.amazon.awssdk.services.kinesis.model.ShardIteratorType;

/** {@code kinesink local -- java … kinesink.peers.SdkExample}: a record goes in and comes out, with default clients. */
public final class SdkExample {
    private SdkExample() {}

    public static void main(String[] args) {
        // Address, region and credentials are in the environment that `kinesink local` sets.
        try (KinesisClient kinesis = KinesisClient.create(); KinesisAsyncClient async = KinesisAsyncClient.create()) {
            kinesis.createStream(stream -> stream.streamName("java-example").shardCount(1));
            // Asked every 10 s by default.
            var often = BackoffStrategy.fixedDelay(Duration.ofMillis(200));
            kinesis.waiter().waitUntilStreamExists(stream -> stream.streamName("java-example"),
                    waiter -> waiter.backoffStrategyV2(often));
            var put = kinesis.putRecord(record -> record.streamName("java-example").partitionKey("k")
                    .data(SdkBytes.fromUtf8String("hello")));
            async.getShardIterator(start -> start.streamName("java-example").shardId(put.shardId())
                            .shardIteratorType(ShardIteratorType.TRIM_HORIZON))
                    .thenCompose(start -> async.getRecords(get -> get.shardIterator(start.shardIterator())))
                    .thenAccept(reply -> reply.records().forEach(
                            record -> System.out.println(record.partitionKey() + ": " + record.data().asUtf8String())))
                    .join();
        }
    }
}
