//! KPL aggregated records: bytes in, user records out, and back.
