package kinesink.bench;

import com.amazonaws.services.dynamodbv2.model.AttributeValue;
import com.amazonaws.services.kinesis.connectors.KinesisConnectorConfiguration;
import com.amazonaws.services.kinesis.connectors.UnmodifiableBuffer;
import com.amazonaws.services.kinesis.connectors.dynamodb.DynamoDBEmitter;
import com.amazonaws.services.kinesis.connectors.interfaces.IEmitter;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** Records of JSON as items of a table. */
public final class Tables extends Metered<Map<String, AttributeValue>> {
    private static final ObjectMapper JSON = new ObjectMapper();

    private Tables(long records) {
        super(records);
    }

    public static void main(String[] args) throws IOException {
        run(args, Tables::new);
    }

    @Override
    Map<String, AttributeValue> model(byte[] data) throws IOException {
        Map<String, AttributeValue> item = new HashMap<>();
        JSON.readTree(data).fields().forEachRemaining(field -> item.put(field.getKey(), attribute(field.getValue())));
        return item;
    }

    private static AttributeValue attribute(JsonNode value) {
        return value.isNumber() ? new AttributeValue().withN(value.asText()) : new AttributeValue(value.asText());
    }

    @Override
    public IEmitter<Map<String, AttributeValue>> getEmitter(KinesisConnectorConfiguration config) {
        return new DynamoDBEmitter(config) {
            @Override
            public List<Map<String, AttributeValue>> emit(UnmodifiableBuffer<Map<String, AttributeValue>> buffer) throws IOException {
                List<Map<String, AttributeValue>> failed = super.emit(buffer);
                delivered(buffer.getRecords().size() - failed.size());
                return failed;
            }
        };
    }
}
