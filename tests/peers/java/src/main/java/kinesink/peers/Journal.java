package kinesink.peers;

import java.io.BufferedWriter;
import java.io.Closeable;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;

/** What a worker saw, in the order it saw it: a line each, fields between tabs. */
final class Journal implements Closeable {
    private final BufferedWriter out;

    Journal(Path file) throws IOException {
        this.out = Files.newBufferedWriter(file);
    }

    /** The worker has this shard from here on. */
    void gained(String shard) {
        line("gained", shard);
        flush();
    }

    void record(String shard, String sequenceNumber, String partitionKey, ByteBuffer data) {
        line("record", shard, sequenceNumber, partitionKey, sha256(data));
    }

    /** The worker was told that the shard has no more records. */
    void ended(String shard) {
        line("ended", shard);
        flush();
    }

    /** Another worker has the shard. */
    void lost(String shard) {
        line("lost", shard);
        flush();
    }

    synchronized void flush() {
        try {
            out.flush();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    @Override
    public synchronized void close() throws IOException {
        out.close();
    }

    private synchronized void line(String... fields) {
        try {
            out.write(String.join("\t", fields));
            out.write('\n');
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static String sha256(ByteBuffer data) {
        try {
            MessageDigest digest = MessageDigest.getInstance("SHA-256");
            digest.update(data.duplicate());
            return HexFormat.of().formatHex(digest.digest());
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }
}
