package kinesink.peers;

import software.amazon.kinesis.exceptions.InvalidStateException;
import software.amazon.kinesis.exceptions.ShutdownException;
import software.amazon.kinesis.lifecycle.events.InitializationInput;
import software.amazon.kinesis.lifecycle.events.LeaseLostInput;
import software.amazon.kinesis.lifecycle.events.ProcessRecordsInput;
import software.amazon.kinesis.lifecycle.events.ShardEndedInput;
import software.amazon.kinesis.lifecycle.events.ShutdownRequestedInput;
import software.amazon.kinesis.processor.RecordProcessorCheckpointer;
import software.amazon.kinesis.processor.ShardRecordProcessor;
import software.amazon.kinesis.retrieval.KinesisClientRecord;

/** Writes each record of a shard to the journal; a checkpoint never covers a record that is not in the file. */
final class Processor implements ShardRecordProcessor {
    private static final int RECORDS_PER_CHECKPOINT = 2000;

    private final Journal journal;
    private String shard;
    private int recordsSinceCheckpoint;

    Processor(Journal journal) {
        this.journal = journal;
    }

    @Override
    public void initialize(InitializationInput input) {
        shard = input.shardId();
        journal.gained(shard);
    }

    @Override
    public void processRecords(ProcessRecordsInput input) {
        for (KinesisClientRecord record : input.records()) {
            journal.record(shard, record.sequenceNumber(), record.partitionKey(), record.data());
        }
        journal.flush();
        recordsSinceCheckpoint += input.records().size();
        if (recordsSinceCheckpoint >= RECORDS_PER_CHECKPOINT) {
            checkpoint(input.checkpointer());
        }
    }

    @Override
    public void leaseLost(LeaseLostInput input) {
        journal.lost(shard);
    }

    @Override
    public void shardEnded(ShardEndedInput input) {
        journal.ended(shard);
        checkpoint(input.checkpointer());
    }

    @Override
    public void shutdownRequested(ShutdownRequestedInput input) {
        checkpoint(input.checkpointer());
    }

    private void checkpoint(RecordProcessorCheckpointer checkpointer) {
        try {
            checkpointer.checkpoint();
            recordsSinceCheckpoint = 0;
        } catch (InvalidStateException | ShutdownException e) {
            // The lease has gone to another worker, which reads these records again. The test sees them twice.
            System.err.println("no checkpoint of " + shard + ": " + e);
        }
    }
}
