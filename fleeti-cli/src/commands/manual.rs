//! `fleeti manual`: manual pages and shell completions, generated from the arguments of the command.

use crate::CommandResult;
use crate::output::{Failure, Output};
use clap_complete::Shell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Write the manual pages and the completions of bash, zsh and fish.
///
/// The folder is one like /usr/local/share: pages go to man/man1, completions to where the shells of
/// Debian look for them. The Debian package of this command has them already.
#[derive(clap::Args)]
pub struct Manual {
    /// The folder.
    folder: PathBuf,
}

/// Each shell, and the folder of its completions.
const SHELLS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash-completion/completions"),
    (Shell::Zsh, "zsh/vendor-completions"),
    (Shell::Fish, "fish/vendor_completions.d"),
];

pub fn run(manual: &Manual, output: &Output) -> CommandResult {
    let folder = &manual.folder;
    let pages = write(folder).map_err(|e| Failure::plain(format!("{}: {e}", folder.display())))?;
    let data = serde_json::json!({"folder": folder, "pages": pages});
    output.data(&data, |_| {
        format!(
            "wrote {pages} manual pages, and completions of bash, zsh and fish, to {}",
            folder.display()
        )
    });
    Ok(())
}

/// Writes all files, and returns the number of pages.
fn write(folder: &Path) -> io::Result<usize> {
    let pages = folder.join("man/man1");
    fs::create_dir_all(&pages)?;
    let command = crate::command();
    clap_mangen::generate_to(command.clone(), &pages)?;
    for (shell, at) in SHELLS {
        let at = folder.join(at);
        fs::create_dir_all(&at)?;
        let written = clap_complete::generate_to(shell, &mut command.clone(), "fleeti", &at)?;
        if shell == Shell::Bash {
            // bash-completion finds the file by the name of the command.
            fs::rename(written, at.join("fleeti"))?;
        }
    }
    Ok(fs::read_dir(pages)?.count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subcommand_has_a_page_and_each_shell_knows_them() {
        let dir = tempfile::tempdir().unwrap();
        assert!(write(dir.path()).unwrap() > 100);
        let page = |name: &str| {
            fs::read_to_string(dir.path().join("man/man1").join(format!("{name}.1"))).unwrap()
        };
        assert!(page("fleeti").contains("fleeti\\-device(1)"), "{}", page("fleeti"));
        assert!(page("fleeti-device-recovery-key").contains("audit log"));
        for (_, at) in SHELLS {
            let mut files = fs::read_dir(dir.path().join(at)).unwrap();
            let text = fs::read_to_string(files.next().unwrap().unwrap().path()).unwrap();
            assert!(text.contains("recovery-key"), "{at}");
        }
    }
}
