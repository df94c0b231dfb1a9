//! Keys of people and their permissions.

use crate::CommandResult;
use crate::output::{Failure, Lines, Output};
use clap::{Args, Subcommand, ValueEnum};
use fleeti_pki::approval::{Approver, Policy};
use fleeti_pki::hierarchy::purpose;
use fleeti_pki::manifest::{PublicKey, ReleaseKeys};
use fleeti_pki::openpgp::{self, OpenPgpKey};
use fleeti_pki::signer::token::{TokenKey, TokenUri};
use fleeti_pki::signer::{Algorithm, Signer, SoftKey, key_id, keyfile};
use serde_json::json;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// What to do with keys of people.
#[derive(Subcommand)]
pub enum Command {
    /// Make a release key for a person: encrypted in KEY, and its public key beside it with the
    /// extension `.pem`.
    ReleaseKey {
        /// Output file, as in `alice.key`; must not exist.
        key: PathBuf,
        #[command(flatten)]
        passphrase: Passphrase,
    },
    /// Make an approver key, with which a person approves that a server signs a release. The public
    /// key is beside it with the extension `.pem`.
    ApproverKey {
        /// Output file, as in `alice.key`; must not exist.
        key: PathBuf,
        #[command(flatten)]
        passphrase: Passphrase,
    },
    /// Make the key that signs PCR policies: the values of PCR 11 under a UKI that may open sealed
    /// data. The public key is beside it with the extension `.pem`.
    ///
    /// `fleeti pki init` makes one. Otherwise store KEY as offline/pcr.key and its public key as
    /// public/pcr.pem before you build an image.
    PcrKey {
        /// Output file, as in `offline/pcr.key`; must not exist.
        key: PathBuf,
        #[command(flatten)]
        passphrase: Passphrase,
    },
    /// Make a key in a token (PKCS#11) that does not export it. KEY contains the URI of the key, and
    /// can be passed wherever a command expects a key file.
    ///
    /// Name the object after its purpose, as in `release-alice` or `device-ca`:
    ///   fleeti pki token-key alice.key --algorithm p384 \
    ///     --uri 'pkcs11:token=alice;object=release-alice?module-path=/usr/lib/softhsm/libsofthsm2.so'
    /// Enter the PIN as you would a passphrase, or name a file that contains it with
    /// `pin-source=file:/PATH` in the URI.
    #[command(verbatim_doc_comment)]
    TokenKey {
        /// Output file of the key's URI; must not exist.
        key: PathBuf,
        /// Token and name of the object (RFC 7512).
        #[arg(long)]
        uri: String,
        /// Kind of key.
        #[arg(long, value_enum, default_value_t = Kind::P384)]
        algorithm: Kind,
        #[command(flatten)]
        passphrase: Passphrase,
    },
    /// Show or change the release keys and their threshold.
    ///
    /// The command edits `release.pem` of a `public` folder. Builds copy it into images, so a
    /// device trusts a new key only after its next update. Add the new key, update every device
    /// with releases that the old keys sign, then remove the old key.
    ReleaseKeys {
        /// The `public` folder.
        public: PathBuf,
        /// Public keys to add.
        #[arg(long)]
        add: Vec<PathBuf>,
        /// Ids of keys to remove.
        #[arg(long)]
        remove: Vec<String>,
        /// How many keys must sign a release.
        #[arg(long)]
        threshold: Option<usize>,
    },
    /// Make an OpenPGP key that signs `SHA256SUMS`. Its keyring is beside it with the extension
    /// `.gpg`.
    OpenpgpKey {
        /// Output file, as in `openpgp-2.key`; must not exist.
        key: PathBuf,
        #[command(flatten)]
        passphrase: Passphrase,
    },
    /// Show or change the OpenPGP keys that may sign `SHA256SUMS`: `openpgp.gpg` of a `public`
    /// folder.
    ///
    /// systemd-sysupdate refuses a signature by a key that its image does not have. Add the new
    /// key, update every device with the old key, then store the new key as offline/openpgp.key,
    /// and remove the old key with a later image.
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
    Approvers(Approvers),
}

/// Algorithm of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// ECDSA over P-256: OpenPGP.
    P256,
    /// ECDSA over P-384: CAs, people.
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

/// Source of the passphrase. Never an argument: every user of the machine can see arguments.
#[derive(clap::Args)]
pub struct Passphrase {
    /// File with the passphrase, or with the PIN of a token. Default:
    /// `$CREDENTIALS_DIRECTORY/fleeti-passphrase` if it exists, else a prompt or standard input.
    #[arg(long, env = "FLEETI_PASSPHRASE_FILE")]
    passphrase_file: Option<PathBuf>,
}

/// A key file, and the passphrase that opens it.
#[derive(Clone, Copy)]
pub struct KeyFile<'a> {
    pub path: &'a Path,
    pub passphrase: &'a Passphrase,
}

impl KeyFile<'_> {
    /// Opens the key for its purpose.
    pub fn open(self, purpose: &str) -> Result<Box<dyn Signer>, Failure> {
        open(self.path, purpose, self.passphrase)
    }
}

impl Passphrase {
    /// Reads a passphrase of at least 8 characters.
    pub fn read(&self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let text = self.read_for("passphrase")?;
        if text.len() < 8 {
            return Err(Failure::new(
                "the passphrase has fewer than 8 characters",
                Some("use --passphrase-file with a longer one"),
            ));
        }
        Ok(text)
    }

