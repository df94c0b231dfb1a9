//! `fleeti pki root`: an offline root that several people open together, on a machine without a
//! network. Files go in, files come out.

use super::device::ReasonName;
use super::keys::{self, Passphrase, read, read_secret, replace, write};
use crate::CommandResult;
use crate::output::{Failure, Lines, Output};
use clap::Subcommand;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::strict;
use fleeti_core::wire::device::{SignedBundle, SignedTransition};
use fleeti_pki::ceremony::{self, Issued, LIST_S, OpenRoot, Transcript};
use fleeti_pki::certificate::{self, Period, Purpose, Role, from_pem, self_signed, to_pem};
use fleeti_pki::hierarchy::purpose;
use fleeti_pki::sealed;
use fleeti_pki::signer::token::{TokenKey, TokenUri};
use fleeti_pki::signer::{Algorithm, Signer, SoftKey, keyfile};
use fleeti_pki::transition;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use x509_cert::Certificate;
use zeroize::Zeroizing;

/// Validity of a root, seconds.
const ROOT_S: u64 = 20 * 365 * 86_400;

/// What to do with the root.
#[derive(Subcommand)]
pub enum Command {
    /// Make a root. Its key opens only when enough operators are there, each with a share and a
    /// passphrase of their own.
    ///
    /// ROOT gets root.key, root.pem, shares/NAME.share, bundle.json and the signed transcript. Give
    /// each operator the share with their name, take it out of ROOT, and keep a copy of ROOT
    /// elsewhere.
    Create {
        /// The root's folder; must not exist.
        root: PathBuf,
        /// Who opens it, by name; once for each.
        #[arg(long = "operator", required = true)]
        operators: Vec<String>,
        /// How many of them it takes.
        #[arg(long)]
        threshold: usize,
        /// Make the key in a token (PKCS#11, RFC 7512) whose PIN is divided among the operators;
        /// the object is `root`.
        #[arg(long)]
        uri: Option<String>,
        /// File with the token's PIN, destroyed afterwards; else a prompt.
        #[arg(long, requires = "uri")]
        pin_file: Option<PathBuf>,
        /// Take over the root of `fleeti pki init`, with the intermediates that it has signed: its
        /// folder. Its passphrase is asked for; destroy its offline/root.key afterwards.
        #[arg(long, conflicts_with = "uri")]
        adopt: Option<PathBuf>,
        #[command(flatten)]
        passphrase: Passphrase,
        /// Folder with the passphrase of each operator as NAME; else each is asked.
        #[arg(long)]
        passphrases: Option<PathBuf>,
    },
    /// Certify an intermediate: the request of `fleeti pki request`. The new bundle accepts it
    /// beside the older ones.
    Sign {
        /// The root's folder.
        root: PathBuf,
        /// The request.
        request: PathBuf,
        /// What the intermediate certifies.
        #[arg(long, value_parser = purpose_of)]
        purpose: Purpose,
        /// Where the certificate goes.
        #[arg(long)]
        out: PathBuf,
        #[command(flatten)]
        opened: Opened,
    },
    /// Make a new revocation list; with --revoke, an intermediate counts no more. Both go out with
    /// the new bundle.
    Crl {
        /// The root's folder.
        root: PathBuf,
        /// The certificate of the intermediate.
        #[arg(long)]
        revoke: Option<PathBuf>,
        /// Why.
        #[arg(long, value_enum, default_value_t = ReasonName::CessationOfOperation)]
        reason: ReasonName,
        /// Days until the next list must be there.
        #[arg(long, default_value_t = LIST_S / 86_400, value_parser = clap::value_parser!(u64).range(1..=1100))]
        days: u64,
        #[command(flatten)]
        opened: Opened,
    },
    /// Show and verify what was done with a root. Nothing is opened.
    Transcript {
        /// The root's folder, or a copy of its `root.pem`, `transcript` and `transcript.sig`.
        root: PathBuf,
    },
}

