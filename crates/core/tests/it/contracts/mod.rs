mod buffer;
mod checkpointer;
mod clock;
mod emitter;
mod filter;
mod transformer;
