//! Kinesis to sinks: records out of a Kinesis data stream into S3 and directories.
