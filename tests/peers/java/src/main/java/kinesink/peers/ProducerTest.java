package kinesink.peers;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.net.URI;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import software.amazon.awssdk.services.kinesis.KinesisClient;
import software.amazon.awssdk.services.kinesis.model.Record;
import software.amazon.awssdk.services.kinesis.model.Shard;
import software.amazon.kinesis.producer.KinesisProducer;
import software.amazon.kinesis.producer.KinesisProducerConfiguration;
import software.amazon.kinesis.producer.UserRecordResult;
import software.amazon.kinesis.retrieval.AggregatorUtil;
import software.amazon.kinesis.retrieval.KinesisClientRecord;

/** The Kinesis Producer Library, whose native program speaks TLS only and checks its own list of authorities. */
class ProducerTest {
    private static final int RECORDS = 1000;
    private static final int SHARDS = 2;
    private static final long PUT_SECONDS_MAX = 60;

    @Test
    void whatTheProducerAggregatesIsStoredInTheShardsThatItExpects() throws Exception {
        try (KinesisClient client = Clients.sync(Clients.withoutRetries())) {
            TestStream stream = TestStream.create(client, "java-kpl", SHARDS);
            Map<String, Integer> shards = new HashMap<>();
            for (UserRecordResult put : put(stream.name())) {
                assertTrue(put.isSuccessful(), () -> "tried " + put.getAttempts().size() + " times");
                shards.merge(put.getShardId(), 1, Integer::sum);
            }
            int stored = 0;
            Map<String, Integer> texts = new HashMap<>();
            for (Shard shard : stream.shards()) {
                List<Record> records = client.getRecords(get -> get.shardIterator(stream.iterator(shard.shardId())))
                        .records();
                stored += records.size();
                List<KinesisClientRecord> user = new AggregatorUtil()
                        .deaggregate(records.stream().map(KinesisClientRecord::fromRecord).toList());
                // The library drops what is in an aggregate of another shard.
                assertEquals(shards.getOrDefault(shard.shardId(), 0), user.size());
                user.forEach(record -> texts.merge(StandardCharsets.UTF_8.decode(record.data()).toString(), 1, Integer::sum));
            }
            assertEquals(RECORDS, texts.size());
            assertTrue(texts.keySet().containsAll(TestStream.texts("hello ", RECORDS)));
            assertTrue(texts.values().stream().allMatch(count -> count == 1));
            assertTrue(stored < RECORDS / 2, stored + " records of Kinesis, which were to be aggregates");
        }
    }

    private static List<UserRecordResult> put(String stream) throws Exception {
        URI kinesis = URI.create(System.getenv("AWS_ENDPOINT_URL_KINESIS"));
        KinesisProducerConfiguration settings = new KinesisProducerConfiguration()
                .setRegion("us-east-1")
                .setKinesisEndpoint(kinesis.getHost()).setKinesisPort(kinesis.getPort())
                .setStsEndpoint(kinesis.getHost()).setStsPort(kinesis.getPort())
                .setVerifyCertificate(false)
                .setMetricsLevel("none");
        KinesisProducer producer = new KinesisProducer(settings);
        try {
            List<String> texts = TestStream.texts("hello ", RECORDS);
            // It aggregates once it knows the shards, which it asks for with the first record.
            List<UserRecordResult> results = put(producer, stream, texts.subList(0, 1));
            results.addAll(put(producer, stream, texts.subList(1, RECORDS)));
            return results;
        } finally {
            producer.destroy();
        }
    }

    private static List<UserRecordResult> put(KinesisProducer producer, String stream, List<String> texts)
            throws Exception {
        List<Future<UserRecordResult>> futures = new ArrayList<>();
        for (String text : texts) {
            ByteBuffer data = ByteBuffer.wrap(text.getBytes(StandardCharsets.UTF_8));
            futures.add(producer.addUserRecord(stream, "key-" + text, data));
        }
        producer.flushSync();
        List<UserRecordResult> results = new ArrayList<>();
        for (Future<UserRecordResult> future : futures) {
            results.add(future.get(PUT_SECONDS_MAX, TimeUnit.SECONDS));
        }
        return results;
    }
}
