//! Keys of people, and who may do what with them.

use crate::CommandResult;
use crate::output::{Failure, Lines, Output};
use clap::{Subcommand, ValueEnum};
use fleeti_pki::approval::{Approver, Policy};
use fleeti_pki::hierarchy::purpose;
use fleeti_pki::manifest::{PublicKey, ReleaseKeys};
use fleeti_pki::openpgp::{self, OpenPgpKey};
use fleeti_pki::signer::token::{TokenKey, TokenUri};
use fleeti_pki::signer::{Algorithm, Signer, SoftKey, key_id, keyfile};
use serde_json::json;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// What to do with keys of people.
#[derive(Subcommand)]
pub enum Command {
    /// Make a release key of a person: sealed in KEY, its public half beside it as KEY's name with
    /// `.pem`.
    ReleaseKey {
        /// As in `alice.key`; must not exist.
        key: PathBuf,
        #[command(flatten)]
        passphrase: Passphrase,
    },
    /// Make a key by which a person agrees that a server's keys sign a release; its public half
    /// beside it with `.pem`.
    ApproverKey {
        /// As in `alice.key`; must not exist.
        key: PathBuf,
        #[command(flatten)]
        passphrase: Passphrase,
    },
    /// Make a key that signs what register 11 holds under a kernel image, so that it opens what
    /// devices sealed; its public half beside it with `.pem`.
    ///
    /// `fleeti pki init` makes one. Elsewhere: KEY is offline/pcr.key, and its public half goes to
    /// public/pcr.pem before an image is built.
    PcrKey {
        /// As in `offline/pcr.key`; must not exist.
        key: PathBuf,
        #[command(flatten)]
        passphrase: Passphrase,
    },
    /// Make a key in a token (PKCS#11), from which it cannot be taken. KEY holds its name there,
    /// and stands wherever a key file is asked for.
    ///
    /// The object is called after its purpose, as in `release-alice` or `device-ca`:
    ///   fleeti pki token-key alice.key --algorithm p384 \
    ///     --uri 'pkcs11:token=alice;object=release-alice?module-path=/usr/lib/softhsm/libsofthsm2.so'
    /// The PIN is asked for like a passphrase; `pin-source=file:/PATH` in the URI names a file that
    /// holds it.
    #[command(verbatim_doc_comment)]
    TokenKey {
        /// Where the name of the key is written; must not exist.
        key: PathBuf,
        /// Which token, and how the object is called (RFC 7512).
        #[arg(long)]
        uri: String,
        /// Kind of key.
        #[arg(long, value_enum, default_value_t = Kind::P384)]
        algorithm: Kind,
        #[command(flatten)]
        passphrase: Passphrase,
    },
    /// Show or change who may sign releases, and how many of them must.
    ///
    /// This is `release.pem` of a `public` folder. It goes into images when they are built, so a
    /// device trusts a new key from its next update on: add the new key, update every device by the
    /// old ones, then remove the old key.
    ReleaseKeys {
        /// The `public` folder.
        public: PathBuf,
        /// Public keys to add.
        #[arg(long)]
        add: Vec<PathBuf>,
        /// Ids of keys to remove.
        #[arg(long)]
        remove: Vec<String>,
        /// How many must sign.
        #[arg(long)]
        threshold: Option<usize>,
    },
    /// Make a key that signs `SHA256SUMS`; its keyring beside it as KEY's name with `.gpg`.
    OpenpgpKey {
        /// As in `openpgp-2.key`; must not exist.
        key: PathBuf,
        #[command(flatten)]
        passphrase: Passphrase,
    },
    /// Show or change which keys `SHA256SUMS` may be signed by: `openpgp.gpg` of a `public` folder.
    ///
    /// systemd-sysupdate refuses a signature by a key that its image does not have. So add the new
    /// key, update every device by the old one, then put the new one at offline/openpgp.key, and
    /// remove the old one with a later image.
    OpenpgpKeys {
        /// The `public` folder.
        public: PathBuf,
        /// Keyrings to add.
        #[arg(long)]
        add: Vec<PathBuf>,
        /// Fingerprints of keys to remove.
        #[arg(long)]
        remove: Vec<String>,
    },
    /// Show or change who must agree before a server's own keys sign a release: `policy.toml` of
    /// the signer's `pki/signing`. The signer reads it at its start.
    ///
    /// With `--approvals 0` the server signs alone; that must be said, there is no default.
    Approvers {
        /// The folder with the release keys of the signer, `pki/signing`.
        signing: PathBuf,
        /// How many must agree.
        #[arg(long)]
        approvals: Option<usize>,
        /// Whether who asks for a signature may be one of them.
        #[arg(long)]
        requester_counts: Option<bool>,
        /// People to add, by name and public key: `alice=alice.pem`.
        #[arg(long)]
        add: Vec<String>,
        /// Names of people to remove.
        #[arg(long)]
        remove: Vec<String>,
    },
}

/// Kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// ECDSA over P-256: OpenPGP.
    P256,
    /// ECDSA over P-384: authorities, people.
    P384,
    /// RSA-2048: Secure Boot.
    Rsa2048,
    /// Ed25519: the audit log.
    Ed25519,
}

impl From<Kind> for Algorithm {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::P256 => Self::P256,
            Kind::P384 => Self::P384,
            Kind::Rsa2048 => Self::Rsa2048,
            Kind::Ed25519 => Self::Ed25519,
        }
    }
}

/// Where the passphrase comes from. Never an argument: arguments are seen by every user of a
/// machine.
#[derive(clap::Args)]
pub struct Passphrase {
    /// File with the passphrase (the PIN, for a key in a token); else
    /// `$CREDENTIALS_DIRECTORY/fleeti-passphrase`, else a prompt or standard input.
    #[arg(long, env = "FLEETI_PASSPHRASE_FILE")]
    passphrase_file: Option<PathBuf>,
}

impl Passphrase {
    /// Reads it.
    pub fn read(&self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let text = self.read_for("passphrase")?;
        if text.len() < 8 {
            return Err(Failure::new(
                "the passphrase has fewer than 8 characters",
                Some("use --passphrase-file with a long one"),
            ));
        }
        Ok(text)
    }

    /// Reads it, of any length; a person is told what for.
    fn read_for(&self, what: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let credential = || {
            std::env::var_os("CREDENTIALS_DIRECTORY")
                .map(|d| PathBuf::from(d).join("fleeti-passphrase"))
        };
        if let Some(path) =
            self.passphrase_file.clone().or_else(|| credential().filter(|p| p.exists()))
        {
            return read_secret(&path);
        }
        prompt(what)
    }
}

/// Asks a person, who does not see what they type, or reads a line where there is none.
pub fn prompt(what: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    if std::io::stdin().is_terminal() {
        let typed = rpassword::prompt_password(format!("{what}: ")).map_err(Failure::plain)?;
        return Ok(Zeroizing::new(typed.into_bytes()));
    }
    let mut line = Zeroizing::new(String::new());
    std::io::stdin().read_line(&mut line).map_err(Failure::plain)?;
    Ok(Zeroizing::new(line.trim_end_matches(['\r', '\n']).as_bytes().to_vec()))
}

/// The first line's end and what follows it are not part of a secret.
pub fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut text = Zeroizing::new(read(path)?);
    while matches!(text.last(), Some(b'\n' | b'\r')) {
        text.pop();
    }
    Ok(text)
}

/// A file that must be there.
pub fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|e| Failure::plain(format!("{}: {e}", path.display())))
}

/// Opens a key file for its purpose: sealed, or the name of a key in a token.
pub fn open(
    path: &Path,
    purpose: &str,
    passphrase: &Passphrase,
) -> Result<Box<dyn Signer>, Failure> {
    let file = read(path)?;
    let failed = |e: fleeti_pki::Error| Failure::plain(format!("{}: {e}", path.display()));
    let what = format!(
        "{} of {}",
        if keyfile::kind(&file) == keyfile::Kind::Token { "PIN" } else { "passphrase" },
        path.display()
    );
    let secret = match keyfile::pin_source(&file).map_err(failed)? {
        Some(path) => read_secret(&path)?,
        None => passphrase.read_for(&what)?,
    };
    keyfile::open(&file, purpose, &secret).map_err(failed)
}

