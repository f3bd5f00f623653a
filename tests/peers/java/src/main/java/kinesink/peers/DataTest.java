package kinesink.peers;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentSkipListSet;
import org.junit.jupiter.api.Test;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.core.client.config.ClientOverrideConfiguration;
import software.amazon.awssdk.core.interceptor.Context;
import software.amazon.awssdk.core.interceptor.ExecutionAttributes;
import software.amazon.awssdk.core.interceptor.ExecutionInterceptor;
import software.amazon.awssdk.http.Http2Metric;
import software.amazon.awssdk.metrics.MetricCollection;
import software.amazon.awssdk.metrics.MetricPublisher;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.awssdk.services.kinesis.KinesisClient;
import software.amazon.awssdk.services.kinesis.model.PutRecordResponse;
import software.amazon.awssdk.services.kinesis.model.Record;
import software.amazon.awssdk.services.kinesis.model.StreamStatus;

/** Create, put and get, over HTTP/1.1 with the one client and over HTTP/2 with the other; both in CBOR. */
class DataTest {
    private final KinesisClient sync = Clients.sync(Clients.withoutRetries());
    private final KinesisAsyncClient async = Clients.async(Clients.withoutRetries());

    @Test
    void whatTheSyncClientPutsIsRead() throws Exception {
        TestStream stream = TestStream.create(sync, "java-sync", 4);
        List<String> texts = TestStream.texts("record-", 400);
        stream.put(texts);
        List<String> read = new ArrayList<>();
        for (var shard : stream.shards()) {
            read.addAll(stream.read(shard.shardId()).texts());
        }
        assertEquals(new TreeSet<>(texts), new TreeSet<>(read));
        assertEquals(texts.size(), read.size());
    }

    @Test
    void whatTheAsyncClientPutsIsRead() {
        String name = "java-async";
        async.createStream(stream -> stream.streamName(name).shardCount(1)).join();
        async.waiter().waitUntilStreamExists(stream -> stream.streamName(name), TestStream::often).join();
        byte[] everyByte = new byte[256];
        for (int i = 0; i < everyByte.length; i++) {
            everyByte[i] = (byte) i;
        }
        // With its key, which has 8 bytes, as large as a record may be.
        byte[] large = new byte[1024 * 1024 - 8];
        new Random(1).nextBytes(large);
        Instant before = Instant.now().minusSeconds(1);
        List<PutRecordResponse> put = new ArrayList<>();
        for (byte[] data : List.of(everyByte, large)) {
            put.add(async.putRecord(record -> record.streamName(name).partitionKey("ключ")
                    .data(SdkBytes.fromByteArray(data))).join());
        }

        String iterator = async.getShardIterator(start -> start.streamName(name).shardId(put.get(0).shardId())
                .shardIteratorType("AT_TIMESTAMP").timestamp(before)).join().shardIterator();
        List<Record> records = async.getRecords(get -> get.shardIterator(iterator)).join().records();
        assertEquals(2, records.size());
        assertArrayEquals(everyByte, records.get(0).data().asByteArray());
        assertArrayEquals(large, records.get(1).data().asByteArray());
        assertEquals("ключ", records.get(0).partitionKey());
        assertEquals(put.get(1).sequenceNumber(), records.get(1).sequenceNumber());
        Duration age = Duration.between(before, records.get(0).approximateArrivalTimestamp());
        assertTrue(!age.isNegative() && age.toMinutes() < 1, "arrived " + age + " after " + before);
    }

    @Test
    void aStreamIsDescribedWithItsTimes() {
        TestStream.create(sync, "java-described", 2);
        var summary = sync.describeStreamSummary(stream -> stream.streamName("java-described"))
                .streamDescriptionSummary();
        assertEquals(StreamStatus.ACTIVE, summary.streamStatus());
        assertEquals(2, summary.openShardCount());
        Duration age = Duration.between(summary.streamCreationTimestamp(), Instant.now()).abs();
        assertTrue(age.toMinutes() < 1, "created " + summary.streamCreationTimestamp());
        assertTrue(sync.listStreams().streamNames().contains("java-described"));
    }

    @Test
    void theSyncClientSpeaksCbor() {
        Wire wire = new Wire();
        Clients.sync(wire.overrides()).listStreams();
        assertEquals(Set.of("application/x-amz-cbor-1.1"), wire.contentTypes);
        assertTrue(!wire.http2, "the sync client has no HTTP/2");
    }

    @Test
    void theAsyncClientSpeaksCborOverHttp2() {
        Wire wire = new Wire();
        Clients.async(wire.overrides()).listStreams().join();
        assertEquals(Set.of("application/x-amz-cbor-1.1"), wire.contentTypes);
        assertTrue(wire.http2, "no HTTP/2 stream was measured");
    }

    /** What a client sends and receives, as it tells itself. */
    private static final class Wire implements ExecutionInterceptor, MetricPublisher {
        final Set<String> contentTypes = new ConcurrentSkipListSet<>();
        volatile boolean http2;

        ClientOverrideConfiguration overrides() {
            return ClientOverrideConfiguration.builder().addExecutionInterceptor(this).addMetricPublisher(this).build();
        }

        @Override
        public void beforeTransmission(Context.BeforeTransmission context, ExecutionAttributes attributes) {
            contentTypes.add(context.httpRequest().firstMatchingHeader("Content-Type").orElse("none"));
        }

        @Override
        public void afterTransmission(Context.AfterTransmission context, ExecutionAttributes attributes) {
            contentTypes.add(context.httpResponse().firstMatchingHeader("Content-Type").orElse("none"));
        }

        @Override
        public void publish(MetricCollection metrics) {
            http2 |= !metrics.metricValues(Http2Metric.LOCAL_STREAM_WINDOW_SIZE_IN_BYTES).isEmpty();
            metrics.children().forEach(this::publish);
        }

        @Override
        public void close() {}
    }
}