    /// Reads a passphrase or PIN of any length; the prompt shows `what`.
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

/// Prompts at a terminal without echo, or reads a line from standard input.
pub fn prompt(what: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    if std::io::stdin().is_terminal() {
        let typed = rpassword::prompt_password(format!("{what}: ")).map_err(Failure::plain)?;
        return Ok(Zeroizing::new(typed.into_bytes()));
    }
    let mut line = Zeroizing::new(String::new());
    std::io::stdin().read_line(&mut line).map_err(Failure::plain)?;
    Ok(Zeroizing::new(line.trim_end_matches(['\r', '\n']).as_bytes().to_vec()))
}

/// Reads a secret from a file, without the line ends at its end.
pub fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut text = Zeroizing::new(read(path)?);
    while matches!(text.last(), Some(b'\n' | b'\r')) {
        text.pop();
    }
    Ok(text)
}

/// Reads a file that must exist.
pub fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|e| Failure::plain(format!("{}: {e}", path.display())))
}

/// Opens a key file for its purpose: an encrypted key, or the URI of a key in a token.
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

/// Writes a new file, and creates its folder.
pub fn write(path: &Path, bytes: &[u8], secret: bool) -> Result<(), Failure> {
    let written = || {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mode = if secret { fleeti_files::PRIVATE } else { fleeti_files::PUBLIC };
        fleeti_files::create_durably(path, bytes, mode)
    };
    written().map_err(|e| Failure::plain(format!("{}: {e}", path.display())))
}

/// Replaces a file; after a power cut it has its old or its new content.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let written = fleeti_files::write_durably(path, bytes, fleeti_files::PUBLIC);
    written.map_err(|e| Failure::plain(format!("{}: {e}", path.display())))
}

/// The public key, PEM.
pub fn public_pem(key: &dyn Signer) -> Result<String, Failure> {
    let document = der::Document::try_from(key.public_key_der()).map_err(Failure::plain)?;
    document.to_pem("PUBLIC KEY", der::pem::LineEnding::LF).map_err(Failure::plain)
}

/// Show or change the approval policy for releases that a server signs: `policy.toml` in the
/// signing service's `pki/signing`. The signing service reads it when it starts.
///
/// With `--approvals 0` the server signs without approvals. There is no default.
#[derive(Args)]
pub struct Approvers {
    /// The signing service's folder with release keys, `pki/signing`.
    signing: PathBuf,
    /// Number of approvals that a release needs.
    #[arg(long)]
    approvals: Option<usize>,
    /// Whether the approval of the person who requests a signature counts.
    #[arg(long)]
    requester_counts: Option<bool>,
    /// Approvers to add, as NAME=PUBLIC_KEY: `alice=alice.pem`.
    #[arg(long)]
    add: Vec<String>,
    /// Names of approvers to remove.
    #[arg(long)]
    remove: Vec<String>,
}

pub fn run(command: Command, output: &Output) -> CommandResult {
    match command {
        Command::ReleaseKey { key, passphrase } => {
            sealed_key(&key, purpose::RELEASE, Algorithm::P384, &passphrase, output)
        }
        Command::ApproverKey { key, passphrase } => {
            sealed_key(&key, purpose::APPROVER, Algorithm::P384, &passphrase, output)
        }
        Command::PcrKey { key, passphrase } => {
            sealed_key(&key, purpose::PCR, Algorithm::Rsa2048, &passphrase, output)
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
        Command::Approvers(arguments) => approvers(&arguments, output),
    }
}

fn sealed_key(
    key: &Path,
    purpose: &str,
    algorithm: Algorithm,
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
    // Check before generating: a key in a token is lost if its URI is not written.
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

/// One indented line for each item.
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
            Some("list them with `fleeti pki release-keys PUBLIC`"),
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
            Some("list them with `fleeti pki openpgp-keys PUBLIC`"),
        ));
    }
    keys.retain(|(id, _)| !remove.contains(id));
    if keys.is_empty() {
        return Err(Failure::plain("no key would be left, and devices would refuse every release"));
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

fn approvers(arguments: &Approvers, output: &Output) -> CommandResult {
    let Approvers { signing, approvals, requester_counts, add, remove } = arguments;
    let path = signing.join("policy.toml");
    let before = match std::fs::read_to_string(&path) {
        Ok(text) => Some(
            Policy::parse(&text).map_err(|e| Failure::plain(format!("{}: {e}", path.display())))?,
        ),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(Failure::plain(format!("{}: {e}", path.display()))),
    };
    let said =
        "set the number of approvals with --approvals; with 0 the server signs without approvals";
    let needed = approvals.or(before.as_ref().map(Policy::approvals));
    let needed = needed
        .ok_or_else(|| Failure::new(format!("there is no {}", path.display()), Some(said)))?;
    let counts =
        requester_counts.or(before.as_ref().map(Policy::requester_counts)).unwrap_or(false);
    let mut people = before.as_ref().map(|p| p.approvers().to_vec()).unwrap_or_default();
    if let Some(unknown) = remove.iter().find(|name| !people.iter().any(|a| a.name == **name)) {
        return Err(Failure::plain(format!("{unknown} is not an approver")));
    }
    people.retain(|a| !remove.contains(&a.name));
    for text in add {
        let (name, file) = text
            .split_once('=')
            .ok_or_else(|| Failure::plain(format!("{text:?} is not NAME=PUBLIC.pem")))?;
        let keys = public_keys(Path::new(file))?;
        let [key] = keys.keys() else {
            return Err(Failure::plain(format!(
                "{file} has {} keys, expected one",
                keys.keys().len()
            )));
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
            0 => Lines::from("the server signs releases without approvals"),
            n => Lines::from(format!(
                "approvals needed: {n}, requester {}:",
                if counts { "included" } else { "excluded" }
            ))
            .and(indented(&names)),
        },
    );
    Ok(())
}