/// Who opens the root.
#[derive(clap::Args)]
pub struct Opened {
    /// A share, once for each operator who is there.
    #[arg(long = "share", required = true)]
    shares: Vec<PathBuf>,
    /// Folder with the passphrase of each operator as NAME; else each is asked.
    #[arg(long)]
    passphrases: Option<PathBuf>,
}

pub fn purpose_of(text: &str) -> Result<Purpose, String> {
    Purpose::ALL
        .into_iter()
        .find(|p| p.as_str() == text)
        .ok_or_else(|| "device, server or operator".into())
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// What stands in a share's file: how many it takes, whose it is, and the share, sealed.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ShareFile {
    root_sha256: String,
    operator: String,
    threshold: usize,
    sealed: String,
}

fn passphrase_of(operator: &str, folder: Option<&Path>) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let text = match folder {
        Some(folder) => read_secret(&folder.join(operator))?,
        None => keys::prompt(&format!("passphrase of {operator}"))?,
    };
    if text.len() < 8 {
        Err(Failure::plain(format!("the passphrase of {operator} has fewer than 8 characters")))
    } else {
        Ok(text)
    }
}

/// The files of a root's folder that change.
struct Folder {
    path: PathBuf,
    certificate: Certificate,
    transcript: Transcript,
    issued: Issued,
}

impl Folder {
    fn open(path: &Path) -> Result<Self, Failure> {
        let text = |name: &str| String::from_utf8(read(&path.join(name))?).map_err(Failure::plain);
        let certificate = from_pem(&text("root.pem")?).map_err(Failure::plain)?;
        let transcript = Transcript::read(
            &text("transcript")?,
            &read(&path.join("transcript.sig"))?,
            &certificate,
        );
        let bundle: SignedBundle =
            strict::from_slice(&read(&path.join("bundle.json"))?).map_err(Failure::plain)?;
        let (issued, transcript) = (
            Issued::of(&bundle, &certificate).map_err(Failure::plain)?,
            transcript.map_err(Failure::plain)?,
        );
        if !transcript.ends_with_bundle(&sha256_hex(bundle.bundle.as_bytes())) {
            let hint = "an older one would bring back what was revoked since; take bundle.json, transcript and transcript.sig from one copy";
            return Err(Failure::new(
                "bundle.json is not the last bundle of the transcript",
                Some(hint),
            ));
        }
        Ok(Self { path: path.to_owned(), certificate, transcript, issued })
    }

    /// Carries something out with the root open, then writes what has changed.
    fn with<T>(
        &mut self,
        opened: &Opened,
        act: impl FnOnce(
            &OpenRoot<'_>,
            &mut Transcript,
            &mut Issued,
        ) -> Result<(T, SignedBundle), fleeti_pki::Error>,
    ) -> Result<(T, SignedBundle), Failure> {
        let (operators, secret) = opened.secret(&self.certificate)?;
        let file = read(&self.path.join("root.key"))?;
        let hint = Some("are these the shares of this root, and enough of them?");
        let key = keyfile::open(&file, purpose::ROOT, &secret)
            .map_err(|e| Failure::new(format!("root.key: {e}"), hint))?;
        let root = OpenRoot {
            certificate: &self.certificate,
            signer: key.as_ref(),
            operators: &operators,
            now_s: now_s(),
        };
        let (value, bundle) =
            act(&root, &mut self.transcript, &mut self.issued).map_err(Failure::plain)?;
        let signature = self.transcript.sign(key.as_ref()).map_err(Failure::plain)?;
        self.keep(&bundle, &signature)?;
        Ok((value, bundle))
    }

    fn keep(&self, bundle: &SignedBundle, signature: &[u8]) -> Result<(), Failure> {
        // The transcript first: a bundle that nobody can account for must not leave the machine.
        replace(&self.path.join("transcript"), self.transcript.text().as_bytes())?;
        replace(&self.path.join("transcript.sig"), signature)?;
        replace(
            &self.path.join("bundle.json"),
            &serde_json::to_vec_pretty(bundle).map_err(Failure::plain)?,
        )
    }
}

