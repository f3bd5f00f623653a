package kinesink.peers;

import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;
import software.amazon.awssdk.core.exception.SdkClientException;
import software.amazon.awssdk.services.kinesis.KinesisClient;

/** What only TLS has; that the other tests pass shows that the certificate can be trusted. */
class TlsTest {
    @Test
    void aCertificateThatIsNotTrustedIsRefused() {
        SdkClientException refused = assertThrows(SdkClientException.class, () -> KinesisClient.create().listStreams());
        assertTrue(refused.getMessage().contains("certification path"), refused.getMessage());
    }
}
