//! The least of HPACK (RFC 7541) that reads where a request is sent to.

use std::collections::VecDeque;
use std::io;

use super::wire::invalid;

/// What a request's head says of its target.
#[derive(Debug, Default)]
pub(super) struct Target {
    pub(super) authority: Option<String>,
    pub(super) path: Option<String>,
    /// Of a field `host`.
    pub(super) host: Option<String>,
}

/// The decoder of a connection. Nothing leaves its table, as the heads of a test fit.
#[derive(Default)]
pub(super) struct Decoder {
    /// The newest first.
    table: VecDeque<(Name, Text)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Authority,
    Path,
    Host,
    Other,
}

/// The fields of the static table.
const STATIC: usize = 61;

impl Name {
    fn of_static(index: usize) -> Self {
        match index {
            1 => Self::Authority,
            4 | 5 => Self::Path,
            38 => Self::Host,
            _ => Self::Other,
        }
    }

    fn of_text(text: &Text) -> Self {
        match text.decode().as_deref() {
            Ok(":authority") => Self::Authority,
            Ok(":path") => Self::Path,
            Ok("host") => Self::Host,
            _ => Self::Other,
        }
    }
}

impl Decoder {
    /// Reads a head that came whole.
    pub(super) fn read(&mut self, head: &[u8]) -> io::Result<Target> {
        let mut target = Target::default();
        let mut rest = head;
        while let Some(&first) = rest.first() {
            let (name, value) = if first & 0x80 != 0 {
                self.indexed(integer(&mut rest, 7)?)?
            } else if first & 0xe0 == 0x20 {
                integer(&mut rest, 5)?;
                continue;
            } else {
                let is_kept = first & 0x40 != 0;
                let name = match integer(&mut rest, if is_kept { 6 } else { 4 })? {
                    0 => Name::of_text(&Text::read(&mut rest)?),
                    index => self.indexed(index)?.0,
                };
                let field = (name, Text::read(&mut rest)?);
                if is_kept {
                    self.table.push_front(field.clone());
                }
                field
            };
            let place = match name {
                Name::Authority => &mut target.authority,
                Name::Path => &mut target.path,
                Name::Host => &mut target.host,
                Name::Other => continue,
            };
            *place = Some(value.decode()?);
        }
        Ok(target)
    }

    fn indexed(&self, index: usize) -> io::Result<(Name, Text)> {
        if index <= STATIC {
            let path = if index == 5 { "/index.html" } else { "/" };
            return Ok((Name::of_static(index), Text { is_huffman: false, bytes: path.into() }));
        }
        let field = self.table.get(index - STATIC - 1);
        field.cloned().ok_or_else(|| invalid("the request's head names no field of the table"))
    }
}

/// A string as it came: most of a head needs no decoding.
#[derive(Clone, Debug)]
struct Text {
    is_huffman: bool,
    bytes: Vec<u8>,
}

/// The symbols whose codes have five, six and seven bits, in the codes' order.
const SYMBOLS: [&[u8]; 3] =
    [b"012aceiost", b" %-./3456789=A_bdfghlmnpru", b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"];

impl Text {
    fn read(rest: &mut &[u8]) -> io::Result<Self> {
        let is_huffman = rest.first().is_some_and(|first| first & 0x80 != 0);
        let length = integer(rest, 7)?;
        let (bytes, behind) = rest.split_at_checked(length).ok_or_else(cut_off)?;
        *rest = behind;
        Ok(Self { is_huffman, bytes: bytes.to_vec() })
    }

    fn decode(&self) -> io::Result<String> {
        let bytes = if self.is_huffman { self.symbols()? } else { self.bytes.clone() };
        String::from_utf8(bytes).map_err(|_| invalid("the request's head is not UTF-8"))
    }

    fn symbols(&self) -> io::Result<Vec<u8>> {
        let bit = |at: usize| {
            let byte = self.bytes.get(at / 8)?;
            Some(usize::from(byte >> (7 - at % 8) & 1))
        };
        let mut symbols = Vec::new();
        let mut at = 0;
        'symbols: loop {
            let start = at;
            let (mut code, mut least) = (0, 0);
            for (length, known) in (1_usize..).zip([&[][..]; 4].into_iter().chain(SYMBOLS)) {
                let Some(bit) = bit(start + length - 1) else {
                    // What is left is padding.
                    return Ok(symbols);
                };
                code = code << 1 | bit;
                if let Some(symbol) = known.get(code - least) {
                    symbols.push(*symbol);
                    at = start + length;
                    continue 'symbols;
                }
                least = (least + known.len()) << 1;
            }
            let rest = (start..self.bytes.len() * 8).map_while(bit);
            return match start + 8 > self.bytes.len() * 8 && rest.clone().all(|bit| bit == 1) {
                true => Ok(symbols),
                false => Err(invalid("the request's target has a character that no test needs")),
            };
        }
    }
}

/// An integer behind this many bits of a prefix (RFC 7541 section 5.1).
fn integer(rest: &mut &[u8], bits: u32) -> io::Result<usize> {
    let mut next = || {
        let (&first, behind) = rest.split_first().ok_or_else(cut_off)?;
        *rest = behind;
        Ok::<_, io::Error>(usize::from(first))
    };
    let most = (1 << bits) - 1;
    let mut value = next()? & most;
    if value < most {
        return Ok(value);
    }
    for shift in [0, 7, 14] {
        let byte = next()?;
        value += (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(invalid("the request's head has a number that is too large"))
}

fn cut_off() -> io::Error {
    invalid("the request's head is cut off")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7541 appendices C.3 and C.4.
    #[test]
    fn the_examples_of_the_rfc_are_read() {
        let plain: [&[u8]; 2] =
            [b"\x82\x86\x84\x41\x0fwww.example.com", b"\x82\x86\x84\xbe\x58\x08no-cache"];
        let coded: [&[u8]; 2] = [
            b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
            b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf",
        ];
        for heads in [plain, coded] {
            let mut decoder = Decoder::default();
            for head in heads {
                let target = decoder.read(head).expect("a head");
                assert_eq!(target.authority.as_deref(), Some("www.example.com"));
                assert_eq!((target.path.as_deref(), target.host), (Some("/"), None));
            }
        }
    }

    #[test]
    fn a_head_that_is_cut_off_is_an_error() {
        let head = b"\x82\x86\x84\x41\x0fwww.example.com";
        for length in 4..head.len() {
            assert!(Decoder::default().read(&head[..length]).is_err(), "{length}");
        }
    }
}
