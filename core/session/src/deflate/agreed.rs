//! The negotiated compression parameters (RFC 7692 section 7.1): parsing and checks.

use drivetrain_engine::{Error, ErrorKind, NegotiatedExtension, Result};

/// The parameters of one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Agreed {
    pub(super) server_no_context_takeover: bool,
    pub(super) client_no_context_takeover: bool,
    pub(super) server_max_window_bits: Option<u8>,
    pub(super) client_max_window_bits: Option<u8>,
}

impl Agreed {
    /// # Errors
    /// [`ErrorKind::Protocol`] for an unknown, repeated or invalid parameter.
    pub(super) fn read(extension: &NegotiatedExtension) -> Result<Self> {
        let mut agreed = Self::default();
        for (name, value) in extension.parameters() {
            let is_new = match name {
                "server_no_context_takeover" => {
                    set_flag(name, value, &mut agreed.server_no_context_takeover)?
                }
                "client_no_context_takeover" => {
                    set_flag(name, value, &mut agreed.client_no_context_takeover)?
                }
                "server_max_window_bits" => {
                    agreed.server_max_window_bits.replace(window_bits(name, value)?).is_none()
                }
                "client_max_window_bits" => {
                    agreed.client_max_window_bits.replace(window_bits(name, value)?).is_none()
                }
                unknown => {
                    let unknown = unknown.escape_debug();
                    return Err(wrong(format!(
                        "parameter `{unknown}` is none of permessage-deflate"
                    )));
                }
            };
            if !is_new {
                return Err(wrong(format!("parameter `{name}` is given twice")));
            }
        }
        Ok(agreed)
    }

    /// What a server that wishes this answers to an offer (section 7.1): its wishes where the offer allows them, and what
    /// the offer asks for. `None` declines an offer that cannot be granted.
    pub(super) fn answer(wished: &Self, offer: &NegotiatedExtension) -> Option<Self> {
        let parameters = offer.parameters().map(|(name, value)| {
            // Without a value the client leaves the size to the server.
            let open = (name == "client_max_window_bits" && value.is_none()).then_some("15");
            (name.to_owned(), value.or(open).map(str::to_owned))
        });
        let offered = Self::read(&NegotiatedExtension::new(offer.name(), parameters)).ok()?;
        if offered.server_max_window_bits == Some(8) {
            return None; // the compressor has no window that small
        }
        let smallest =
            |wished: Option<u8>, offered: Option<u8>| wished.into_iter().chain(offered).min();
        Some(Self {
            server_no_context_takeover: wished.server_no_context_takeover
                || offered.server_no_context_takeover,
            client_no_context_takeover: wished.client_no_context_takeover
                || offered.client_no_context_takeover,
            server_max_window_bits: smallest(
                wished.server_max_window_bits,
                offered.server_max_window_bits,
            ),
            client_max_window_bits: offered
                .client_max_window_bits
                .and_then(|bits| wished.client_max_window_bits.map(|wished| wished.min(bits))),
        })
    }

    /// The parameters as they stand in an answer.
    pub(super) fn parameters(self) -> Vec<(String, Option<String>)> {
        let flag = |set: bool, name: &str| set.then(|| (name.to_owned(), None));
        let bits = |bits: Option<u8>, name: &str| Some((name.to_owned(), Some(bits?.to_string())));
        [
            flag(self.server_no_context_takeover, "server_no_context_takeover"),
            flag(self.client_no_context_takeover, "client_no_context_takeover"),
            bits(self.server_max_window_bits, "server_max_window_bits"),
            bits(self.client_max_window_bits, "client_max_window_bits"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Checks a server's answer against the client's offer.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] if the answer omits a requested restriction or takes a larger window.
    pub(super) fn check_against(&self, asked: &Self) -> Result<()> {
        if asked.server_no_context_takeover && !self.server_no_context_takeover {
            return Err(wrong("`server_no_context_takeover` was asked for and not granted".into()));
        }
        for (name, asked, granted) in [
            ("server_max_window_bits", asked.server_max_window_bits, self.server_max_window_bits),
            ("client_max_window_bits", asked.client_max_window_bits, self.client_max_window_bits),
        ] {
            if asked.zip(granted).is_some_and(|(asked, granted)| granted > asked) {
                return Err(wrong(format!("`{name}` is above the one that was offered")));
            }
        }
        if asked.server_max_window_bits.is_some() && self.server_max_window_bits.is_none() {
            return Err(wrong("`server_max_window_bits` was asked for and not granted".into()));
        }
        Ok(())
    }
}

/// Whether it was not set before.
fn set_flag(name: &str, value: Option<&str>, flag: &mut bool) -> Result<bool> {
    match value {
        None => Ok(!std::mem::replace(flag, true)),
        Some(_) => Err(wrong(format!("parameter `{name}` has a value"))),
    }
}

/// 8 to 15, in decimal, without a leading zero.
fn window_bits(name: &str, value: Option<&str>) -> Result<u8> {
    let value = value.unwrap_or_default();
    let number = value.parse().ok().filter(|bits| (8..=15).contains(bits));
    match number {
        Some(bits) if value.starts_with(|first| ('1'..='9').contains(&first)) => Ok(bits),
        _ => {
            let value = value.escape_debug();
            Err(wrong(format!("parameter `{name}` is `{value}`, which is not one of 8 to 15")))
        }
    }
}

fn wrong(what: String) -> Error {
    Error::new(ErrorKind::Protocol, format!("the server's permessage-deflate cannot be: {what}"))
}
