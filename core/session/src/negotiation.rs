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

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll};

    use drivetrain_engine::{
        Duties, MessagePart, NegotiatedExtension, RawFrame, Role, Rsv, Transform, Transport,
    };

    use super::*;

    /// An extension of this name with these offers.
    #[derive(Clone, Debug)]
    struct Named {
        name: &'static str,
        rsv: Rsv,
        offers: &'static [&'static str],
        required: bool,
        valid: bool,
    }

    const X: Named =
        Named { name: "x", rsv: Rsv::RSV1, offers: &[""], required: false, valid: true };
    const Y: Named = Named { name: "y", rsv: Rsv::RSV2, offers: &["a=1", "b"], ..X };

    impl Extension for Named {
        fn name(&self) -> &str {
            self.name
        }

        fn rsv(&self) -> Rsv {
            self.rsv
        }

        fn offers(&self) -> Vec<String> {
            self.offers.iter().map(ToString::to_string).collect()
        }

        fn is_required(&self) -> bool {
            self.required
        }

        fn check(&self) -> Result<()> {
            if self.valid { Ok(()) } else { Err(invalid("its own check".into())) }
        }

        fn accept(&self, agreed: &NegotiatedExtension, role: Role) -> Result<Box<dyn Transform>> {
            assert_eq!((agreed.name(), role), (self.name, Role::Client));
            Ok(Box::new(self.clone()))
        }
    }

    impl Transform for Named {
        fn incoming(&mut self, part: &mut MessagePart, _: usize) -> Result<bytes::Bytes> {
            Ok(std::mem::take(&mut part.payload))
        }

        fn outgoing(&mut self, _: &mut MessagePart) -> Result<()> {
            Ok(())
        }
    }

    /// A connection that is never used.
    struct Unused;

    impl Transport for Unused {
        fn poll_receive(
            &mut self,
            _: &mut Context<'_>,
            _: usize,
        ) -> Poll<Result<Option<RawFrame>>> {
            Poll::Pending
        }

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Pending
        }

        fn start_send(&mut self, _: RawFrame) -> Result<()> {
            Ok(())
        }

        fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Pending
        }

        fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Pending
        }
    }

    fn set<const N: usize>(extensions: [Named; N]) -> ExtensionSet {
        extensions.into_iter().map(|it| Arc::new(it) as Arc<dyn Extension>).collect()
    }

    #[test]
    fn extensions_that_cannot_be_offered_together_are_refused_by_name() {
        for (extensions, says) in [
            (set([X, Y]), None),
            (set([X, X]), Some("extension `x` is set twice")),
            (set([X, Y, Named { name: "z", ..Y }]), Some("extensions `y` and `z` use the same")),
            (set([X, Named { valid: false, ..Y }]), Some("its own check")),
            (set([Named { offers: &["\n"], ..X }]), Some("")),
        ] {
            match (extensions.check(), says) {
                (Ok(()), None) => {}
                (Err(error), Some(says)) => {
                    assert_eq!(error.kind(), ErrorKind::InvalidInput);
                    assert!(error.to_string().starts_with(says), "{error}");
                }
                (checked, _) => panic!("{extensions:?}: {checked:?}"),
            }
        }
    }

    #[test]
    fn each_offer_is_one_of_the_handshake_in_order() {
        assert!(set([]).is_empty() && !set([X]).is_empty());
        assert_eq!(set([X, Y]).iter().map(|it| it.name()).collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(set([]).to_string(), "none");
        let required = Named { required: true, ..Y };
        assert_eq!(set([X, required]).to_string(), "x, y; a=1, y; b (required)");
        let handshake = Handshake::new(Uri::from_static("http://localhost")).expect("valid");
        let offered = set([X, Y]).offer(handshake).expect("well-formed");
        assert_eq!(offered.offered_extensions(), ["x", "y; a=1", "y; b"]);
    }

    #[test]
    fn what_was_agreed_on_is_what_was_offered_and_has_what_is_required() {
        let agreed = |names: &[&str]| {
            let agreed = names.iter().map(|name| NegotiatedExtension::new(*name, [])).collect();
            Connection::new(Unused).with_extensions(agreed)
        };
        let both = set([X, Named { required: true, ..Y }]);
        assert!(both.negotiated(&agreed(&["y"])).expect("fits").is_some());
        assert!(set([X]).negotiated(&agreed(&[])).expect("none").is_none());
        let applying = agreed(&["y"]).with_duties(Duties::frames().applying_extensions());
        assert!(both.negotiated(&applying).expect("fits").is_none(), "by the engine");
        for names in [["x"], ["z"]] {
            let error = both.negotiated(&agreed(&names)).expect_err("y is required");
            assert_eq!(error.kind(), ErrorKind::Rejected);
            assert_eq!(error.close_code(), Some(CloseCode::MANDATORY_EXTENSION));
        }
        let error = set([X]).negotiated(&agreed(&["x", "z"])).expect_err("not offered");
        assert_eq!(error.kind(), ErrorKind::Protocol);
    }
}
