//! Tokens and extension lists in headers.

use crate::connection::NegotiatedExtension;

pub(crate) const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// The only whitespace around the parts of a header (RFC 9110 section 5.6.3). Other whitespace may not even
/// stand in one: a request with such an offer would go out without it.
const WHITESPACE: [char; 2] = [' ', '\t'];

/// Reads `name; parameter=value; parameter="value", name2` (RFC 6455 section 9.1); `None` if it is not
/// well-formed. A quoted value must be a token once unquoted, so that no comma or semicolon can hide.
pub(crate) fn parse_extensions(value: &str) -> Option<Vec<NegotiatedExtension>> {
    let token = |text: &str| {
        let text = text.trim_matches(WHITESPACE);
        (!text.is_empty() && text.bytes().all(is_token)).then(|| text.to_owned())
    };
    let mut extensions = Vec::new();
    let elements = value.split(',').map(|element| element.trim_matches(WHITESPACE));
    for element in elements.filter(|element| !element.is_empty()) {
        let mut parts = element.split(';');
        let name = token(parts.next()?)?;
        let mut parameters = Vec::new();
        for part in parts {
            let parameter = match part.split_once('=') {
                None => (token(part)?, None),
                Some((name, value)) => {
                    let value = value.trim_matches(WHITESPACE);
                    let bare = value
                        .strip_prefix('"')
                        .map_or(Some(value), |inner| inner.strip_suffix('"'))?;
                    (token(name)?, Some(token(bare)?))
                }
            };
            parameters.push(parameter);
        }
        extensions.push(NegotiatedExtension::new(name, parameters));
    }
    Some(extensions)
}
