//! One case: a behaviour, and what it needs.

use std::{any, fmt, future::Future, time::Duration};

use drivetrain_engine::Capability;
use futures_util::{FutureExt as _, future::BoxFuture};

use crate::{context::Context, failure::Verdict};

/// A case that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// One behaviour, and how it is checked.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) needs: Vec<Capability>,
    /// When the watchdog calls it hanging.
    pub(crate) limit: Duration,
    run: Box<dyn Fn(Context) -> BoxFuture<'static, Verdict> + Send + Sync>,
}

/// The case that a function checks, named `topic::function` after it. A closure's is to be
/// [`named`](Case::named).
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
        run: Box::new(move |cx| run(cx).boxed()),
    }
}

impl Case {
    /// The same under another name.
    pub(crate) fn named(mut self, topic: &str, name: impl fmt::Display) -> Self {
        self.name = format!("{topic}::{name}");
        self
    }

    /// The same, for engines that offer these; on others its negative is checked in its place.
    pub(crate) fn needs(mut self, capabilities: &[Capability]) -> Self {
        self.needs.extend_from_slice(capabilities);
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
