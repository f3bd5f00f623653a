package kinesink.peers;

import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.security.GeneralSecurityException;
import javax.net.ssl.SSLContext;

/** Plants errors in `kinesink local`, over its admin route. */
final class Faults {
    private Faults() {}

    /** The next calls of the operation fail with this error. */
    static void plant(String operation, String code, int times) {
        String fault = """
                [{"operation": "%s", "times": %d, "kind": {"error": {"code": "%s", "message": "planted"}}}]
                """.formatted(operation, times, code);
        URI route = URI.create(System.getenv("AWS_ENDPOINT_URL_KINESIS") + "/_kinesink/faults");
        HttpRequest request = HttpRequest.newBuilder(route).header("Content-Type", "application/json")
                .POST(BodyPublishers.ofString(fault)).build();
        try {
            int status = client().send(request, BodyHandlers.discarding()).statusCode();
            if (status != 200) {
                throw new AssertionError(route + " answered " + status);
            }
        } catch (IOException | GeneralSecurityException e) {
            throw new IllegalStateException("cannot plant a fault at " + route, e);
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }

    private static HttpClient client() throws GeneralSecurityException {
        HttpClient.Builder builder = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1);
        if (Clients.trusted().isPresent()) {
            SSLContext tls = SSLContext.getInstance("TLS");
            tls.init(null, Clients.trusted().get(), null);
            builder.sslContext(tls);
        }
        return builder.build();
    }
}
