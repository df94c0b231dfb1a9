//! Commands that run in the background: their output goes to a file and is printed when they end.

use crate::{for_once, root, target};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// A background command. It is killed when this is dropped.
pub struct Aside {
    title: String,
    child: Child,
    log: PathBuf,
    started: Instant,
}

/// Starts a command; its output goes to `target/aside/NAME.log`.
pub fn start(name: &str, title: &str, command: &mut Command) -> Result<Aside> {
    let folder = target().join("aside");
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{name}.log"));
    let log = fs::File::create(&path)?;
    println!("==> aside: {title} ({})", path.display());
    let command = for_once(command)
        .current_dir(root())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    let child = command.spawn().with_context(|| title.to_owned())?;
    Ok(Aside { title: title.to_owned(), child, log: path, started: Instant::now() })
}

impl Aside {
    /// Waits for the command to end, and returns its output.
    pub fn finish(mut self) -> Result<String> {
        let status = self.child.wait()?;
        let output = String::from_utf8_lossy(&fs::read(&self.log)?).into_owned();
        if !status.success() {
            bail!("{} failed: {status}\n{output}", self.title);
        }
        println!(
            "    aside: {} ok after {:.1} s at most",
            self.title,
            self.started.elapsed().as_secs_f64()
        );
        Ok(output)
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
