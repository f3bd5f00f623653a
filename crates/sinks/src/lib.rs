//! The destinations: each implements Emitter for one service.
