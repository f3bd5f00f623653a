package kinesink.peers;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.math.BigInteger;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import software.amazon.awssdk.services.kinesis.KinesisClient;
import software.amazon.awssdk.services.kinesis.model.ChildShard;
import software.amazon.awssdk.services.kinesis.model.ScalingType;
import software.amazon.awssdk.services.kinesis.model.Shard;

/** Splits, merges and UpdateShardCount, and what a reader of the old shards sees. */
class ReshardingTest {
    private final KinesisClient client = Clients.sync(Clients.withoutRetries());

    @Test
    void aSplitShardEndsAndNamesItsChildren() throws Exception {
        TestStream stream = TestStream.create(client, "java-split", 1);
        List<String> before = TestStream.texts("before-", 50);
        stream.put(before);
        Shard parent = stream.shards().get(0);
        client.splitShard(split -> split.streamName(stream.name()).shardToSplit(parent.shardId())
                .newStartingHashKey(TestStream.middle(parent)));
        stream.awaitActive();
        List<String> after = TestStream.texts("after-", 50);
        stream.put(after);

        List<Shard> children = children(stream, parent.shardId());
        assertEquals(2, children.size());
        TestStream.Read old = stream.read(parent.shardId());
        assertEquals(before, old.texts());
        assertNull(old.last().nextShardIterator());
        assertEquals(ids(children),
                old.last().childShards().stream().map(ChildShard::shardId).collect(Collectors.toSet()));
        List<String> read = new ArrayList<>();
        for (Shard child : children) {
            read.addAll(stream.read(child.shardId()).texts());
        }
        assertEquals(new TreeSet<>(after), new TreeSet<>(read));
        assertEquals(after.size(), read.size());
    }

    @Test
    void mergedShardsHaveOneChildWithTwoParents() {
        TestStream stream = TestStream.create(client, "java-merge", 2);
        List<Shard> parents = stream.shards();
        client.mergeShards(merge -> merge.streamName(stream.name()).shardToMerge(parents.get(0).shardId())
                .adjacentShardToMerge(parents.get(1).shardId()));
        stream.awaitActive();
        List<Shard> open = open(stream);
        assertEquals(1, open.size());
        Shard child = open.get(0);
        assertEquals(ids(parents), Set.of(child.parentShardId(), child.adjacentParentShardId()));
        assertEquals(TestStream.HASH_KEYS, TestStream.width(child));
    }

    @Test
    void anUpdatedShardCountKeepsTheLineage() {
        TestStream stream = TestStream.create(client, "java-update", 3);
        for (int target : List.of(6, 4)) {
            Set<String> before = ids(stream.shards());
            client.updateShardCount(update -> update.streamName(stream.name()).targetShardCount(target)
                    .scalingType(ScalingType.UNIFORM_SCALING));
            stream.awaitActive();
            List<Shard> open = open(stream);
            assertEquals(target, open.size());
            BigInteger covered = open.stream().map(TestStream::width).reduce(BigInteger.ZERO, BigInteger::add);
            assertEquals(TestStream.HASH_KEYS, covered);
            for (Shard shard : stream.shards()) {
                boolean isNew = !before.contains(shard.shardId());
                assertTrue(!isNew || shard.parentShardId() != null, shard + " has no parent");
            }
        }
    }

    private static List<Shard> children(TestStream stream, String parent) {
        return stream.shards().stream().filter(shard -> parent.equals(shard.parentShardId())).toList();
    }

    private static List<Shard> open(TestStream stream) {
        return stream.shards().stream()
                .filter(shard -> shard.sequenceNumberRange().endingSequenceNumber() == null).toList();
    }

    private static Set<String> ids(List<Shard> shards) {
        return shards.stream().map(Shard::shardId).collect(Collectors.toSet());
    }
}
