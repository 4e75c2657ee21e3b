//! Common assertions about sessions and errors.

use drivetrain::{Error, ErrorKind, Frame, Outcome, Result, Session};

use crate::failure::{Failure, Verdict};

/// The error of an operation that must fail with this kind.
#[track_caller]
pub(crate) fn fails<T>(result: Result<T>, kind: ErrorKind) -> Verdict<Error> {
    match result {
        Err(error) if error.kind() == kind => Ok(error),
        Err(error) => Err(Failure::new(format_args!("{kind:?} was expected: {error:?}"))),
        Ok(_) => Err(Failure::new(format_args!("{kind:?} was expected, and it worked"))),
    }
}

/// The next message.
pub(crate) async fn message(session: &mut Session) -> Verdict<Frame> {
    let frame = session.receive().await?;
    frame.ok_or_else(|| Failure::new("a message was expected, and the session has ended"))
}

/// The next message, which must be text.
pub(crate) async fn text(session: &mut Session) -> Verdict<String> {
    let frame = message(session).await?;
    let text = frame.read_text().map(str::to_owned);
    text.ok_or_else(|| Failure::new(format_args!("text was expected: {frame:?}")))
}

/// Sends a message and expects its echo.
pub(crate) async fn echoes(session: &mut Session, frame: impl Into<Frame>) -> Verdict {
    let frame = frame.into();
    session.send(frame.clone()).await?;
    let back = message(session).await?;
    if back != frame {
        return Err(Failure::new(format_args!("{frame:?} was echoed as {back:?} or changed")));
    }
    Ok(())
}

/// Expects a clean end, also on repeated calls.
pub(crate) async fn ends_cleanly(session: &mut Session) -> Verdict<Outcome> {
    for _ in 0..3 {
        if let Some(frame) = session.receive().await? {
            return Err(Failure::new(format_args!("the end was expected: {frame:?}")));
        }
    }
    let refused = fails(session.send("late").await, ErrorKind::Closed)?;
    let outcome = session.outcome();
    assert!(refused.outcome().is_some_and(|seen| seen.clean), "{refused:?}");
    assert!(outcome.clean && outcome.error.is_none(), "{outcome:?}");
    Ok(outcome)
}

/// Expects an end with this error, also on repeated calls, in both directions.
pub(crate) async fn ends_with(session: &mut Session, kind: ErrorKind) -> Verdict<Outcome> {
    for _ in 0..3 {
        let error = fails(session.receive().await, kind)?;
        assert!(error.outcome().is_some_and(|outcome| !outcome.clean), "{error:?}");
    }
    fails(session.send("late").await, kind)?;
    let outcome = session.outcome();
    assert!(!outcome.clean, "{outcome:?}");
    assert_eq!(outcome.error.as_ref().map(Error::kind), Some(kind));
    Ok(outcome)
}

/// The code and text of a Close, if any.
pub(crate) fn reason(close: &Option<drivetrain::CloseReason>) -> Option<(u16, &str)> {
    close.as_ref().map(|reason| (reason.code().into(), reason.text()))
}
