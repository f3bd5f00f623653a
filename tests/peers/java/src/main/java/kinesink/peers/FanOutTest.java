package kinesink.peers;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.awssdk.services.kinesis.KinesisClient;
import software.amazon.awssdk.services.kinesis.model.ChildShard;
import software.amazon.awssdk.services.kinesis.model.ConsumerStatus;
import software.amazon.awssdk.services.kinesis.model.ResourceInUseException;
import software.amazon.awssdk.services.kinesis.model.ResourceNotFoundException;
import software.amazon.awssdk.services.kinesis.model.Shard;
import software.amazon.awssdk.services.kinesis.model.ShardIteratorType;
import software.amazon.awssdk.services.kinesis.model.SubscribeToShardEvent;
import software.amazon.awssdk.services.kinesis.model.SubscribeToShardResponseHandler;

/** Registered consumers and the event stream of SubscribeToShard. */
class FanOutTest {
    private static final long EVENT_SECONDS_MAX = 20;
    /** A subscription is safe from others for 5 s. */
    private static final long TAKE_OVER_MS = 5_500;

    private final KinesisClient client = Clients.sync(Clients.withoutRetries());
    private final KinesisAsyncClient async = Clients.async(Clients.withoutRetries());

    @Test
    void consumersAreRegisteredListedAndDeregistered() throws Exception {
        TestStream stream = TestStream.create(client, "java-consumers", 1);
        String arn = stream.arn();
        String consumer = register(arn, "reader");
        assertEquals(List.of("reader"),
                client.listStreamConsumersPaginator(list -> list.streamARN(arn)).stream()
                        .flatMap(page -> page.consumers().stream()).map(one -> one.consumerName()).toList());
        assertThrows(ResourceInUseException.class,
                () -> client.registerStreamConsumer(register -> register.streamARN(arn).consumerName("reader")));
        client.deregisterStreamConsumer(deregister -> deregister.consumerARN(consumer));
        assertGone(consumer);
    }

    @Test
    void aSubscriptionGetsWhatIsThereAndWhatIsPutLater() throws Exception {
        TestStream stream = TestStream.create(client, "java-subscribe", 1);
        stream.put(TestStream.texts("early-", 20));
        String shard = stream.shards().get(0).shardId();
        Subscription subscription = subscribe(register(stream.arn(), "reader"), shard);
        assertEquals(TestStream.texts("early-", 20), subscription.texts(20));
        stream.put(TestStream.texts("late-", 20));
        assertEquals(TestStream.texts("late-", 20), subscription.texts(20));
        assertNotNull(subscription.last.continuationSequenceNumber());
        assertEquals(0, subscription.last.millisBehindLatest());
    }

    @Test
    void aSubscriptionEndsWithTheShardAfterItsLastRecord() throws Exception {
        TestStream stream = TestStream.create(client, "java-subscribe-end", 1);
        Shard parent = stream.shards().get(0);
        Subscription subscription = subscribe(register(stream.arn(), "reader"), parent.shardId());
        stream.put(TestStream.texts("last-", 30));
        client.splitShard(split -> split.streamName(stream.name()).shardToSplit(parent.shardId())
                .newStartingHashKey(TestStream.middle(parent)));
        assertEquals(TestStream.texts("last-", 30), subscription.texts(30));
        subscription.done.get(EVENT_SECONDS_MAX, TimeUnit.SECONDS);
        subscription.drain();
        assertNull(subscription.last.continuationSequenceNumber());
        stream.awaitActive();
        List<String> children = stream.shards().stream()
                .filter(shard -> parent.shardId().equals(shard.parentShardId())).map(Shard::shardId).sorted().toList();
        assertEquals(2, children.size());
        assertEquals(children,
                subscription.last.childShards().stream().map(ChildShard::shardId).sorted().toList());
    }

