package kinesink.bench;

import com.amazonaws.services.kinesis.connectors.KinesisConnectorConfiguration;
import com.amazonaws.services.kinesis.connectors.UnmodifiableBuffer;
import com.amazonaws.services.kinesis.connectors.interfaces.IEmitter;
import com.amazonaws.services.kinesis.connectors.s3.S3Emitter;
import com.amazonaws.services.s3.S3ClientOptions;
import java.io.IOException;
import java.util.List;

/** Records as they are, one behind the other in objects. */
public final class Objects extends Metered<byte[]> {
    private Objects(long records) {
        super(records);
    }

    public static void main(String[] args) throws IOException {
        run(args, Objects::new);
    }

    @Override
    byte[] model(byte[] data) {
        return data;
    }

    @Override
    public IEmitter<byte[]> getEmitter(KinesisConnectorConfiguration config) {
        return new Emitter(config);
    }

    private final class Emitter extends S3Emitter {
        Emitter(KinesisConnectorConfiguration config) {
            super(config);
            // No property asks for it, and an address cannot carry the bucket.
            s3client.setS3ClientOptions(S3ClientOptions.builder().setPathStyleAccess(true).build());
        }

        @Override
        public List<byte[]> emit(UnmodifiableBuffer<byte[]> buffer) throws IOException {
            List<byte[]> failed = super.emit(buffer);
            delivered(buffer.getRecords().size() - failed.size());
            return failed;
        }
    }
}
