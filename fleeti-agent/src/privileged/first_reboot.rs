//! The additional reboot before a version is armed.

use super::Response;
use crate::console;
use anyhow::{Result, ensure};
use fleeti_core::update::FailureCode;
use futures::FutureExt;
use futures::future::BoxFuture;
use std::mem;
use std::time::Duration;
use tokio::sync::watch;

/// Time limit for a requested reboot.
const REBOOTS_WITHIN: Duration = Duration::from_secs(600);
/// Time between the response that a reboot is needed and the reboot.
const REPORTED_WITHIN: Duration = Duration::from_secs(5);
const NEEDED: &str =
    "the data partition is not yet sealed to the next key of PCR 11, which needs a reboot";

/// The state of the reboot.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    /// Not requested.
    NotAsked,
    /// The running version is about to boot again.
    Coming,
    /// The reboot failed, which is not reported yet: the reason.
    Failed(String),
}

/// Reboots the running version, so that its next boot seals the data partition.
pub struct FirstReboot {
    stage: watch::Sender<Stage>,
    reboot: Box<dyn Fn() -> BoxFuture<'static, Result<()>> + Send + Sync>,
    say: fn(&str),
    reported_within: Duration,
    reboots_within: Duration,
}

impl FirstReboot {
    /// A reboot by systemd, announced on the console.
    pub fn by_systemd() -> Self {
        Self {
            stage: watch::Sender::new(Stage::NotAsked),
            reboot: Box::new(|| reboot().boxed()),
            say: console::say,
            reported_within: REPORTED_WITHIN,
            reboots_within: REBOOTS_WITHIN,
        }
    }

    /// Requests the reboot. The daemon gets one response, so that the server learns the reason, and
    /// none after that: responses before the reboot would count as failures of the version. If the
    /// reboot fails, the next response says so, and the daemon may request it again.
    pub async fn ask(&self) -> Response {
        let mut before = Stage::Coming;
        self.stage.send_modify(|stage| before = mem::replace(stage, Stage::Coming));
        let detail = match before {
            Stage::NotAsked => {
                self.begin();
                NEEDED.to_owned()
            }
            Stage::Failed(why) => {
                self.begin();
                format!("{NEEDED}; the last attempt failed: {why}")
            }
            Stage::Coming => {
                let mut stage = self.stage.subscribe();
                let ended = stage.wait_for(|stage| *stage != Stage::Coming).await;
                match ended.map(|stage| stage.clone()) {
                    Ok(Stage::Failed(why)) => format!("{NEEDED}; it failed: {why}"),
                    Ok(Stage::NotAsked | Stage::Coming) | Err(_) => NEEDED.to_owned(),
                }
            }
        };
        Response::Failed { code: FailureCode::ArmFailed, detail }
    }

    fn begin(&self) {
        (self.say)(
            "fleeti: before the update, a reboot seals the data partition to the key that signs PCR 11 of the next image",
        );
        let (stage, say, reboot) = (self.stage.clone(), self.say, (self.reboot)());
        let (reported_within, reboots_within) = (self.reported_within, self.reboots_within);
        tokio::spawn(async move {
            tokio::time::sleep(reported_within).await;
            let why = match reboot.await {
                Ok(()) => {
                    tokio::time::sleep(reboots_within).await;
                    format!("no reboot within {} s", reboots_within.as_secs())
                }
                Err(e) => format!("{e:#}"),
            };
            tracing::error!("the reboot before the update: {why}");
            say(&format!("fleeti: the reboot before the update failed: {why}"));
            stage.send_replace(Stage::Failed(why));
        });
    }
}

/// Makes systemd reboot. The daemon has waited for programs that block shutdowns as long as the
/// policy of its fleet says: systemd does not wait for them again.
///
/// # Errors
/// If systemd refuses.
pub async fn reboot() -> Result<()> {
    let status = tokio::process::Command::new("/usr/bin/systemctl")
        .args(["--no-block", "--check-inhibitors=no", "reboot"])
        .status()
        .await?;
    ensure!(status.success(), "systemctl reboot: {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};
    use tokio::sync::Semaphore;

    static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

    fn detail(response: Response) -> String {
        match response {
            Response::Failed { code: FailureCode::ArmFailed, detail } => detail,
            other => panic!("{other:?}"),
        }
    }

    /// All cases in one test: the process has one list of console lines.
    #[tokio::test]
    async fn a_reboot_that_fails_is_reported_and_the_next_request_tries_it_again() {
        let (tries, may_end) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let (counted, waited) = (Arc::clone(&tries), Arc::clone(&may_end));
        let reboot = move || {
            let may_end = Arc::clone(&waited);
            let n = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                may_end.acquire().await?.forget();
                // systemd accepts the third request, but does not reboot.
                ensure!(n >= 2, "systemctl reboot: exit status: {n}");
                Ok(())
            }
            .boxed()
        };
        let first = FirstReboot {
            stage: watch::Sender::new(Stage::NotAsked),
            reboot: Box::new(reboot),
            say: |line| SAID.lock().unwrap().push(line.to_owned()),
            reported_within: Duration::ZERO,
            reboots_within: Duration::ZERO,
        };
        assert_eq!(detail(first.ask().await), NEEDED);
        // A request before the reboot gets no response until the reboot has failed.
        let mut second = Box::pin(first.ask());
        assert!(futures::poll!(&mut second).is_pending());
        may_end.add_permits(1);
        assert_eq!(
            detail(second.await),
            format!("{NEEDED}; it failed: systemctl reboot: exit status: 0")
        );
        assert_eq!(tries.load(Ordering::SeqCst), 1, "asked for once, tried once");
        // The next request starts another attempt.
        assert_eq!(
            detail(first.ask().await),
            format!("{NEEDED}; the last attempt failed: systemctl reboot: exit status: 0")
        );
        may_end.add_permits(1);
        assert!(detail(first.ask().await).ends_with("it failed: systemctl reboot: exit status: 1"));
        // A request that systemd accepts but does not fulfil is the same attempt.
        assert!(detail(first.ask().await).ends_with("exit status: 1"));
        may_end.add_permits(1);
        assert!(detail(first.ask().await).ends_with("it failed: no reboot within 0 s"));
        assert_eq!(tries.load(Ordering::SeqCst), 3);
        let said = SAID.lock().unwrap();
        assert_eq!(
            said.iter().filter(|line| line.contains("before the update, a reboot seals")).count(),
            3,
            "once for each: {said:?}"
        );
        assert_eq!(said.iter().filter(|line| line.contains("failed: ")).count(), 3, "{said:?}");
    }
}
