package kinesink.peers;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.util.Optional;
import javax.net.ssl.TrustManager;
import javax.net.ssl.TrustManagerFactory;
import software.amazon.awssdk.core.client.config.ClientOverrideConfiguration;
import software.amazon.awssdk.http.apache.ApacheHttpClient;
import software.amazon.awssdk.http.nio.netty.NettyNioAsyncHttpClient;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.awssdk.services.kinesis.KinesisClient;

/**
 * Clients of `kinesink local`. Address, region and credentials come from the environment that it sets, as for any
 * program; only its certificate has to be trusted here, because the SDK does not read {@code AWS_CA_BUNDLE}.
 */
final class Clients {
    private Clients() {}

    static KinesisClient sync(ClientOverrideConfiguration overrides) {
        ApacheHttpClient.Builder http = ApacheHttpClient.builder();
        trusted().ifPresent(managers -> http.tlsTrustManagersProvider(() -> managers));
        return KinesisClient.builder().httpClientBuilder(http).overrideConfiguration(overrides).build();
    }

    static KinesisAsyncClient async(ClientOverrideConfiguration overrides) {
        NettyNioAsyncHttpClient.Builder http = NettyNioAsyncHttpClient.builder();
        trusted().ifPresent(managers -> http.tlsTrustManagersProvider(() -> managers));
        return KinesisAsyncClient.builder().httpClientBuilder(http).overrideConfiguration(overrides).build();
    }

    /** A failure is seen at its first occurrence. */
    static ClientOverrideConfiguration withoutRetries() {
        return ClientOverrideConfiguration.builder().retryStrategy(retry -> retry.maxAttempts(1)).build();
    }

    /** Trusts the certificate in {@code AWS_CA_BUNDLE} and no other; empty where the address is plain {@code http}. */
    static Optional<TrustManager[]> trusted() {
        boolean tls = System.getenv("AWS_ENDPOINT_URL_KINESIS").startsWith("https:");
        return Optional.ofNullable(tls ? System.getenv("AWS_CA_BUNDLE") : null).map(bundle -> {
            try (InputStream file = Files.newInputStream(Path.of(bundle))) {
                Certificate certificate = CertificateFactory.getInstance("X.509").generateCertificate(file);
                KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
                store.load(null, null);
                store.setCertificateEntry("kinesink-local", certificate);
                TrustManagerFactory factory =
                        TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
                factory.init(store);
                return factory.getTrustManagers();
            } catch (IOException | GeneralSecurityException e) {
                throw new IllegalStateException("cannot trust " + bundle, e);
            }
        });
    }
}
