package kinesink.peers;

import static org.junit.platform.engine.discovery.DiscoverySelectors.selectClass;

import java.io.PrintWriter;
import java.util.ArrayList;
import java.util.List;
import org.junit.platform.engine.TestExecutionResult;
import org.junit.platform.launcher.TestExecutionListener;
import org.junit.platform.launcher.TestIdentifier;
import org.junit.platform.launcher.core.LauncherDiscoveryRequestBuilder;
import org.junit.platform.launcher.core.LauncherFactory;
import org.junit.platform.launcher.listeners.SummaryGeneratingListener;
import org.junit.platform.launcher.listeners.TestExecutionSummary;

/** Runs the tests of the SDK's clients; ends with {@code N passed, N failed}. */
public final class Tests {
    private Tests() {}

    public static void main(String[] args) {
        boolean tls = Clients.trusted().isPresent();
        List<Class<?>> classes = new ArrayList<>(
                List.of(DataTest.class, ReshardingTest.class, FanOutTest.class, ErrorsTest.class));
        classes.addAll(tls ? List.of(TlsTest.class, ProducerTest.class) : List.of(ExampleTest.class));
        SummaryGeneratingListener results = new SummaryGeneratingListener();
        LauncherFactory.create().execute(
                LauncherDiscoveryRequestBuilder.request()
                        .selectors(classes.stream().map(each -> selectClass(each)).toList())
                        .build(),
                results, new Names());
        TestExecutionSummary summary = results.getSummary();
        summary.printFailuresTo(new PrintWriter(System.out, true), 12);
        long failed = summary.getTotalFailureCount();
        System.out.println(summary.getTestsSucceededCount() + " passed, " + failed + " failed");
        // Netty's threads outlive the clients for a while.
        System.exit(failed == 0 ? 0 : 1);
    }

    /** Prints each test as it ends. */
    private static final class Names implements TestExecutionListener {
        @Override
        public void executionFinished(TestIdentifier test, TestExecutionResult result) {
            if (test.isTest()) {
                System.out.println(test.getDisplayName() + " ... " + result.getStatus());
            }
        }
    }
}
