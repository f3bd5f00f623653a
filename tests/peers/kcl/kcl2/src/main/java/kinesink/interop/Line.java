package kinesink.interop;

import software.amazon.awssdk.services.dynamodb.DynamoDbAsyncClient;
import software.amazon.kinesis.leases.Lease;
import software.amazon.kinesis.leases.LeaseManagementConfig;
import software.amazon.kinesis.leases.LeaseRefresher;
import software.amazon.kinesis.leases.dynamodb.DynamoDBLeaseRefresher;
import software.amazon.kinesis.leases.dynamodb.DynamoDBLeaseSerializer;

/** What KCL 2.x says in other words than 3.x. */
final class Line {
    private Line() {}

    /** It has nothing to set beyond what 3.x has too. */
    static void tune(LeaseManagementConfig leases) {}

    static LeaseRefresher leases(String table, DynamoDbAsyncClient dynamodb) {
        return new DynamoDBLeaseRefresher(table, dynamodb, new DynamoDBLeaseSerializer(), true);
    }

    static String checkpointOwner(Lease lease) {
        return "unknown";
    }
}
