//! The extensions set on the plugin or on one request: checked, offered, and made to transforms once the server
//! has answered.

use std::{fmt, sync::Arc};

use drivetrain_engine::{
    Capability, CloseCode, Connection, Engine, Error, ErrorKind, Extension, Handshake, Result,
};
use http::Uri;

use crate::{options::require, session};

/// The extensions of one place where options are set, or those in force.
#[derive(Clone, Default)]
pub(crate) struct Extensions(Vec<Arc<dyn Extension>>);

impl Extensions {
    pub(crate) fn push(&mut self, extension: impl Extension) {
        self.0.push(Arc::new(extension));
    }

    /// Refuses what can never work, and any extension on an engine that has none, before any I/O.
    pub(crate) fn check(&self, engine: &dyn Engine) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        require(engine, Capability::Extensions)?;
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
        // No handshake is made: it is what knows a well-formed offer.
        self.offer(Handshake::new(Uri::from_static("http://localhost"))?).map(drop)
    }

    pub(crate) fn offer(&self, mut handshake: Handshake) -> Result<Handshake> {
        for extension in &self.0 {
            for parameters in extension.offers() {
                handshake = handshake.extension(offer(&**extension, &parameters))?;
            }
        }
        Ok(handshake)
    }

    /// What the session applies: the transforms of the extensions that the server agreed to.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] if a required one is not among them, [`ErrorKind::Protocol`] if the answer is none to
    /// the offers; each with the code of the Close to send.
    pub(crate) fn negotiated(
        &self,
        connection: &Connection,
    ) -> Result<Option<session::Extensions>> {
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
        Ok(session::Extensions::new(transforms))
    }
}

impl FromIterator<Arc<dyn Extension>> for Extensions {
    fn from_iter<I: IntoIterator<Item = Arc<dyn Extension>>>(extensions: I) -> Self {
        Self(extensions.into_iter().collect())
    }
}

/// As the table of options shows them: what is offered, and what is required.
impl fmt::Display for Extensions {
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

impl fmt::Debug for Extensions {
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
