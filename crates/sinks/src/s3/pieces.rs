//! An object's bytes as the body of a request.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use kinesink_aws::s3::primitives::{ByteStream, SdkBody};

/// Pieces that are sent one after the other, without being joined.
struct Pieces {
    left: VecDeque<Bytes>,
    bytes_left: u64,
}

/// The chunks as the body of one request, which is sent once: whoever sends again has them still.
pub(super) fn byte_stream(chunks: Vec<Bytes>) -> ByteStream {
    let bytes_left = chunks.iter().map(|chunk| chunk.len() as u64).sum();
    ByteStream::new(SdkBody::from_body_1_x(Pieces { left: chunks.into(), bytes_left }))
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.left.pop_front();
        self.bytes_left -= next.as_ref().map_or(0, |chunk| chunk.len() as u64);
        Poll::Ready(next.map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes_left)
    }
}
