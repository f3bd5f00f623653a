//! A local Kinesis: in process, or on a loopback port for any AWS SDK.