impl Opened {
    /// Names of the operators, and the secret that their shares make.
    fn secret(&self, root: &Certificate) -> Result<(Vec<String>, Zeroizing<Vec<u8>>), Failure> {
        let root_sha256 = certificate::fingerprint(root).map_err(Failure::plain)?;
        let (mut operators, mut shares, mut needed) = (BTreeSet::new(), Vec::new(), 1);
        for path in &self.shares {
            let failed = |e: String| Failure::plain(format!("{}: {e}", path.display()));
            let file: ShareFile =
                strict::from_slice(&read(path)?).map_err(|e| failed(e.to_string()))?;
            if file.root_sha256 != root_sha256 {
                return Err(failed("this is a share of another root".into()));
            }
            let passphrase = passphrase_of(&file.operator, self.passphrases.as_deref())?;
            let role = share_role(&file.operator, file.threshold, &root_sha256);
            let share = sealed::open(file.sealed.as_bytes(), &role, &passphrase)
                .map_err(|e| failed(e.to_string()))?;
            needed = needed.max(file.threshold);
            if operators.insert(file.operator) {
                shares.push(share);
            }
        }
        if shares.len() < needed {
            return Err(Failure::plain(format!("{} of {needed} operators are here", shares.len())));
        }
        Ok((
            operators.into_iter().collect(),
            ceremony::combine(&shares, needed).map_err(Failure::plain)?,
        ))
    }
}

/// A share is sealed with its operator's name, the threshold and the root, so that none of them can
/// be exchanged. Has a root introduce the next one.
pub fn introduce(
    folder: &Path,
    opened: &Opened,
    next: &Certificate,
    ends_previous: bool,
) -> Result<SignedTransition, Failure> {
    let pem = String::from_utf8(read(&folder.join("root.pem"))?).map_err(Failure::plain)?;
    let certificate = from_pem(&pem).map_err(Failure::plain)?;
    let (_, secret) = opened.secret(&certificate)?;
    let hint = Some("are these the shares of this root, and enough of them?");
    let key = keyfile::open(&read(&folder.join("root.key"))?, purpose::ROOT, &secret)
        .map_err(|e| Failure::new(format!("root.key: {e}"), hint))?;
    transition::root((&certificate, key.as_ref()), next, ends_previous, now_s())
        .map_err(Failure::plain)
}

fn share_role(operator: &str, threshold: usize, root_sha256: &str) -> String {
    format!("{}/{operator}/{threshold}/{root_sha256}", purpose::ROOT_SHARE)
}

pub fn run(command: Command, output: &Output) -> CommandResult {
    match command {
        Command::Create {
            root,
            operators,
            threshold,
            uri,
            pin_file,
            adopt,
            passphrase,
            passphrases,
        } => {
            let make = || match (&adopt, &uri) {
                (Some(pki), _) => adopted(pki, &passphrase),
                (None, Some(uri)) => made_in_token(uri, pin_file.as_deref()),
                (None, None) => made(),
            };
            create(&root, &operators, threshold, make, passphrases.as_deref(), output)
        }
        Command::Sign { root, request, purpose, out, opened } => {
            if out.exists() {
                return Err(Failure::plain(format!("{} exists already", out.display())));
            }
            let csr = String::from_utf8(read(&request)?).map_err(Failure::plain)?;
            let mut folder = Folder::open(&root)?;
            let (certificate, _) =
                folder.with(&opened, |open, t, issued| open.certify(t, issued, purpose, &csr))?;
            write(&out, to_pem(&certificate).map_err(Failure::plain)?.as_bytes(), false)?;
            said(
                &folder,
                &json!({"certificate": out}),
                &format!("{} is an intermediate for {}s", out.display(), purpose.as_str()),
                output,
            );
            Ok(())
        }
        Command::Crl { root, revoke, reason, days, opened } => {
            let whom = revoke
                .map(|path| String::from_utf8(read(&path)?).map_err(Failure::plain))
                .transpose()?;
            let whom = whom.map(|pem| from_pem(&pem)).transpose().map_err(Failure::plain)?;
            let mut folder = Folder::open(&root)?;
            let act = |open: &OpenRoot<'_>, t: &mut Transcript, issued: &mut Issued| {
                open.revoke(t, issued, whom.as_ref().map(|c| (c, reason.into())), days * 86_400)
                    .map(|bundle| ((), bundle))
            };
            folder.with(&opened, act)?;
            let what = if whom.is_some() {
                "the intermediate is revoked"
            } else {
                "a new revocation list"
            };
            said(&folder, &json!({"days": days}), what, output);
            Ok(())
        }
        Command::Transcript { root } => {
            let text =
                |name: &str| String::from_utf8(read(&root.join(name))?).map_err(Failure::plain);
            let certificate = from_pem(&text("root.pem")?).map_err(Failure::plain)?;
            let signature = read(&root.join("transcript.sig"))?;
            let transcript = Transcript::read(&text("transcript")?, &signature, &certificate)
                .map_err(Failure::plain)?;
            output.data(&transcript.entries(), |entries| {
                let lines = entries.iter().flat_map(|e| {
                    let at = jiff::Timestamp::from_second(e.at_s.cast_signed())
                        .map_or_else(|_| String::new(), |t| t.to_string());
                    [
                        format!("{at}  {:<12} {}", e.act.action, e.act.subject),
                        format!("    by {}", e.act.actor),
                    ]
                });
                Lines::from(format!("signed by the root, {} entries:", entries.len()))
                    .and(lines.collect::<Vec<_>>())
            });
            Ok(())
        }
    }
}

