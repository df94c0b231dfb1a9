//! Plans a rollout in waves, and shows which devices begin.
//!
//!     cargo xtask example plan_rollout

use anyhow::Result;
use fleeti_core::id::DeviceId;
use fleeti_core::rollout::cohort::cohort;
use fleeti_core::rollout::plan::{Plan, Start, Wave};

fn main() -> Result<()> {
    let wave = |size: &str| {
        anyhow::Ok(Wave { size: size.parse()?, start: Start::AfterSuccess, soak_s: 3600 })
    };
    let plan = Plan::of(vec![wave("1")?, wave("10%")?, wave("100%")?]);
    plan.check()?;
    let mut devices: Vec<DeviceId> =
        (0..40).map(|n| format!("lobby-{n}").parse()).collect::<Result<_, _>>()?;
    devices.sort_by_key(|device| cohort("rollout-1", device));
    for wave in &plan.waves {
        println!("until {} of the devices run it, then {} s", wave.size, wave.soak_s);
    }
    println!("{} is the first of {}", devices[0], devices.len());
    Ok(())
}
