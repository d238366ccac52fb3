//! Bytes of a connection that were read and not given to the dispatcher yet.

use std::{
    io, mem,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, ReadBuf};

use super::gate::Demand;

/// Maximum number of bytes that are read ahead: the end of a client is noticed behind as many.
const AHEAD_BYTES: usize = 4096;

/// Maximum number of bytes that are dropped at the end of a connection.
const MAXIMUM_DROPPED_BYTES: usize = 128 * 1024;

/// Bytes that were read and not given yet.
pub(super) struct ReadAhead {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
    is_at_end: bool,
    /// Whether nothing but carriage returns was given since the last line feed.
    is_line_blank: bool,
}

impl ReadAhead {
    pub(super) fn new() -> Self {
        Self {
            bytes: vec![0; AHEAD_BYTES].into(),
            start: 0,
            end: 0,
            is_at_end: false,
            is_line_blank: true,
        }
    }

    /// Returns whether the client has ended its side. Bytes from before may be held.
    pub(super) fn is_at_end(&self) -> bool {
        self.is_at_end
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Reads until no more bytes are there, until the end, or until it is full.
    pub(super) fn fill(
        &mut self,
        mut io: Pin<&mut impl AsyncRead>,
        context: &mut Context<'_>,
    ) -> io::Result<()> {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= mem::take(&mut self.start);
        while !self.is_at_end && self.end < self.bytes.len() {
            let mut free = ReadBuf::new(&mut self.bytes[self.end..]);
            match io.as_mut().poll_read(context, &mut free) {
                Poll::Ready(read) => read?,
                Poll::Pending => break,
            }
            let read = free.filled().len();
            self.end += read;
            self.is_at_end = read == 0;
        }
        Ok(())
    }

    /// Drops the bytes that are held and those that can be read, up to a bound.
    pub(super) fn drop_all(&mut self, mut io: Pin<&mut impl AsyncRead>, context: &mut Context<'_>) {
        for _ in 0..MAXIMUM_DROPPED_BYTES / AHEAD_BYTES {
            self.start = self.end;
            let filled = self.fill(io.as_mut(), context);
            if filled.is_err() || self.is_empty() {
                break;
            }
        }
    }

    /// Moves a piece to `target`: as much of what is demanded as is there.
    pub(super) fn give(&mut self, demand: Demand, target: &mut ReadBuf<'_>) {
        let most = match demand {
            Demand::Nothing => 0,
            Demand::BlankLine => usize::MAX,
            Demand::Rest(left) => usize::try_from(left).unwrap_or(usize::MAX),
        };
        let held = &self.bytes[self.start..self.end];
        let mut piece = &held[..held.len().min(most).min(target.remaining())];
        if demand == Demand::BlankLine {
            piece = &piece[..to_blank_line(piece, &mut self.is_line_blank)];
        }
        target.put_slice(piece);
        self.start += piece.len();
    }
}

/// Returns the number of bytes to the end of the first blank line, or of all. `is_line_blank` is carried
/// from one piece to the next.
fn to_blank_line(bytes: &[u8], is_line_blank: &mut bool) -> usize {
    for (position, byte) in bytes.iter().enumerate() {
        match byte {
            b'\n' if *is_line_blank => return position + 1,
            b'\n' => *is_line_blank = true,
            b'\r' => {}
            _ => *is_line_blank = false,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blank_line_is_found_however_it_is_split() {
        for text in ["a\n\nb", "a\r\n\r\nb", "a\n\r\nb", "a\r\n\nb"] {
            for split in 0..text.len() - 1 {
                let (first, second) = text.as_bytes().split_at(split);
                let mut is_line_blank = true;
                let mut found = to_blank_line(first, &mut is_line_blank);
                if found == split {
                    found += to_blank_line(second, &mut is_line_blank);
                }
                assert_eq!(&text[found..], "b", "{text:?} {split}");
            }
        }
    }
}