fn said(folder: &Folder, more: &serde_json::Value, what: &str, output: &Output) {
    let version = folder.issued.bundle.as_ref().map_or(0, |b| b.version);
    let path = folder.path.display().to_string();
    output.data(&json!({"bundle_version": version, "root": path, "more": more}), |_| {
        let carry =
            "bundle.json, transcript and transcript.sig to the server: `fleeti pki bundle publish`";
        Lines::from(what).and(format!("  carry {path}/{carry}, version {version}"))
    });
}

/// A root's key, what opens it, what stands in its file, its certificate, and the intermediates
/// that it has signed.
struct Made {
    secret: Zeroizing<Vec<u8>>,
    key: Box<dyn Signer>,
    file: Vec<u8>,
    certificate: Certificate,
    intermediates: Vec<String>,
}

fn certificate_for(key: &dyn Signer) -> Result<Certificate, Failure> {
    self_signed(Role::Root, Period::starting(now_s(), ROOT_S), key).map_err(Failure::plain)
}

fn sealed_root(
    key: SoftKey,
    certificate: Certificate,
    intermediates: Vec<String>,
) -> Result<Made, Failure> {
    let secret = ceremony::new_secret();
    let file = sealed::seal(&key.to_pkcs8_der().map_err(Failure::plain)?, purpose::ROOT, &secret)
        .map_err(Failure::plain)?;
    Ok(Made { secret, key: Box::new(key), file, certificate, intermediates })
}

fn made() -> Result<Made, Failure> {
    let key = SoftKey::generate(Algorithm::P384).map_err(Failure::plain)?;
    let certificate = certificate_for(&key)?;
    sealed_root(key, certificate, vec![])
}

fn made_in_token(uri: &str, pin_file: Option<&Path>) -> Result<Made, Failure> {
    let parsed: TokenUri = uri.parse().map_err(Failure::plain)?;
    if !parsed.is_for(purpose::ROOT) {
        return Err(Failure::plain("the token's object must be called root"));
    }
    let secret = pin_file.map_or_else(|| keys::prompt("PIN of the token"), read_secret)?;
    let key = TokenKey::generate(&parsed, &secret, Algorithm::P384).map_err(Failure::plain)?;
    let certificate = certificate_for(&key)?;
    Ok(Made {
        secret,
        key: Box::new(key),
        file: format!("{}\n", uri.trim()).into_bytes(),
        certificate,
        intermediates: vec![],
    })
}

