//! The extensions' transforms, which run without the lock: what becomes of their output.

use drivetrain_engine::OpCode;

use super::{State, UNSEEN_WORK};
use crate::extensions::{Done, Job, Returned};

impl State {
    /// Whether transforms run as soon as the lock is released, on this thread. Poll again then.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        self.extensions.as_ref().is_some_and(|extensions| extensions.is_due())
    }

    /// Whether transforms run, or are about to.
    pub(crate) fn is_transforming(&self) -> bool {
        self.extensions.as_ref().is_some_and(|extensions| !extensions.is_idle())
    }

    /// Has due transforms run when the lock is released.
    pub(super) fn run_due(&mut self) {
        if self.is_due() {
            self.deferred.transform();
        }
    }

    /// Takes the transforms out to run them.
    pub(crate) fn take_job(&mut self) -> Option<Job> {
        self.extensions.as_mut()?.take_job()
    }

    /// The transforms have run. Readers and writers take turns: a reader that waits has the next one.
    pub(crate) fn transformed(&mut self, done: Done) {
        let Some(extensions) = &mut self.extensions else {
            return self.deferred.drop_transforms(done); // the session has ended
        };
        match extensions.put_back(done) {
            Returned::Incoming(Ok(())) => self.deferred.wake_reader(),
            Returned::Incoming(Err(error)) => {
                let _ = self.act_on(Err(error));
                self.deferred.wake_reader();
            }
            Returned::Outgoing(Ok(())) => {
                let kept_back = !extensions.has_ready();
                if let Some(resume) = extensions.resume() {
                    // A frame that an extension keeps back has cost work all the same.
                    resume.share =
                        resume.share.saturating_sub(usize::from(kept_back) * UNSEEN_WORK);
                }
                if !self.lifecycle.closing.is_writable() {
                    self.clear_ready();
                }
            }
            Returned::Outgoing(Err(error)) => self.fail(error),
            Returned::Discarded { incoming, payloads } => {
                self.deferred.drop_payloads(payloads);
                if incoming {
                    self.inbound.counted.apart(OpCode::Continuation);
                }
            }
        }
        let Some(extensions) = &mut self.extensions else { return };
        if extensions.serve_reader() {
            self.run_due();
        } else if let Some(resume) = extensions.resume().take() {
            self.pump_share(resume.write, resume.share);
            if resume.last {
                self.finish_last();
            }
        }
    }

    /// Drops transformed frames that were not sent.
    pub(super) fn clear_ready(&mut self) {
        if let Some(extensions) = &mut self.extensions {
            self.deferred.drop_payloads(extensions.clear_ready());
        }
    }
}
