package kinesink.interop;

import java.time.Duration;
import java.util.List;
import software.amazon.awssdk.services.dynamodb.DynamoDbAsyncClient;
import software.amazon.awssdk.services.dynamodb.model.BillingMode;
import software.amazon.kinesis.common.DdbTableConfig;
import software.amazon.kinesis.leases.Lease;
import software.amazon.kinesis.leases.LeaseManagementConfig;
import software.amazon.kinesis.leases.LeaseRefresher;
import software.amazon.kinesis.leases.dynamodb.DynamoDBLeaseRefresher;
import software.amazon.kinesis.leases.dynamodb.DynamoDBLeaseSerializer;
import software.amazon.kinesis.leases.dynamodb.TableCreatorCallback;

/** What only KCL 3.x has: a leader that assigns the leases, and its clocks. */
final class Line {
    private static final long LEADER_LEASE_MILLIS = 6_000;

    private Line() {}

    static void tune(LeaseManagementConfig leases) {
        // With the defaults, 120 s and 30 s, a killed leader is replaced after two minutes.
        leases.dynamoDbLockBasedLeaderLeaseDurationInMillis(LEADER_LEASE_MILLIS)
                .dynamoDbLockBasedLeaderHeartbeatPeriodInMillis(LEADER_LEASE_MILLIS / 4)
                .leaseAssignmentIntervalMillis(1_000L);
    }

    static LeaseRefresher leases(String table, DynamoDbAsyncClient dynamodb) {
        DdbTableConfig config = new DdbTableConfig();
        config.billingMode(BillingMode.PAY_PER_REQUEST);
        return new DynamoDBLeaseRefresher(table, dynamodb, new DynamoDBLeaseSerializer(), true,
                TableCreatorCallback.NOOP_TABLE_CREATOR_CALLBACK, Duration.ofSeconds(10), config, false, false, List.of());
    }

    static String checkpointOwner(Lease lease) {
        return lease.checkpointOwner();
    }
}