fn adopted(pki: &Path, passphrase: &Passphrase) -> Result<Made, Failure> {
    let text = |name: &str| {
        String::from_utf8(read(&pki.join("public").join(name))?).map_err(Failure::plain)
    };
    let certificate = from_pem(&text("root.pem")?).map_err(Failure::plain)?;
    let opened =
        sealed::open(&read(&pki.join("offline/root.key"))?, purpose::ROOT, &passphrase.read()?)
            .map_err(Failure::plain)?;
    let key = SoftKey::from_pkcs8_der(&opened).map_err(Failure::plain)?;
    if certificate::public_key_der(&certificate).map_err(Failure::plain)? != key.public_key_der() {
        return Err(Failure::plain("root.pem is not the certificate of root.key"));
    }
    let intermediates = Purpose::ALL.map(|p| text(&format!("{}.pem", purpose::of_intermediate(p))));
    sealed_root(key, certificate, intermediates.into_iter().collect::<Result<_, _>>()?)
}

fn create(
    root: &Path,
    operators: &[String],
    threshold: usize,
    make: impl FnOnce() -> Result<Made, Failure>,
    passphrases: Option<&Path>,
    output: &Output,
) -> CommandResult {
    if root.exists() {
        return Err(Failure::new(
            format!("{} exists already", root.display()),
            Some("keys are never overwritten"),
        ));
    }
    let is_name = |n: &String| {
        let is_good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        n.len() <= 24 && n.starts_with(|c: char| c.is_ascii_lowercase()) && n.bytes().all(is_good)
    };
    let distinct: BTreeSet<_> = operators.iter().collect();
    if distinct.len() != operators.len() || !operators.iter().all(is_name) {
        return Err(Failure::plain(
            "operators have different names out of a-z, 0-9 and -, 24 characters at the most",
        ));
    }
    // Tried first, for nothing: numbers that make no sense, and whoever gives up at the third
    // passphrase, have made nothing.
    ceremony::divide(b"nothing", threshold, operators.len()).map_err(Failure::plain)?;
    let known =
        operators.iter().map(|o| passphrase_of(o, passphrases)).collect::<Result<Vec<_>, _>>()?;
    let Made { secret, key, file, certificate, intermediates } = make()?;
    let shares = ceremony::divide(&secret, threshold, operators.len()).map_err(Failure::plain)?;
    let root_sha256 = certificate::fingerprint(&certificate).map_err(Failure::plain)?;
    let mut transcript = Transcript::default();
    let open =
        OpenRoot { certificate: &certificate, signer: key.as_ref(), operators, now_s: now_s() };
    let bundle = open
        .begin(&mut transcript, (threshold, operators), intermediates)
        .map_err(Failure::plain)?;
    let signature = transcript.sign(key.as_ref()).map_err(Failure::plain)?;
    write(&root.join("root.key"), &file, true)?;
    write(&root.join("root.pem"), to_pem(&certificate).map_err(Failure::plain)?.as_bytes(), false)?;
    write(&root.join("root.sha256"), root_sha256.as_bytes(), false)?;
    for ((operator, share), passphrase) in operators.iter().zip(&shares).zip(&known) {
        let sealed =
            sealed::seal(share, &share_role(operator, threshold, &root_sha256), passphrase)
                .map_err(Failure::plain)?;
        let sealed = String::from_utf8(sealed).map_err(Failure::plain)?;
        let file = ShareFile {
            root_sha256: root_sha256.clone(),
            operator: operator.clone(),
            threshold,
            sealed,
        };
        let text = serde_json::to_vec_pretty(&file).map_err(Failure::plain)?;
        write(&root.join("shares").join(format!("{operator}.share")), &text, true)?;
    }
    Folder { path: root.to_owned(), certificate, transcript, issued: Issued::default() }
        .keep(&bundle, &signature)?;
    output.data(&json!({"root": root, "sha256": root_sha256, "threshold": threshold, "operators": operators}), |_| {
        let list: Vec<_> = operators.iter().map(|o| format!("  {}/shares/{o}.share", root.display())).collect();
        Lines::from(format!("made a root that {threshold} of {} operators open", operators.len()))
            .and(format!("  sha256 {root_sha256}"))
            .and("give each their share, and take it away from here:")
            .and(list)
    });
    Ok(())
}
