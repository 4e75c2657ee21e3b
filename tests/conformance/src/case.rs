//! One case: a behaviour and its requirements.

use std::{any, fmt, future::Future, time::Duration};

use drivetrain_engine::Capability;
use futures_util::{FutureExt as _, future::BoxFuture};

use crate::{context::Context, failure::Verdict};

/// Time after which a case counts as hanging. Above the sum of what a case waits for one after the other.
const LIMIT: Duration = Duration::from_secs(300);

/// One behaviour and its check.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) needs: Vec<Capability>,
    /// Time limit of the watchdog.
    pub(crate) limit: Duration,
    /// Whether the case needs a transport of frames.
    pub(crate) frames: bool,
    /// Whether the case runs alone.
    pub(crate) alone: bool,
    run: Box<dyn Fn(Context) -> BoxFuture<'static, Verdict> + Send + Sync>,
}

/// A case that a function checks, named `topic::function`. A closure needs a
/// [name](Case::named).
pub(crate) fn case<F, R>(run: F) -> Case
where
    F: Fn(Context) -> R + Send + Sync + 'static,
    R: Future<Output = Verdict> + Send + 'static,
{
    let path = any::type_name::<F>();
    Case {
        name: path.rsplit("cases::").next().unwrap_or(path).to_owned(),
        needs: Vec::new(),
        limit: LIMIT,
        frames: false,
        alone: false,
        run: Box::new(move |cx| run(cx).boxed()),
    }
}

impl Case {
    /// Renames the case.
    pub(crate) fn named(mut self, topic: &str, name: impl fmt::Display) -> Self {
        self.name = format!("{topic}::{name}");
        self
    }

    /// Requires these capabilities. On an engine without them, the case checks the refusal instead.
    pub(crate) fn needs(mut self, capabilities: &[Capability]) -> Self {
        self.needs.extend_from_slice(capabilities);
        self
    }

    /// Requires frames as the [`unit`](drivetrain_engine::Duties::unit). On an engine of whole messages, the case
    /// checks that a message arrives as one.
    pub(crate) fn needs_frames(mut self) -> Self {
        self.frames = true;
        self
    }

    /// Runs the case alone in this process, for measurements of the process.
    pub(crate) fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    pub(crate) fn run(&self, cx: Context) -> BoxFuture<'static, Verdict> {
        (self.run)(cx)
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).finish_non_exhaustive()
    }
}
