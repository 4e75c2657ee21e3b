//! Servers that ping every 200 ms and drop who does not answer.

use std::time::Duration;

use drivetrain::WebSockets;

use crate::site::{Site, Verdict, close, echo, ensure, scenarios};

scenarios!(EVERY:
    pings_of_the_server_are_answered ["ws:/echo"],
    pings_of_both_sides_are_answered ["ws:/echo"],
);

async fn pings_of_the_server_are_answered(site: &Site) -> Verdict {
    survive(site, WebSockets::new()).await
}

async fn pings_of_both_sides_are_answered(site: &Site) -> Verdict {
    let plugin = WebSockets::new().ping_interval(Duration::from_millis(150));
    survive(site, plugin.ping_timeout(Duration::from_secs(10))).await
}

/// It is enough if it survives once: a machine may stand still for longer than the server is patient.
async fn survive(site: &Site, plugin: WebSockets) -> Verdict {
    for _ in 1..5 {
        if survives(site, plugin.clone()).await.is_ok() {
            return Ok(());
        }
    }
    survives(site, plugin).await
}

/// Longer than the server's patience, with and without somebody who receives.
async fn survives(site: &Site, plugin: WebSockets) -> Verdict {
    let url = site.pinging("/echo")?;
    let mut session = site.with(plugin)?.web_socket(url).connect().await?;
    site.sleep(Duration::from_millis(2500)).await;
    echo(&mut session, "still here").await?;
    let received = site.within(Duration::from_millis(2500), session.receive()).await;
    ensure(received.is_err(), format!("something came: {received:?}"))?;
    echo(&mut session, "and here").await?;
    close(site, &mut session).await?;
    Ok(())
}
