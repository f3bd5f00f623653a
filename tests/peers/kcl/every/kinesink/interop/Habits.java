package kinesink.interop;

/** What a test may want of a worker that no worker does by itself, as properties of the JVM. */
final class Habits {
    /** {@code kinesink.records}: records that one request asks for at most. The library's default is the service's limit. */
    static final int RECORDS_MAX = Integer.getInteger("kinesink.records", 10_000);
    /** {@code kinesink.neverCheckpoints}: records are processed, and nothing of that is remembered but a shard's end. */
    static final boolean NEVER_CHECKPOINTS = Boolean.getBoolean("kinesink.neverCheckpoints");

    private Habits() {}
}
