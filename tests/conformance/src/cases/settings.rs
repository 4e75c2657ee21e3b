//! `settings()`: every option, its value and its origin.

use std::time::Duration;

use drivetrain::{AppliedBy, Capability, HttpClient, HttpTimeout, SetBy, Settings, WebSockets};
use drivetrain_engine::Capability::{EnginePing, MaxFrameSize, MaxMessageSize, PluginPing};

use super::option_table::{OPTIONS, OptionRow};
use crate::{
    case::{Case, case},
    context::Context,
    failure::{Failure, Verdict},
};

const SECOND: Duration = Duration::from_secs(1);

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        case(defaults_are_listed_as_defaults),
        case(the_plugin_wins_over_the_default),
        case(the_request_wins_over_the_plugin),
        case(the_engine_wins_over_the_plugin).needs(&[PluginPing, EnginePing]),
        case(the_request_wins_over_the_engine).needs(&[PluginPing, EnginePing]),
        case(of_limits_the_smallest_wins).needs(&[MaxFrameSize, MaxMessageSize]),
        case(a_later_plugin_overrides_what_it_sets).needs(&[PluginPing]),
        case(time_limits_of_http_are_listed),
    ];
    cases.into_iter().map(|case| case.needs(&[Capability::WebSockets])).collect()
}

/// Each option has a row. What the documentation says of its default is compared with it elsewhere.
async fn defaults_are_listed_as_defaults(cx: Context) -> Verdict {
    let settings = HttpClient::new(cx.engine()).settings();
    let names = OPTIONS.iter().map(|option| option.name);
    for name in names.chain(["converter", "extensions"]) {
        let set_by = settings.get(name).map(|setting| setting.set_by);
        assert_eq!(set_by, Some(SetBy::Default), "{name}");
        assert!(settings.to_string().contains(name), "{settings}");
    }
    for (name, value) in [("max_frame_size", "16777216 bytes"), ("close_timeout", "5s")] {
        has(&settings, name, value, SetBy::Default)?;
    }
    Ok(())
}

/// And a session has the same.
async fn the_plugin_wins_over_the_default(cx: Context) -> Verdict {
    let options = || (100..).zip(offered(&cx));
    let plugin = options().fold(WebSockets::new(), |set, (i, option)| (option.on_plugin)(set, i));
    let client = cx.client_with(plugin)?;
    let session = client.web_socket(cx.echo().ws_url("/echo")).connect().await?;
    for settings in [&client.settings(), session.settings()] {
        for (i, option) in options() {
            has(settings, option.name, &(option.words)(i), SetBy::Plugin)?;
        }
    }
    Ok(())
}

/// Limits are no exception if the request's is smaller.
async fn the_request_wins_over_the_plugin(cx: Context) -> Verdict {
    let set = |plugin, option: &OptionRow| (option.on_plugin)(plugin, 200);
    let client = cx.client_with(offered(&cx).fold(WebSockets::new(), set))?;
    let options = || (100..).zip(offered(&cx));
    let request = client.web_socket(cx.echo().ws_url("/echo"));
    let request = options().fold(request, |set, (i, option)| (option.on_request)(set, i));
    let session = request.connect().await?;
    for (i, option) in options() {
        has(session.settings(), option.name, &(option.words)(i), SetBy::Request)?;
    }
    Ok(())
}

/// For the ping interval, which the session applies on the engine's behalf.
async fn the_engine_wins_over_the_plugin(cx: Context) -> Verdict {
    let client = pinging(&cx)?;
    has(&client.settings(), "ping_interval", "30s", SetBy::Engine)?;
    let applied_by = client.settings().get("ping_interval").map(|setting| setting.applied_by);
    assert_eq!(applied_by, Some(AppliedBy::Session));
    Ok(())
}

/// Also with `None`; and only for its session.
async fn the_request_wins_over_the_engine(cx: Context) -> Verdict {
    let (client, server) = (pinging(&cx)?, cx.echo());
    let request = || client.web_socket(server.ws_url("/echo"));
    let session = request().ping_interval(40 * SECOND).close_timeout(SECOND).connect().await?;
    has(session.settings(), "ping_interval", "40s", SetBy::Request)?;
    has(session.settings(), "close_timeout", "1s", SetBy::Request)?;
    let session = request().ping_interval(None).connect().await?;
    has(session.settings(), "ping_interval", "off", SetBy::Request)?;
    let session = request().connect().await?;
    has(session.settings(), "ping_interval", "30s", SetBy::Engine)
}

/// Wherever it was set.
async fn of_limits_the_smallest_wins(cx: Context) -> Verdict {
    let client = cx.client_with(WebSockets::new().max_frame_size(100).max_message_size(200))?;
    let request = client.web_socket(cx.echo().ws_url("/echo"));
    let session = request.max_frame_size(1000).max_message_size(20).connect().await?;
    has(session.settings(), "max_frame_size", "100 bytes", SetBy::Plugin)?;
    has(session.settings(), "max_message_size", "20 bytes", SetBy::Request)
}

/// Installed twice, `WebSockets` keeps what only the first one set.
async fn a_later_plugin_overrides_what_it_sets(cx: Context) -> Verdict {
    let first = WebSockets::new().ping_interval(20 * SECOND).close_timeout(SECOND);
    let builder = HttpClient::builder(cx.engine()).install(first);
    let client = builder.install(WebSockets::new().close_timeout(2 * SECOND)).build()?;
    has(&client.settings(), "ping_interval", "20s", SetBy::Plugin)?;
    has(&client.settings(), "close_timeout", "2s", SetBy::Plugin)
}

/// With those that are off.
async fn time_limits_of_http_are_listed(cx: Context) -> Verdict {
    let timeout = HttpTimeout::new().request(SECOND);
    let settings = HttpClient::builder(cx.engine()).install(timeout).build()?.settings();
    has(&settings, "request_timeout", "1s", SetBy::Plugin)?;
    has(&settings, "socket_timeout", "off", SetBy::Default)
}

/// A client whose engine and plugin have a ping interval.
fn pinging(cx: &Context) -> Verdict<HttpClient> {
    let engine = cx.engine_with_ping_interval(30 * SECOND);
    let engine = engine.ok_or_else(|| Failure::new("it offers what with_ping_interval lacks"))?;
    let plugin = WebSockets::new().ping_interval(20 * SECOND);
    Ok(HttpClient::builder(engine).install(plugin).build()?)
}

/// The options that the engine offers.
fn offered(cx: &Context) -> impl Iterator<Item = &'static OptionRow> {
    OPTIONS.iter().filter(|option| option.needs.is_none_or(|needed| cx.offers(needed)))
}

fn has(settings: &Settings, name: &str, value: &str, set_by: SetBy) -> Verdict {
    let setting = settings.get(name);
    let setting = setting.ok_or_else(|| Failure::new(format_args!("{name} is not listed")))?;
    assert_eq!((&*setting.value, setting.set_by), (value, set_by), "{name}");
    Ok(())
}
