//! Faults that tests plant between the steps of a commit, to see that none of them loses a record or doubles one. They are
//! there with the feature `planted-faults` alone, which nothing that is shipped has.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::Failure;

/// A step of a commit, after which something may go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// `announced`: the window stands in the lease row.
    Announced,
    /// `part`: one more part of an object is there, which is not complete.
    Part,
    /// `put`: one more of its objects is there.
    Put,
    /// `delivered`: a sink has all of it.
    Delivered,
    /// `checkpointing`: all sinks and the dead letters have what is theirs, and the checkpoint is about to move.
    Checkpointing,
    /// `checkpointed`: the checkpoint has moved.
    Checkpointed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The process is gone at once: no destructor runs, nothing is flushed.
    Crash,
    /// The step was done, and its answer is lost.
    Error,
    Delay(Duration),
}

/// Something that goes wrong once: when a step is passed for the nth time.
///
/// As text `STEP:PASS=KIND`, such as `put:3=crash`, `announced:1=error` or `delivered:2=1500ms`, which is a delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    step: Step,
    pass: u64,
    kind: Kind,
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (place, kind) = text.split_once('=')?;
            let (step, pass) = place.split_once(':')?;
            let step = match step {
                "announced" => Step::Announced,
                "part" => Step::Part,
                "put" => Step::Put,
                "delivered" => Step::Delivered,
                "checkpointing" => Step::Checkpointing,
                "checkpointed" => Step::Checkpointed,
                _ => return None,
            };
            let kind = match kind {
                "crash" => Kind::Crash,
                "error" => Kind::Error,
                delay => Kind::Delay(Duration::from_millis(delay.strip_suffix("ms")?.parse().ok()?)),
            };
            Some(Self { step, pass: pass.parse().ok()?, kind })
        };
        read()
            .ok_or_else(|| format!("{text:?} is no fault such as put:3=crash, announced:1=error or delivered:2=1500ms"))
    }
}

/// A fault where it is planted. Clones count their passes together.
#[derive(Debug, Clone, Default)]
pub struct Planted {
    fault: Option<Fault>,
    passes: Arc<AtomicU64>,
}

impl Planted {
    /// Plants a fault, or none.
    #[must_use]
    pub fn new(fault: Option<Fault>) -> Self {
        Self { fault, passes: Arc::default() }
    }

    /// Passes a step. Not cancel safe: a pass that is dropped has counted.
    ///
    /// # Errors
    /// A transient [`Failure`], if that is what is planted here.
    pub async fn pass(&self, step: Step) -> Result<(), Failure> {
        let Some(fault) = self.fault.filter(|fault| fault.step == step) else { return Ok(()) };
        if self.passes.fetch_add(1, Ordering::Relaxed) + 1 != fault.pass {
            return Ok(());
        }
        tracing::warn!(?fault, "a planted fault");
        match fault.kind {
            Kind::Crash => std::process::abort(),
            Kind::Error => Err(Failure::transient(format!("a planted fault: {fault:?}"))),
            Kind::Delay(time) => {
                tokio::time::sleep(time).await;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_fault_happens_once_at_its_pass_of_its_step() {
        let planted = Planted::new(Some("put:2=error".parse().unwrap()));
        let clone = planted.clone();
        assert!(planted.pass(Step::Delivered).await.is_ok());
        assert!(planted.pass(Step::Put).await.is_ok());
        assert!(clone.pass(Step::Put).await.is_err());
        assert!(planted.pass(Step::Put).await.is_ok());
        assert!(Planted::default().pass(Step::Put).await.is_ok());
    }

    #[test]
    fn what_is_no_fault_is_refused() {
        for text in ["", "put", "put=crash", "put:1", "put:x=crash", "puts:1=crash", "put:1=explode", "put:1=5s"] {
            assert!(text.parse::<Fault>().unwrap_err().contains("such as"), "{text}");
        }
        let delay: Fault = "announced:7=1500ms".parse().unwrap();
        assert_eq!(delay, Fault { step: Step::Announced, pass: 7, kind: Kind::Delay(Duration::from_millis(1500)) });
    }
}
