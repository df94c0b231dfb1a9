use fleeti_testkit::{qemu::*, vm::*};
use std::path::Path;
use std::time::Duration;
fn main() -> anyhow::Result<()> {
    let cache = fleeti_build::cache::Cache::discover()?;
    let tree = Tree::qemu(&cache)?;
    let a: Vec<String> = std::env::args().collect();
    let accelerator = Accelerator::probe(&tree);
    eprintln!("{accelerator:?}");
    std::fs::create_dir_all(&a[1])?;
    let m = Machine { dir: Path::new(&a[1]), disk: Path::new(&a[2]), public: Path::new(&a[3]), smbios: None, accelerator };
    let vm = Vm::start(&tree, &m)?;
    println!("{:?} at {:?}", vm.wait_for(&a[4], 0, Duration::from_secs(240)), vm.elapsed());
    Ok(())
}
