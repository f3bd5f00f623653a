//! `aws-chunked`: a body in frames, each with its length, and with headers behind the last.
//!
//! ```text
//! LENGTH [;chunk-signature=…] CRLF  that many bytes  CRLF   … until LENGTH is 0
//! NAME:VALUE CRLF                                           … until an empty line or the end
//! ```
//! Signatures of frames are passed over, as that of the request is.

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, BodyDataStream};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _, stream};
use http::{HeaderMap, HeaderName, HeaderValue};

/// A frame's first line, or a header behind the last frame.
const LINE_BYTES_MAX: usize = 4096;
const TRAILERS_MAX: usize = 16;

/// The headers behind the body, once it was read to its end.
#[derive(Debug, Clone, Default)]
pub(super) struct Trailers(Arc<Mutex<HeaderMap>>);

impl Trailers {
    pub(super) fn read(&self) -> HeaderMap {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Why the body cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("the connection broke: {0}")]
    Connection(axum::Error),
    #[error("the body ended before its last chunk")]
    Early,
    #[error("{0} in an aws-chunked body")]
    Frame(&'static str),
}

struct Frames {
    body: BodyDataStream,
    buffer: BytesMut,
    left_bytes: u64,
    trailers: Trailers,
}

/// The body without its frames.
pub(super) fn decoded(body: Body, trailers: Trailers) -> impl Stream<Item = Result<Bytes, Broken>> + Send + 'static {
    let frames = Frames { body: body.into_data_stream(), buffer: BytesMut::new(), left_bytes: 0, trailers };
    stream::try_unfold(frames, |mut frames| async move { Ok(frames.next().await?.map(|bytes| (bytes, frames))) })
}

impl Frames {
    /// The next bytes of the current frame, or the first of the next one; none behind the last.
    async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        if self.left_bytes == 0 {
            let line = self.line().await?;
            let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
            let digits = str::from_utf8(digits).map_err(|_| Broken::Frame("a length that is not text"))?;
            let length = u64::from_str_radix(digits.trim(), 16);
            self.left_bytes = length.map_err(|_| Broken::Frame("a length that is no number"))?;
            if self.left_bytes == 0 {
                self.read_trailers().await?;
                return Ok(None);
            }
        }
        if self.buffer.is_empty() && !self.fill().await? {
            return Err(Broken::Early);
        }
        let take = usize::try_from(self.left_bytes).unwrap_or(usize::MAX).min(self.buffer.len());
        let bytes = self.buffer.split_to(take).freeze();
        self.left_bytes -= bytes.len() as u64;
        if self.left_bytes == 0 && !self.line().await?.is_empty() {
            return Err(Broken::Frame("more bytes than its length says"));
        }
        Ok(Some(bytes))
    }

    async fn read_trailers(&mut self) -> Result<(), Broken> {
        for _ in 0..TRAILERS_MAX {
            if self.buffer.is_empty() && !self.fill().await? {
                return Ok(());
            }
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(());
            }
            let mut halves = line.splitn(2, |byte| *byte == b':');
            let (name, value) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
            let name = HeaderName::from_bytes(name.trim_ascii());
            let value = HeaderValue::from_bytes(value.trim_ascii());
            let (Ok(name), Ok(value)) = (name, value) else { return Err(Broken::Frame("a trailer that is none")) };
            self.trailers.0.lock().unwrap_or_else(PoisonError::into_inner).append(name, value);
        }
        Err(Broken::Frame("too many trailers"))
    }

    /// The bytes up to the next line break.
    async fn line(&mut self) -> Result<Bytes, Broken> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.buffer.split_to(at).freeze();
                drop(self.buffer.split_to(2));
                return Ok(line);
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(Broken::Frame("a line without an end"));
            }
            if !self.fill().await? {
                return Err(Broken::Early);
            }
        }
    }

    /// Reads more; false at the end.
    async fn fill(&mut self) -> Result<bool, Broken> {
        match self.body.next().await {
            Some(bytes) => {
                self.buffer.extend_from_slice(&bytes.map_err(Broken::Connection)?);
                Ok(true)
            }
            None => Ok(false),
        }
    }
}
