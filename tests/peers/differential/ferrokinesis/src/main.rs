//! `ferrokinesis-peer PORT STATE_MS SHARDS_MAX ITERATOR_S`: the crate's router on loopback, with the given length of its
//! CREATING, UPDATING and DELETING states and of an iterator's life.

use axum::serve::ListenerExt;
use ferrokinesis::create_app;
use ferrokinesis::store::StoreOptions;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let numbers: Vec<u32> = std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    let [port, state_ms, shard_limit, iterator_s] = numbers[..] else {
        return Err("usage: ferrokinesis-peer PORT STATE_MS SHARDS_MAX ITERATOR_S".into());
    };
    let state_ms = u64::from(state_ms);
    let options = StoreOptions {
        create_stream_ms: state_ms,
        update_stream_ms: state_ms,
        delete_stream_ms: state_ms,
        shard_limit,
        iterator_ttl_seconds: u64::from(iterator_s),
        ..StoreOptions::default()
    };
    let (app, _store) = create_app(options);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", u16::try_from(port)?)).await?;
    // Otherwise a small reply waits for the client's delayed acknowledgement.
    let listener = listener.tap_io(|connection| drop(connection.set_nodelay(true)));
    axum::serve(listener, app).await?;
    Ok(())
}
