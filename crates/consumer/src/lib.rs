//! A consumer of one Kinesis stream whose leases are real KCL rows.
