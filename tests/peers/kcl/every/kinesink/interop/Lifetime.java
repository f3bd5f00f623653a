package kinesink.interop;

import java.io.IOException;
import java.util.concurrent.TimeoutException;

/** Runs a worker until this program's standard input ends, then stops it, gracefully. */
final class Lifetime {
    /** The library's graceful stop; returns when the worker has stopped, or gives up waiting. */
    @FunctionalInterface
    interface Stop {
        void run() throws Exception;
    }

    private Lifetime() {}

    static void run(Runnable worker, Stop stop) throws Exception {
        Thread thread = new Thread(worker, "worker");
        thread.setDaemon(true);
        thread.start();
        awaitEndOfInput();
        try {
            stop.run();
        } catch (TimeoutException e) {
            // KCL 2.x waits for a shard that has ended, for as long as its row is there. All others are checkpointed.
            System.err.println("no word from the library that it has stopped");
        }
        // The libraries leave threads behind that would keep the JVM alive.
        System.exit(0);
    }

    private static void awaitEndOfInput() throws IOException {
        while (System.in.read() >= 0) {
            // Whatever is written is no end.
        }
    }
}
