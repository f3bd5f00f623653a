package kinesink.peers;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.concurrent.CompletionException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.awssdk.services.kinesis.KinesisClient;
import software.amazon.awssdk.services.kinesis.model.InvalidArgumentException;
import software.amazon.awssdk.services.kinesis.model.KinesisException;
import software.amazon.awssdk.services.kinesis.model.LimitExceededException;
import software.amazon.awssdk.services.kinesis.model.ProvisionedThroughputExceededException;
import software.amazon.awssdk.services.kinesis.model.ResourceInUseException;
import software.amazon.awssdk.services.kinesis.model.ResourceNotFoundException;

/** Errors arrive as the SDK's own exceptions, with status, code, message and request id, in both clients. */
class ErrorsTest {
    private static final String MODEL = "software.amazon.awssdk.services.kinesis.model.";

    private final KinesisClient sync = Clients.sync(Clients.withoutRetries());
    private final KinesisAsyncClient async = Clients.async(Clients.withoutRetries());

    @Test
    void aStreamThatDoesNotExist() {
        assertError(ResourceNotFoundException.class, 400, () -> sync.describeStream(s -> s.streamName("java-none")));
        assertError(ResourceNotFoundException.class, 400,
                () -> async.describeStream(s -> s.streamName("java-none")).join());
    }

    @Test
    void aStreamThatExists() {
        TestStream.create(sync, "java-exists", 1);
        assertError(ResourceInUseException.class, 400,
                () -> sync.createStream(s -> s.streamName("java-exists").shardCount(1)));
    }

    @Test
    void anIteratorThatIsNone() {
        assertError(InvalidArgumentException.class, 400, () -> sync.getRecords(get -> get.shardIterator("none")));
        assertError(InvalidArgumentException.class, 400,
                () -> async.getRecords(get -> get.shardIterator("none")).join());
    }

    @Test
    void aRequestBeyondTheModel() {
        KinesisException error = assertError(KinesisException.class, 400,
                () -> sync.createStream(s -> s.streamName("not a name").shardCount(1)));
        assertEquals("ValidationException", error.awsErrorDetails().errorCode());
    }

    @Test
    void moreShardsThanAllowed() {
        assertError(LimitExceededException.class, 400,
                () -> sync.createStream(s -> s.streamName("java-huge").shardCount(90_000)));
    }

    @Test
    void moreReadsThanAllowed() {
        TestStream stream = TestStream.create(sync, "java-reads", 1);
        String iterator = stream.iterator(stream.shards().get(0).shardId());
        assertError(ProvisionedThroughputExceededException.class, 400, () -> {
            for (int i = 0; i < 40; i++) {
                sync.getRecords(get -> get.shardIterator(iterator));
            }
        });
    }

    @Test
    void moreBytesThanAllowed() {
        TestStream stream = TestStream.create(sync, "java-bytes", 1);
        SdkBytes data = SdkBytes.fromByteArray(new byte[900_000]);
        assertError(ProvisionedThroughputExceededException.class, 400, () -> {
            for (int i = 0; i < 20; i++) {
                async.putRecord(put -> put.streamName(stream.name()).partitionKey("k").data(data)).join();
            }
        });
    }

    @Test
    void anOperationThatIsNotEmulated() {
        KinesisException error = assertError(KinesisException.class, 400,
                () -> sync.enableEnhancedMonitoring(e -> e.streamName("any").shardLevelMetricsWithStrings("ALL")));
        assertTrue(error.getMessage().contains("kinesink local does not emulate EnableEnhancedMonitoring"),
                error.getMessage());
    }

    /** Errors that cannot be had by asking, from the faults that a test may plant. */
    @ParameterizedTest
    @ValueSource(strings = {
        "AccessDeniedException", "ExpiredIteratorException", "InvalidArgumentException", "KMSAccessDeniedException",
        "KMSDisabledException", "KMSInvalidStateException", "KMSNotFoundException", "KMSOptInRequired",
        "KMSThrottlingException", "ProvisionedThroughputExceededException", "ResourceNotFoundException"
    })
    void anErrorOfGetRecords(String code) {
        Faults.plant("GetRecords", code, 2);
        assertPlanted(code, () -> sync.getRecords(get -> get.shardIterator("any")));
        assertPlanted(code, () -> async.getRecords(get -> get.shardIterator("any")).join());
    }

    @ParameterizedTest
    @ValueSource(strings = {"ExpiredNextTokenException", "LimitExceededException", "ResourceInUseException"})
    void anErrorOfListShards(String code) {
        Faults.plant("ListShards", code, 2);
        assertPlanted(code, () -> sync.listShards(list -> list.streamName("any")));
        assertPlanted(code, () -> async.listShards(list -> list.streamName("any")).join());
    }

    @Test
    void aFailureOfTheService() {
        Faults.plant("ListStreams", "InternalFailure", 1);
        KinesisException error = assertError(KinesisException.class, 500, () -> sync.listStreams());
        assertEquals("InternalFailure", error.awsErrorDetails().errorCode());
    }

    private static void assertPlanted(String code, Executable call) {
        KinesisException error = assertError(KinesisException.class, 400, call);
        String kind = code.replace("KMS", "Kms");
        assertEquals(MODEL + (kind.endsWith("Exception") ? kind : kind + "Exception"), error.getClass().getName());
        assertTrue(error.awsErrorDetails().errorMessage().contains("planted"), error.getMessage());
    }

    private static <T extends KinesisException> T assertError(Class<T> kind, int status, Executable call) {
        T error = assertThrows(kind, () -> {
            try {
                call.execute();
            } catch (CompletionException failure) {
                throw failure.getCause();
            }
        });
        assertEquals(status, error.statusCode());
        assertNotNull(error.requestId());
        assertTrue(!error.awsErrorDetails().errorMessage().isEmpty(), "no message");
        return error;
    }
}
