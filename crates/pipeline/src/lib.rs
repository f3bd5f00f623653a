//! Moves the records of one shard through transformer, filter, buffer and emitters, and says up to which position everything is safe.
