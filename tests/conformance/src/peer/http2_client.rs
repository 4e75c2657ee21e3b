//! The client's side of HTTP/2 (RFC 9113), as far as a WebSocket needs it (RFC 8441): one stream, frame by frame.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::client::masked;
use super::http2::{ALLOWED, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, SETTINGS};
use super::wire::{WireFrame, invalid};

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const ACK: u8 = 1;
const PING: u8 = 6;
/// The one stream.
const STREAM: u32 = 1;
/// How long a read or a write may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection with one stream. Blocking; each read and write fails after 20 s.
pub struct Http2Client {
    socket: TcpStream,
    /// What came on the stream.
    input: Vec<u8>,
    ended: bool,
}

impl Http2Client {
    /// A connection whose server has said that it takes extended CONNECT.
    ///
    /// # Errors
    /// Those of the socket, and `InvalidData` if the server does not say so.
    pub fn dial(server: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect_timeout(&server, PATIENCE)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let mut client = Self { socket, input: Vec::new(), ended: false };
        client.socket.write_all(PREFACE)?;
        client.write(SETTINGS, 0, 0, &[])?;
        let (kind, flags, _, settings) = client.read()?;
        let is_allowed = settings.chunks(6).any(|setting| setting == ALLOWED);
        if kind != SETTINGS || flags & ACK != 0 || !is_allowed {
            return Err(invalid("the server's settings do not allow extended CONNECT"));
        }
        client.write(SETTINGS, ACK, 0, &[])?;
        Ok(client)
    }

    /// Sends a request with these fields, pseudo-headers first, and reads the status of the answer.
    ///
    /// # Errors
    /// Those of the socket, and `InvalidData` for an answer that this client cannot read.
    pub fn ask(&mut self, fields: &[(&str, &str)]) -> io::Result<u16> {
        let mut block = Vec::new();
        for (name, value) in fields {
            // A literal without indexing, with a new name, both without Huffman's code.
            block.push(0);
            for text in [name, value] {
                let length = u8::try_from(text.len()).ok().filter(|length| *length < 127);
                block.push(length.ok_or_else(|| invalid("a field is too long for this client"))?);
                block.extend_from_slice(text.as_bytes());
            }
        }
        self.write(HEADERS, END_HEADERS, STREAM, &block)?;
        loop {
            let (kind, flags, stream, payload) = self.next()?;
            if kind == HEADERS && stream == STREAM {
                self.ended |= flags & END_STREAM != 0;
                return status(&payload).ok_or_else(|| invalid("the answer has no status"));
            }
        }
    }

    /// Sends a masked frame.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn send(&mut self, frame: &WireFrame) -> io::Result<()> {
        self.send_bytes(&masked(frame))
    }

    /// Sends bytes as they are, in one frame of HTTP/2.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write(DATA, 0, STREAM, bytes)
    }

    /// The next frame; `None` at the end of the stream.
    ///
    /// # Errors
    /// `InvalidData` for a masked frame, `ConnectionReset` if the stream is reset, and those of the socket.
    pub fn receive(&mut self) -> io::Result<Option<WireFrame>> {
        loop {
            if let Some((frame, length)) = WireFrame::decode(&self.input)? {
                self.input.drain(..length);
                return match frame.masked {
                    true => Err(invalid("a server does not mask (RFC 6455 section 5.1)")),
                    false => Ok(Some(frame)),
                };
            }
            if self.ended {
                return Ok(None);
            }
            let (kind, flags, stream, payload) = self.next()?;
            if kind == DATA && stream == STREAM {
                self.input.extend(payload);
                self.ended |= flags & END_STREAM != 0;
            }
        }
    }

    /// Ends the sending direction of the stream.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn end(&mut self) -> io::Result<()> {
        self.write(DATA, END_STREAM, STREAM, &[])
    }

    /// The next frame that is not about the connection.
    fn next(&mut self) -> io::Result<(u8, u8, u32, Vec<u8>)> {
        loop {
            let (kind, flags, stream, payload) = self.read()?;
            match kind {
                PING if flags & ACK == 0 => self.write(PING, ACK, 0, &payload)?,
                RST_STREAM => {
                    return Err(io::Error::new(io::ErrorKind::ConnectionReset, "a reset stream"));
                }
                GOAWAY if payload.get(4..8).is_none_or(|code| code != [0; 4]) => {
                    return Err(invalid(format!("the server gives up: {payload:?}")));
                }
                _ => return Ok((kind, flags, stream, payload)),
            }
        }
    }

    fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).map_err(|_| invalid("a long frame"))?;
        let mut frame = length.to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend_from_slice(payload);
        self.socket.write_all(&frame)
    }

    fn read(&mut self) -> io::Result<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.socket.read_exact(&mut head)?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.socket.read_exact(&mut payload)?;
        Ok((kind, flags, u32::from_be_bytes(stream) & 0x7fff_ffff, payload))
    }
}

/// `:status` as the first field of a block: indexed in HPACK's static table (RFC 7541 appendix A), or literal.
fn status(block: &[u8]) -> Option<u16> {
    // A change of the table's size may come first.
    let begin = block.iter().position(|byte| byte & 0xe0 != 0x20)?;
    let block = &block[begin..];
    let first = *block.first()?;
    if first & 0x80 != 0 {
        let known = [200, 204, 206, 304, 400, 404, 500];
        return known.get(usize::from(first & 0x7f).checked_sub(8)?).copied();
    }
    // A literal whose name is one of the table's entries for `:status`.
    let name = if first & 0x40 != 0 { first & 0x3f } else { first & 0x0f };
    let length = *block.get(1).filter(|_| (8..=14).contains(&name))?;
    let value = block.get(2..2 + usize::from(length & 0x7f))?;
    let digits = match length & 0x80 {
        0 => value.to_vec(),
        _ => digits(value)?,
    };
    std::str::from_utf8(&digits).ok()?.parse().ok()
}

/// Three digits in Huffman's code (RFC 7541 appendix B): 5 bits for 0 to 2, 6 for the others.
fn digits(coded: &[u8]) -> Option<Vec<u8>> {
    let mut bits = coded.iter().flat_map(|byte| (0..8).rev().map(move |bit| (byte >> bit) & 1));
    let mut digits = Vec::new();
    while digits.len() < 3 {
        let mut code = 0;
        for _ in 0..5 {
            code = (code << 1) | bits.next()?;
        }
        digits.push(match code {
            0..=2 => b'0' + code,
            _ => match (code << 1) | bits.next()? {
                code @ 0b01_1001..=0b01_1111 => b'3' + (code - 0b01_1001),
                _ => return None,
            },
        });
    }
    Some(digits)
}

impl fmt::Debug for Http2Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2Client")
            .field("unread", &self.input.len())
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_in_every_form() {
        assert_eq!(status(&[0x88, 0x76]), Some(200));
        assert_eq!(status(&[0x20, 0x8c]), Some(400));
        assert_eq!(status(b"\x48\x03421"), Some(421));
        assert_eq!(status(b"\x08\x03101\x00"), Some(101));
        // RFC 7541 appendix C.6: 302 and 307 in Huffman's code.
        assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), Some(302));
        assert_eq!(status(&[0x48, 0x83, 0x64, 0x0e, 0xff]), Some(307));
        assert_eq!(status(&[0x40, 0x83, 0x64, 0x0e, 0xff]), None);
        assert_eq!(status(&[]), None);
    }
}
