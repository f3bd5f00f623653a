package kinesink.peers;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import org.junit.jupiter.api.Test;

/** What the documentation shows; it trusts no certificate, so it is run without TLS. */
class ExampleTest {
    @Test
    void theExampleRuns() {
        PrintStream console = System.out;
        ByteArrayOutputStream printed = new ByteArrayOutputStream();
        System.setOut(new PrintStream(printed, true, StandardCharsets.UTF_8));
        try {
            SdkExample.main(new String[0]);
        } finally {
            System.setOut(console);
        }
        assertEquals("k: hello\n", printed.toString(StandardCharsets.UTF_8));
    }
}
