//! The halves of `docs/how-to/write-a-framing.md` and `write-a-connector.md` under the suite, combined with each other and
//! with a half of drivetrain's. The pages show parts of these files, and a test of `--test reports` compares them.

#[allow(
    unreachable_pub,
    clippy::type_complexity,
    reason = "it is a library's code, as the page shows it"
)]
mod connector;
#[allow(unreachable_pub, reason = "it is a library's code, as the page shows it")]
mod framing;

use std::{future::Future, pin::Pin, process::ExitCode, time::Duration};

use connector::Plain;
use drivetrain_conformance::{CountedStream, Deviation, Subject, run};
use drivetrain_engine::{Combined, Engine, Framing};
use drivetrain_native::NativeFraming;
use framing::TokioWebSockets;

struct OnTokio<F> {
    name: &'static str,
    framing: F,
    deviations: &'static [Deviation],
}

impl<F: Framing> OnTokio<F> {
    fn with(&self, connector: Plain) -> Combined<Plain, F> {
        Combined::new(self.name, connector, self.framing.clone())
    }
}

impl<F: Framing> Subject for OnTokio<F> {
    fn name(&self) -> &str {
        self.name
    }

    fn engine(&self) -> Box<dyn Engine> {
        Box::new(self.with(Plain::new()))
    }

    fn deviations(&self) -> &[Deviation] {
        self.deviations
    }

    fn with_ping_interval(&self, interval: Duration) -> Option<Box<dyn Engine>> {
        Some(Box::new(self.with(Plain::new()).ping_interval(interval)))
    }

    fn over(&self, stream: CountedStream) -> Option<Box<dyn Engine>> {
        Some(Box::new(self.with(Plain::over(stream))))
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        runtime.expect("a runtime").block_on(future);
    }
}

fn main() -> ExitCode {
    run(vec![
        Box::new(OnTokio { name: "plain", framing: NativeFraming::new(), deviations: &[] }),
        Box::new(OnTokio {
            name: "tokio-websockets",
            framing: TokioWebSockets,
            deviations: &[Deviation::TopBit], // its limit comes first
        }),
    ])
}