/// Writes a new file and its folder.
pub fn write(path: &Path, bytes: &[u8], secret: bool) -> Result<(), Failure> {
    let written = || {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mode = if secret { 0o600 } else { 0o644 };
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    written().map_err(|e| Failure::plain(format!("{}: {e}", path.display())))
}

/// Replaces a file whole.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let new = path.with_extension("new");
    let written = || {
        let mut file = std::fs::File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    written().map_err(|e| Failure::plain(format!("{}: {e}", path.display())))
}

/// The public half of a key, PEM.
pub fn public_pem(key: &dyn Signer) -> Result<String, Failure> {
    let document = der::Document::try_from(key.public_key_der()).map_err(Failure::plain)?;
    document.to_pem("PUBLIC KEY", der::pem::LineEnding::LF).map_err(Failure::plain)
}

pub fn run(command: Command, output: &Output) -> CommandResult {
    match command {
        Command::ReleaseKey { key, passphrase } => {
            sealed_key(&key, (purpose::RELEASE, Algorithm::P384), &passphrase, output)
        }
        Command::ApproverKey { key, passphrase } => {
            sealed_key(&key, (purpose::APPROVER, Algorithm::P384), &passphrase, output)
        }
        Command::PcrKey { key, passphrase } => {
            sealed_key(&key, (purpose::PCR, Algorithm::Rsa2048), &passphrase, output)
        }
        Command::TokenKey { key, uri, algorithm, passphrase } => {
            token_key(&key, &uri, algorithm, &passphrase, output)
        }
        Command::ReleaseKeys { public, add, remove, threshold } => {
            release_keys(&public, &add, &remove, threshold, output)
        }
        Command::OpenpgpKey { key, passphrase } => openpgp_key(&key, &passphrase, output),
        Command::OpenpgpKeys { public, add, remove } => {
            openpgp_keys(&public, &add, &remove, output)
        }
        Command::Approvers { signing, approvals, requester_counts, add, remove } => {
            approvers(&signing, (approvals, requester_counts), &add, &remove, output)
        }
    }
}

fn sealed_key(
    key: &Path,
    (purpose, algorithm): (&str, Algorithm),
    passphrase: &Passphrase,
    output: &Output,
) -> CommandResult {
    let made = SoftKey::generate(algorithm).map_err(Failure::plain)?;
    let secret = made.to_pkcs8_der().map_err(Failure::plain)?;
    let sealed =
        fleeti_pki::sealed::seal(&secret, purpose, &passphrase.read()?).map_err(Failure::plain)?;
    written(key, &sealed, &made, output)
}

fn token_key(
    key: &Path,
    uri: &str,
    algorithm: Kind,
    passphrase: &Passphrase,
    output: &Output,
) -> CommandResult {
    // Looked at first: a key in a token that nobody has the name of is lost.
    for path in [key, &key.with_extension("pem")] {
        if path.exists() {
            return Err(Failure::plain(format!("{} exists already", path.display())));
        }
    }
    let parsed: TokenUri = uri.parse().map_err(Failure::plain)?;
    let pin = match parsed.pin_source() {
        Some(path) => read_secret(path)?,
        None => passphrase.read_for("PIN")?,
    };
    let made = TokenKey::generate(&parsed, &pin, algorithm.into()).map_err(Failure::plain)?;
    written(key, format!("{}\n", uri.trim()).as_bytes(), &made, output)
}

fn written(key: &Path, file: &[u8], made: &dyn Signer, output: &Output) -> CommandResult {
    let (pem, id) = (key.with_extension("pem"), key_id(made.public_key_der()));
    write(key, file, true)?;
    write(&pem, public_pem(made)?.as_bytes(), false)?;
    output.data(&json!({"key": key, "public": pem, "key_id": id}), |_| {
        format!("made {} and {}, key id {id}", key.display(), pem.display())
    });
    Ok(())
}

/// A line for each, below what they are a list of.
fn indented(list: &[String]) -> Lines {
    list.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().into()
}

/// Public keys of a file.
pub fn public_keys(path: &Path) -> Result<ReleaseKeys, Failure> {
    let failed = |e: String| Failure::plain(format!("{}: {e}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
    ReleaseKeys::from_pem(&text).map_err(|e| failed(e.to_string()))
}

fn release_keys(
    public: &Path,
    add: &[PathBuf],
    remove: &[String],
    threshold: Option<usize>,
    output: &Output,
) -> CommandResult {
    let path = public.join("release.pem");
    let before = public_keys(&path)?;
    let mut keys = before.keys().to_vec();
    for file in add {
        keys.extend(public_keys(file)?.keys().iter().cloned());
    }
    if let Some(unknown) = remove.iter().find(|id| !keys.iter().any(|k| k.id() == **id)) {
        return Err(Failure::new(
            format!("there is no release key {unknown}"),
            Some("`fleeti pki release-keys PUBLIC` shows them"),
        ));
    }
    keys.retain(|k| !remove.contains(&k.id()));
    let after =
        ReleaseKeys::new(keys, threshold.unwrap_or(before.threshold())).map_err(Failure::plain)?;
    if !add.is_empty() || !remove.is_empty() || threshold.is_some() {
        replace(&path, after.to_pem().map_err(Failure::plain)?.as_bytes())?;
    }
    let ids: Vec<_> = after.keys().iter().map(PublicKey::id).collect();
    output.data(&json!({"threshold": after.threshold(), "keys": ids}), |_| {
        Lines::from(format!("{} of {} release keys must sign:", after.threshold(), ids.len()))
            .and(indented(&ids))
    });
    Ok(())
}

fn openpgp_key(key: &Path, passphrase: &Passphrase, output: &Output) -> CommandResult {
    let made = SoftKey::generate(Algorithm::P256).map_err(Failure::plain)?;
    let secret = made.to_pkcs8_der().map_err(Failure::plain)?;
    let sealed = fleeti_pki::sealed::seal(&secret, purpose::OPENPGP, &passphrase.read()?)
        .map_err(Failure::plain)?;
    let ring = OpenPgpKey::new(Box::new(made)).and_then(|k| k.keyring()).map_err(Failure::plain)?;
    let public = key.with_extension("gpg");
    write(key, &sealed, true)?;
    write(&public, &ring, false)?;
    output.data(&json!({"key": key, "public": public}), |_| {
        format!("made {} and {}", key.display(), public.display())
    });
    Ok(())
}

fn openpgp_keys(
    public: &Path,
    add: &[PathBuf],
    remove: &[String],
    output: &Output,
) -> CommandResult {
    let path = public.join("openpgp.gpg");
    let ring = |path: &Path| {
        openpgp::keys(&read(path)?).map_err(|e| Failure::plain(format!("{}: {e}", path.display())))
    };
    let mut keys = ring(&path)?;
    for file in add {
        for key in ring(file)? {
            if !keys.iter().any(|(known, _)| *known == key.0) {
                keys.push(key);
            }
        }
    }
    if let Some(unknown) = remove.iter().find(|id| !keys.iter().any(|(known, _)| known == *id)) {
        return Err(Failure::new(
            format!("there is no OpenPGP key {unknown}"),
            Some("`fleeti pki openpgp-keys PUBLIC` shows them"),
        ));
    }
    keys.retain(|(id, _)| !remove.contains(id));
    if keys.is_empty() {
        return Err(Failure::plain("no key would be left: no device would take any release"));
    }
    if !add.is_empty() || !remove.is_empty() {
        replace(&path, &keys.iter().flat_map(|(_, bytes)| bytes.clone()).collect::<Vec<_>>())?;
    }
    let ids: Vec<_> = keys.iter().map(|(id, _)| id.clone()).collect();
    output.data(&json!({"keys": ids}), |_| {
        Lines::from("SHA256SUMS may be signed by:").and(indented(&ids))
    });
    Ok(())
}

fn approvers(
    signing: &Path,
    (approvals, requester_counts): (Option<usize>, Option<bool>),
    add: &[String],
    remove: &[String],
    output: &Output,
) -> CommandResult {
    let path = signing.join("policy.toml");
    let before = match std::fs::read_to_string(&path) {
        Ok(text) => Some(
            Policy::parse(&text).map_err(|e| Failure::plain(format!("{}: {e}", path.display())))?,
        ),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(Failure::plain(format!("{}: {e}", path.display()))),
    };
    let said = "say how many must agree with --approvals; 0 lets the server sign alone";
    let needed = approvals.or(before.as_ref().map(Policy::approvals));
    let needed = needed
        .ok_or_else(|| Failure::new(format!("there is no {}", path.display()), Some(said)))?;
    let counts =
        requester_counts.or(before.as_ref().map(Policy::requester_counts)).unwrap_or(false);
    let mut people = before.as_ref().map(|p| p.approvers().to_vec()).unwrap_or_default();
    if let Some(unknown) = remove.iter().find(|name| !people.iter().any(|a| a.name == **name)) {
        return Err(Failure::plain(format!("{unknown} is no approver")));
    }
    people.retain(|a| !remove.contains(&a.name));
    for text in add {
        let (name, file) = text
            .split_once('=')
            .ok_or_else(|| Failure::plain(format!("{text:?} is not NAME=PUBLIC.pem")))?;
        let keys = public_keys(Path::new(file))?;
        let [key] = keys.keys() else {
            return Err(Failure::plain(format!("{file} has more than one key")));
        };
        people.push(Approver { name: name.to_owned(), key: key.clone() });
    }
    let after = Policy::new(needed, counts, people).map_err(Failure::plain)?;
    if before.as_ref() != Some(&after) {
        std::fs::create_dir_all(signing)
            .map_err(|e| Failure::plain(format!("{}: {e}", signing.display())))?;
        replace(&path, after.to_text().map_err(Failure::plain)?.as_bytes())?;
    }
    let names: Vec<_> =
        after.approvers().iter().map(|a| format!("{} {}", a.key.id(), a.name)).collect();
    output.data(
        &json!({"approvals": needed, "requester_counts": counts, "approvers": names}),
        |_| match needed {
            0 => Lines::from("the server signs releases alone, without anybody's approval"),
            n => Lines::from(format!(
                "{n} must agree, {} who asks:",
                if counts { "also" } else { "beside" }
            ))
            .and(indented(&names)),
        },
    );
    Ok(())
}
