package kinesink.interop;

import software.amazon.awssdk.services.dynamodb.DynamoDbAsyncClient;
import software.amazon.kinesis.leases.Lease;
import software.amazon.kinesis.leases.LeaseRefresher;
import software.amazon.kinesis.retrieval.kpl.ExtendedSequenceNumber;

/**
 * What KCL 2.x or 3.x reads in a lease table, and that it can take, renew and checkpoint every lease in it:
 * {@code Rows TABLE WORKER CHECKPOINT}. Prints each lease before and after, in the columns that {@code rows.py} names.
 */
public final class Rows {
    private Rows() {}

    public static void main(String[] args) throws Exception {
        LeaseRefresher leases = Line.leases(args[0], DynamoDbAsyncClient.create());
        for (Lease lease : leases.listLeases()) {
            print("before", lease);
            boolean ended = lease.checkpoint().equals(ExtendedSequenceNumber.SHARD_END);
            demand(leases.takeLease(lease, args[1]), "take", lease);
            demand(leases.renewLease(lease), "renew", lease);
            lease.checkpoint(ended ? ExtendedSequenceNumber.SHARD_END : new ExtendedSequenceNumber(args[2]));
            lease.pendingCheckpoint(null);
            lease.pendingCheckpointState(null);
            lease.ownerSwitchesSinceCheckpoint(0L);
            demand(leases.updateLease(lease), "checkpoint", lease);
        }
        leases.listLeases().forEach(lease -> print("after", lease));
        System.exit(0);
    }

    private static void demand(boolean done, String what, Lease lease) {
        if (!done) {
            throw new IllegalStateException("cannot " + what + " " + lease.leaseKey());
        }
    }

    private static void print(String when, Lease lease) {
        ExtendedSequenceNumber pending = lease.pendingCheckpoint();
        var range = lease.hashKeyRangeForLease();
        System.out.println(Columns.line(when, lease.leaseKey(), Columns.or(lease.leaseOwner()), lease.leaseCounter(),
                lease.ownerSwitchesSinceCheckpoint(),
                lease.checkpoint().sequenceNumber(), lease.checkpoint().subSequenceNumber(),
                pending == null ? "-" : pending.sequenceNumber(), pending == null ? "-" : pending.subSequenceNumber(),
                Columns.or(lease.pendingCheckpointState()), lease.parentShardIds(), lease.childShardIds(),
                range == null ? "-" : range.serializedStartingHashKey(),
                range == null ? "-" : range.serializedEndingHashKey(), Columns.or(Line.checkpointOwner(lease))));
    }
}
