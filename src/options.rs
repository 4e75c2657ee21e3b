//! The options of a client's sessions: which are allowed on its engine, and which are in force.

use drivetrain_engine::{Engine, Result, Role};
use drivetrain_session::{SessionConfig, SetBy, Setting, WebSockets};

use crate::capability::require;

/// Refuses options that can never work, and options that the engine does not offer, before any I/O.
pub(crate) fn check(options: &WebSockets, engine: &dyn Engine) -> Result<()> {
    options.check()?;
    options.needs().try_for_each(|capability| require(engine, capability))
}

/// The options in force of a session: the request's, then the engine's, then the plugin's.
pub(crate) fn config(
    engine: &dyn Engine,
    plugin: &WebSockets,
    request: &WebSockets,
) -> SessionConfig {
    let settings = engine.settings();
    let of_engine = WebSockets::from(&settings);
    let scopes = [(SetBy::Request, request), (SetBy::Engine, &of_engine), (SetBy::Plugin, plugin)];
    let support = |capability| engine.support(capability);
    let mut config = SessionConfig::resolve(Role::Client, engine.name(), &support, &scopes);
    config.settings.extend(settings.native.into_iter().map(Setting::from));
    config
}
