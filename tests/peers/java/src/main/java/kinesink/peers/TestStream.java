package kinesink.peers;

import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.core.waiters.WaiterOverrideConfiguration;
import software.amazon.awssdk.retries.api.BackoffStrategy;
import software.amazon.awssdk.services.kinesis.KinesisClient;
import software.amazon.awssdk.services.kinesis.model.GetRecordsResponse;
import software.amazon.awssdk.services.kinesis.model.PutRecordsRequestEntry;
import software.amazon.awssdk.services.kinesis.model.PutRecordsResponse;
import software.amazon.awssdk.services.kinesis.model.Shard;
import software.amazon.awssdk.services.kinesis.model.ShardIteratorType;

/** A stream of a test's own, and what the tests do with it over and over. */
record TestStream(KinesisClient client, String name) {
    static final BigInteger HASH_KEYS = BigInteger.TWO.pow(128);
    private static final int READS_MAX = 100;
    /** Below the five reads a second that a shard allows. */
    private static final long READ_PAUSE_MS = 210;

    static TestStream create(KinesisClient client, String name, int shards) {
        client.createStream(request -> request.streamName(name).shardCount(shards));
        TestStream stream = new TestStream(client, name);
        stream.awaitActive();
        return stream;
    }

    void awaitActive() {
        client.waiter().waitUntilStreamExists(stream -> stream.streamName(name), TestStream::often);
    }

    /** The SDK's waiters ask every 10 s by default. */
    static void often(WaiterOverrideConfiguration.Builder waiter) {
        waiter.backoffStrategyV2(BackoffStrategy.fixedDelay(Duration.ofMillis(200)));
    }

    List<Shard> shards() {
        return client.listShards(list -> list.streamName(name)).shards();
    }

    String arn() {
        return client.describeStreamSummary(stream -> stream.streamName(name)).streamDescriptionSummary().streamARN();
    }

    /** One record for each text, spread over the hash keys by its place, in one call. */
    PutRecordsResponse put(List<String> texts) {
        BigInteger step = HASH_KEYS.divide(BigInteger.valueOf(texts.size()));
        List<PutRecordsRequestEntry> entries = new ArrayList<>();
        for (int i = 0; i < texts.size(); i++) {
            entries.add(PutRecordsRequestEntry.builder()
                    .data(SdkBytes.fromUtf8String(texts.get(i)))
                    .partitionKey("key-" + texts.get(i))
                    .explicitHashKey(step.multiply(BigInteger.valueOf(i)).toString())
                    .build());
        }
        PutRecordsResponse reply = client.putRecords(put -> put.streamName(name).records(entries));
        if (reply.failedRecordCount() != 0) {
            throw new AssertionError(reply.failedRecordCount() + " records were not put");
        }
        return reply;
    }

    String iterator(String shard) {
        return client.getShardIterator(iterator -> iterator.streamName(name).shardId(shard)
                .shardIteratorType(ShardIteratorType.TRIM_HORIZON)).shardIterator();
    }

    /** What a shard holds up to its tip or its end, and the last reply. */
    Read read(String shard) throws InterruptedException {
        List<String> texts = new ArrayList<>();
        String iterator = iterator(shard);
        for (int i = 0; i < READS_MAX; i++) {
            String at = iterator;
            GetRecordsResponse reply = client.getRecords(get -> get.shardIterator(at).limit(100));
            reply.records().forEach(record -> texts.add(text(record.data())));
            iterator = reply.nextShardIterator();
            if (iterator == null || (reply.records().isEmpty() && reply.millisBehindLatest() == 0)) {
                return new Read(texts, reply);
            }
            Thread.sleep(READ_PAUSE_MS);
        }
        throw new AssertionError(READS_MAX + " reads did not reach the tip of " + shard);
    }

    record Read(List<String> texts, GetRecordsResponse last) {}

    static String text(SdkBytes data) {
        return data.asString(StandardCharsets.UTF_8);
    }

    static List<String> texts(String prefix, int count) {
        List<String> texts = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            texts.add(prefix + i);
        }
        return texts;
    }

    /** The hash key in the middle of a shard, where a split may be. */
    static String middle(Shard shard) {
        BigInteger start = new BigInteger(shard.hashKeyRange().startingHashKey());
        return start.add(width(shard).divide(BigInteger.TWO)).toString();
    }

    static BigInteger width(Shard shard) {
        BigInteger start = new BigInteger(shard.hashKeyRange().startingHashKey());
        return new BigInteger(shard.hashKeyRange().endingHashKey()).subtract(start).add(BigInteger.ONE);
    }
}
