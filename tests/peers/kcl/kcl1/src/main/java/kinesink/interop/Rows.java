package kinesink.interop;

import com.amazonaws.client.builder.AwsClientBuilder.EndpointConfiguration;
import com.amazonaws.services.dynamodbv2.AmazonDynamoDBClientBuilder;
import com.amazonaws.services.dynamodbv2.model.BillingMode;
import com.amazonaws.services.kinesis.clientlibrary.types.ExtendedSequenceNumber;
import com.amazonaws.services.kinesis.leases.impl.KinesisClientLease;
import com.amazonaws.services.kinesis.leases.impl.KinesisClientLeaseManager;

/**
 * What KCL 1.x reads in a lease table, and that it can take, renew and checkpoint every lease in it:
 * {@code Rows TABLE WORKER CHECKPOINT}. Prints each lease before and after, in the columns that {@code rows.py} names.
 */
public final class Rows {
    private Rows() {}

    public static void main(String[] args) throws Exception {
        var endpoint = new EndpointConfiguration(System.getenv("AWS_ENDPOINT_URL_DYNAMODB"), System.getenv("AWS_REGION"));
        var dynamodb = AmazonDynamoDBClientBuilder.standard().withEndpointConfiguration(endpoint).build();
        var leases = new KinesisClientLeaseManager(args[0], dynamodb, true, BillingMode.PAY_PER_REQUEST);
        for (KinesisClientLease lease : leases.listLeases()) {
            print("before", lease);
            boolean ended = lease.getCheckpoint().equals(ExtendedSequenceNumber.SHARD_END);
            demand(leases.takeLease(lease, args[1]), "take", lease);
            demand(leases.renewLease(lease), "renew", lease);
            lease.setCheckpoint(ended ? ExtendedSequenceNumber.SHARD_END : new ExtendedSequenceNumber(args[2]));
            lease.setPendingCheckpoint(null);
            lease.setOwnerSwitchesSinceCheckpoint(0L);
            demand(leases.updateLease(lease), "checkpoint", lease);
        }
        leases.listLeases().forEach(lease -> print("after", lease));
        System.exit(0);
    }

    private static void demand(boolean done, String what, KinesisClientLease lease) {
        if (!done) {
            throw new IllegalStateException("cannot " + what + " " + lease.getLeaseKey());
        }
    }

    private static void print(String when, KinesisClientLease lease) {
        ExtendedSequenceNumber pending = lease.getPendingCheckpoint();
        System.out.println(Columns.line(when, lease.getLeaseKey(), Columns.or(lease.getLeaseOwner()),
                lease.getLeaseCounter(), lease.getOwnerSwitchesSinceCheckpoint(),
                lease.getCheckpoint().getSequenceNumber(), lease.getCheckpoint().getSubSequenceNumber(),
                pending == null ? "-" : pending.getSequenceNumber(),
                pending == null ? "-" : pending.getSubSequenceNumber(),
                "unknown", lease.getParentShardIds(), lease.getChildShardIds(),
                lease.getHashKeyRange() == null ? "-" : lease.getHashKeyRange().serializedStartingHashKey(),
                lease.getHashKeyRange() == null ? "-" : lease.getHashKeyRange().serializedEndingHashKey(), "unknown"));
    }
}
