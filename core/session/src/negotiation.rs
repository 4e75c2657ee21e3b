//! The extensions that one scope sets: checks, offers, and the transforms of those that were agreed on.

use std::{fmt, sync::Arc};

use drivetrain_engine::{CloseCode, Connection, Error, ErrorKind, Extension, Handshake, Result};
use http::Uri;

use super::extensions::Extensions;

/// The extensions that this end offers or may agree to, in the order of preference.
#[derive(Clone, Default)]
pub struct ExtensionSet(Vec<Arc<dyn Extension>>);

impl ExtensionSet {
    pub(super) fn push(&mut self, extension: impl Extension) {
        self.0.push(Arc::new(extension));
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The extensions, in the order of preference.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Extension>> {
        self.0.iter()
    }

    /// Refuses extensions that can never work.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`]: an extension's own check, the same extension twice, two that use the same
    /// reserved bit, or an offer that is not well-formed.
    pub fn check(&self) -> Result<()> {
        for (i, extension) in self.0.iter().enumerate() {
            extension.check()?;
            let name = extension.name();
            for before in &self.0[..i] {
                if before.name() == name {
                    return Err(invalid(format!("extension `{name}` is set twice")));
                }
                if before.rsv().intersects(extension.rsv()) {
                    let before = before.name();
                    return Err(invalid(format!(
                        "extensions `{before}` and `{name}` use the same reserved bit: set one of them"
                    )));
                }
            }
        }
        // This handshake is never sent: it checks that the offers are well-formed.
        self.offer(Handshake::new(Uri::from_static("http://localhost"))?).map(drop)
    }

    /// Adds the offers to a client's handshake.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for an offer that is not well-formed.
    pub fn offer(&self, mut handshake: Handshake) -> Result<Handshake> {
        for extension in &self.0 {
            for parameters in extension.offers() {
                handshake = handshake.extension(offer(&**extension, &parameters))?;
            }
        }
        Ok(handshake)
    }

    /// The transforms of the extensions that were agreed on, for the session to apply.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] if a required extension was not agreed on, [`ErrorKind::Protocol`] if the answer does
    /// not fit the offers; each with the code of the Close to send.
    pub fn negotiated(&self, connection: &Connection) -> Result<Option<Extensions>> {
        let agreed = connection.extensions();
        for extension in self.0.iter().filter(|extension| extension.is_required()) {
            if !agreed.iter().any(|agreed| agreed.name() == extension.name()) {
                let message = format!(
                    "the server did not agree to extension `{}`, which is required",
                    extension.name()
                );
                let error = Error::new(ErrorKind::Rejected, message);
                return Err(error.with_close_code(CloseCode::MANDATORY_EXTENSION));
            }
        }
        if connection.duties().applies_extensions {
            return Ok(None);
        }
        let mut transforms = Vec::new();
        for agreed in agreed {
            let known = self.0.iter().find(|extension| extension.name() == agreed.name());
            let Some(extension) = known else {
                let message = format!("extension `{}` was not offered", agreed.name());
                return Err(Error::new(ErrorKind::Protocol, message));
            };
            transforms.push((extension.rsv(), extension.accept(agreed, connection.role())?));
        }
        Ok(Extensions::new(transforms))
    }
}

impl FromIterator<Arc<dyn Extension>> for ExtensionSet {
    fn from_iter<I: IntoIterator<Item = Arc<dyn Extension>>>(extensions: I) -> Self {
        Self(extensions.into_iter().collect())
    }
}

/// The offers as in `settings()`, with a mark for those that are required.
impl fmt::Display for ExtensionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (i, extension) in self.0.iter().enumerate() {
            let offers = extension.offers();
            let offers: Vec<_> = offers.iter().map(|o| offer(&**extension, o)).collect();
            let between = if i == 0 { "" } else { ", " };
            let required = if extension.is_required() { " (required)" } else { "" };
            write!(f, "{between}{}{required}", offers.join(", "))?;
        }
        Ok(())
    }
}

impl fmt::Debug for ExtensionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

fn offer(extension: &dyn Extension, parameters: &str) -> String {
    match parameters {
        "" => extension.name().to_owned(),
        parameters => format!("{}; {parameters}", extension.name()),
    }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}
