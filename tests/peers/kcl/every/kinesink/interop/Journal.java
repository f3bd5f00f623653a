package kinesink.interop;

import java.io.BufferedWriter;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;

/**
 * What one worker did, a line each: time in ms, worker, event, shard, sequence number, sub-sequence, between tabs. After
 * {@link #flush} the lines are the kernel's: a killed worker leaves every record behind that its checkpoints cover.
 */
public final class Journal {
    private final BufferedWriter out;
    private final String worker;

    public Journal(Path file, String worker) throws IOException {
        this.out = Files.newBufferedWriter(file, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        this.worker = worker;
    }

    public void record(String shard, String sequence, long subSequence) {
        line("record", shard, sequence, subSequence);
    }

    public void event(String event, String shard, String sequence, long subSequence) {
        line(event, shard, sequence, subSequence);
        flush();
    }

    public synchronized void flush() {
        try {
            out.flush();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private synchronized void line(String event, String shard, String sequence, long subSequence) {
        try {
            out.write(System.currentTimeMillis() + "\t" + worker + "\t" + event + "\t" + shard + "\t" + sequence + "\t"
                    + subSequence + "\n");
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
