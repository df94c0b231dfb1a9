//! The steps of a scenario with their evidence, printed as they run and written to `demo.json`.

use anyhow::Result;
use serde::Serialize;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Content of `demo.json`.
#[derive(Debug, Serialize)]
pub struct Scenario {
    schema: u32,
    started_s: u64,
    ok: bool,
    seconds: f64,
    steps: Vec<Step>,
    #[serde(skip)]
    clock: Option<Instant>,
}

#[derive(Debug, Serialize)]
struct Step {
    name: String,
    ok: bool,
    seconds: f64,
    evidence: Vec<String>,
}

impl Scenario {
    /// Starts a scenario.
    #[must_use]
    pub fn begin() -> Self {
        let started_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        Self {
            schema: 1,
            started_s,
            ok: true,
            seconds: 0.0,
            steps: vec![],
            clock: Some(Instant::now()),
        }
    }

    /// Runs one step, which adds lines of evidence.
    ///
    /// # Errors
    /// The error of the step.
    pub fn step<T>(
        &mut self,
        name: &str,
        run: impl FnOnce(&mut Vec<String>) -> Result<T>,
    ) -> Result<T> {
        println!("==> {name}");
        let started = Instant::now();
        let mut evidence = Vec::new();
        let result = run(&mut evidence);
        let seconds = (started.elapsed().as_secs_f64() * 100.0).round() / 100.0;
        if let Err(e) = &result {
            evidence.push(format!("{e:#}"));
            self.ok = false;
        }
        for line in &evidence {
            println!("    {line}");
        }
        println!("    {} after {seconds:.1} s", if result.is_ok() { "ok" } else { "FAILED" });
        self.steps.push(Step { name: name.to_owned(), ok: result.is_ok(), seconds, evidence });
        result
    }

    /// Writes `demo.json`.
    ///
    /// # Errors
    /// I/O.
    pub fn write(&mut self, path: &Path) -> Result<()> {
        self.seconds =
            self.clock.map_or(0.0, |c| (c.elapsed().as_secs_f64() * 10.0).round() / 10.0);
        Ok(std::fs::write(path, serde_json::to_vec_pretty(self)?)?)
    }

    /// Seconds since the start.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.clock.map_or(0.0, |c| c.elapsed().as_secs_f64())
    }
}
