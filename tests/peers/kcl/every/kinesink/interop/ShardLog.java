package kinesink.interop;

/** The part of a record processor that no KCL changes: journal each record, then checkpoint, about once a second. */
final class ShardLog {
    /** The library's checkpoint call at the last record, or at the shard's end. */
    @FunctionalInterface
    interface Checkpoint {
        void run() throws Exception;
    }

    private static final long CHECKPOINT_MILLIS = 1_000;

    private final Journal journal;
    private String shard;
    private String sequence;
    private long subSequence;
    private boolean dirty;
    private long checkpointed = System.currentTimeMillis();

    ShardLog(Journal journal) {
        this.journal = journal;
    }

    void gained(String shard, String sequence, long subSequence) {
        this.shard = shard;
        journal.event("gained", shard, sequence, subSequence);
    }

    void record(String sequence, long subSequence) {
        journal.record(shard, sequence, subSequence);
        this.sequence = sequence;
        this.subSequence = subSequence;
        dirty = true;
    }

    /** To call after each batch, empty ones included: the time passes between records too. */
    void batchEnded(Checkpoint checkpoint) {
        journal.flush();
        if (dirty && !Habits.NEVER_CHECKPOINTS && System.currentTimeMillis() - checkpointed >= CHECKPOINT_MILLIS) {
            checkpoint(checkpoint);
        }
    }

    void lost() {
        journal.event("lost", shard, "-", 0);
    }

    void ended(Checkpoint checkpoint) {
        sequence = "SHARD_END";
        subSequence = 0;
        dirty = true;
        checkpoint(checkpoint);
    }

    void drained(Checkpoint checkpoint) {
        if (dirty && !Habits.NEVER_CHECKPOINTS) {
            checkpoint(checkpoint);
        }
        journal.event("drained", shard, "-", 0);
    }

    private void checkpoint(Checkpoint checkpoint) {
        journal.flush();
        try {
            checkpoint.run();
        } catch (Exception e) {
            // The lease is lost, most likely: its next owner reads these records again.
            journal.event("refused", shard, sequence, subSequence);
            return;
        }
        journal.event("checkpoint", shard, sequence, subSequence);
        dirty = false;
        checkpointed = System.currentTimeMillis();
    }
}