    @Test
    void aSecondSubscriptionIsRefusedAtFirstAndThenTakesOver() throws Exception {
        TestStream stream = TestStream.create(client, "java-subscribe-twice", 1);
        stream.put(List.of("only"));
        String shard = stream.shards().get(0).shardId();
        String consumer = register(stream.arn(), "reader");
        Subscription first = subscribe(consumer, shard);
        assertEquals(List.of("only"), first.texts(1));
        // One call a second is allowed; a second one within it would be refused for that reason.
        Thread.sleep(1_100);
        Subscription second = subscribe(consumer, shard);
        assertInstanceOf(ResourceInUseException.class, second.failure());
        assertTrue(!first.done.isDone(), "the first subscription was ended");

        Thread.sleep(TAKE_OVER_MS);
        Subscription third = subscribe(consumer, shard);
        assertEquals(List.of("only"), third.texts(1));
        first.end();
        stream.put(List.of("later"));
        assertEquals(List.of("later"), third.texts(1));
    }

    @Test
    void aSubscriptionOfAnUnknownConsumerIsRefused() {
        TestStream stream = TestStream.create(client, "java-subscribe-unknown", 1);
        String unknown = stream.arn() + "/consumer/nobody:1700000000";
        Subscription subscription = subscribe(unknown, stream.shards().get(0).shardId());
        assertInstanceOf(ResourceNotFoundException.class, subscription.failure());
    }

    private String register(String streamArn, String name) throws InterruptedException {
        String arn = client.registerStreamConsumer(register -> register.streamARN(streamArn).consumerName(name))
                .consumer().consumerARN();
        for (int i = 0; i < 100; i++) {
            ConsumerStatus status = client.describeStreamConsumer(describe -> describe.consumerARN(arn))
                    .consumerDescription().consumerStatus();
            if (status == ConsumerStatus.ACTIVE) {
                return arn;
            }
            Thread.sleep(100);
        }
        throw new AssertionError(arn + " did not become active");
    }

    private void assertGone(String consumer) throws InterruptedException {
        for (int i = 0; i < 100; i++) {
            try {
                client.describeStreamConsumer(describe -> describe.consumerARN(consumer));
            } catch (ResourceNotFoundException gone) {
                return;
            }
            Thread.sleep(100);
        }
        throw new AssertionError(consumer + " is still there");
    }

    private Subscription subscribe(String consumer, String shard) {
        Subscription subscription = new Subscription();
        subscription.done = async.subscribeToShard(
                subscribe -> subscribe.consumerARN(consumer).shardId(shard)
                        .startingPosition(start -> start.type(ShardIteratorType.TRIM_HORIZON)),
                SubscribeToShardResponseHandler.builder()
                        .subscriber(SubscribeToShardResponseHandler.Visitor.builder()
                                .onSubscribeToShardEvent(subscription.events::add).build())
                        .build());
        return subscription;
    }

    private static final class Subscription {
        final LinkedBlockingQueue<SubscribeToShardEvent> events = new LinkedBlockingQueue<>();
        CompletableFuture<Void> done;
        SubscribeToShardEvent last;

        /** The next texts, and the events that bring them. */
        List<String> texts(int count) throws InterruptedException {
            List<String> texts = new ArrayList<>();
            while (texts.size() < count) {
                last = events.poll(EVENT_SECONDS_MAX, TimeUnit.SECONDS);
                if (last == null) {
                    throw new AssertionError("no event for " + EVENT_SECONDS_MAX + " s after " + texts + " " + done);
                }
                last.records().forEach(record -> texts.add(TestStream.text(record.data())));
            }
            return texts;
        }

        /** Takes the events that are left, which must have no record. */
        void drain() {
            for (SubscribeToShardEvent event = events.poll(); event != null; event = events.poll()) {
                assertEquals(List.of(), event.records());
                last = event;
            }
        }

        /** Waits until it is over, in whatever way. */
        void end() throws Exception {
            done.handle((nothing, error) -> error).get(EVENT_SECONDS_MAX, TimeUnit.SECONDS);
        }

        Throwable failure() {
            ExecutionException failure = assertThrows(ExecutionException.class,
                    () -> done.get(EVENT_SECONDS_MAX, TimeUnit.SECONDS));
            Throwable cause = failure.getCause();
            return cause instanceof CompletionException ? cause.getCause() : cause;
        }
    }
}
