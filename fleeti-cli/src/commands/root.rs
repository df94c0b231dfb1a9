//! `fleeti pki root`: an offline root CA that several people open together, on a machine without a
//! network. Its inputs and outputs are files.

use super::device::ReasonName;
use super::keys::{self, Passphrase, read, read_secret, replace, write};
use crate::CommandResult;
use crate::output::{Failure, Lines, Output, when};
use clap::{Args, Subcommand};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::strict;
use fleeti_core::wire::device::SignedBundle;
use fleeti_core::wire::readmission::SignedTransition;
use fleeti_pki::ceremony::{self, Issued, LIST_S, OpenRoot, Transcript};
use fleeti_pki::certificate::{
    self, Authority, Period, Purpose, Role, from_pem, self_signed, to_pem,
};
use fleeti_pki::hierarchy::{ROOT_S, purpose};
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

/// What to do with the root CA.
#[derive(Subcommand)]
pub enum Command {
    Create(Create),
    /// Certify an intermediate CA from a request of `fleeti pki request`. The new bundle contains
    /// it beside the older ones.
    Sign {
        /// The root CA's folder.
        root: PathBuf,
        /// The certificate request.
        request: PathBuf,
        /// Purpose of the intermediate CA.
        #[arg(long, value_parser = purpose_of)]
        purpose: Purpose,
        /// Output file of the certificate.
        #[arg(long)]
        out: PathBuf,
        #[command(flatten)]
        opened: Opened,
    },
    /// Make a new CRL; with --revoke, it revokes an intermediate CA. The new bundle contains the
    /// CRL.
    Crl {
        /// The root CA's folder.
        root: PathBuf,
        /// Certificate of the intermediate CA to revoke.
        #[arg(long)]
        revoke: Option<PathBuf>,
        /// Reason of the revocation.
        #[arg(long, value_enum, default_value_t = ReasonName::CessationOfOperation)]
        reason: ReasonName,
        /// Days until the next CRL is due.
        #[arg(long, default_value_t = LIST_S / 86_400, value_parser = clap::value_parser!(u64).range(1..=1100))]
        days: u64,
        #[command(flatten)]
        opened: Opened,
    },
    /// Verify and show the transcript of a root CA. Needs no shares.
    Transcript {
        /// The root CA's folder, or a copy of its `root.pem`, `transcript` and `transcript.sig`.
        root: PathBuf,
    },
}

/// The operators who open the root CA.
#[derive(clap::Args)]
pub struct Opened {
    /// Share of an operator; repeat it for each operator.
    #[arg(long = "share", required = true)]
    shares: Vec<PathBuf>,
    /// Folder with one file for each operator, NAME, that contains their passphrase. Default:
    /// prompts.
    #[arg(long)]
    passphrases: Option<PathBuf>,
}

pub fn purpose_of(text: &str) -> Result<Purpose, String> {
    Purpose::ALL
        .into_iter()
        .find(|p| p.as_str() == text)
        .ok_or_else(|| "expected device, server or operator".into())
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Content of a share file: the threshold, the operator, and the encrypted share.
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

/// The files of a root CA's folder that change.
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
            let hint = "take bundle.json, transcript and transcript.sig from the same copy; an older bundle would undo revocations";
            return Err(Failure::new(
                "bundle.json is not the last bundle of the transcript",
                Some(hint),
            ));
        }
        Ok(Self { path: path.to_owned(), certificate, transcript, issued })
    }

    /// Runs `act` with the opened root CA, then writes the changed files.
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
        let hint = Some("check that the shares belong to this root and reach its threshold");
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
        // Write the transcript first: no bundle may leave the machine that the transcript does not
        // list.
        replace(&self.path.join("transcript"), self.transcript.text().as_bytes())?;
        replace(&self.path.join("transcript.sig"), signature)?;
        replace(
            &self.path.join("bundle.json"),
            &serde_json::to_vec_pretty(bundle).map_err(Failure::plain)?,
        )
    }
}

impl Opened {
    /// Names of the operators, and the secret that their shares combine to.
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
            return Err(Failure::plain(format!(
                "{} of {needed} operators are present",
                shares.len()
            )));
        }
        Ok((
            operators.into_iter().collect(),
            ceremony::combine(&shares, needed).map_err(Failure::plain)?,
        ))
    }
}

/// Has a root sign the transition to the next one.
pub fn introduce(
    folder: &Path,
    opened: &Opened,
    next: &Certificate,
    ends_previous: bool,
) -> Result<SignedTransition, Failure> {
    let pem = String::from_utf8(read(&folder.join("root.pem"))?).map_err(Failure::plain)?;
    let certificate = from_pem(&pem).map_err(Failure::plain)?;
    let (_, secret) = opened.secret(&certificate)?;
    let hint = Some("check that the shares belong to this root and reach its threshold");
    let key = keyfile::open(&read(&folder.join("root.key"))?, purpose::ROOT, &secret)
        .map_err(|e| Failure::new(format!("root.key: {e}"), hint))?;
    let previous = Authority { certificate: &certificate, signer: key.as_ref() };
    transition::root(&previous, next, ends_previous, now_s()).map_err(Failure::plain)
}

/// Purpose of a share's encryption. It contains the operator's name, the threshold and the root, so
/// that none of them can be exchanged.
fn share_role(operator: &str, threshold: usize, root_sha256: &str) -> String {
    format!("{}/{operator}/{threshold}/{root_sha256}", purpose::ROOT_SHARE)
}

/// Create a root CA. Its key opens only with a threshold of operators, each with a share and a
/// passphrase of their own.
///
/// Writes root.key, root.pem, shares/NAME.share, bundle.json and the signed transcript to ROOT.
/// Give each operator their share and remove it from ROOT. Keep a backup of ROOT elsewhere.
#[derive(Args)]
pub struct Create {
    /// The root CA's folder; must not exist.
    root: PathBuf,
    /// Name of an operator; repeat it for each.
    #[arg(long = "operator", required = true)]
    operators: Vec<String>,
    /// Number of operators that are needed to open the root CA.
    #[arg(long)]
    threshold: usize,
    /// Make the key in a token (PKCS#11, RFC 7512), and split the token's PIN among the
    /// operators. The object must be named `root`.
    #[arg(long)]
    uri: Option<String>,
    /// File with the token's PIN; destroy it afterwards. Default: a prompt.
    #[arg(long, requires = "uri")]
    pin_file: Option<PathBuf>,
    /// Adopt the root CA of a folder of `fleeti pki init`, with the intermediates that it has
    /// signed. The command prompts for its passphrase. Destroy its offline/root.key afterwards.
    #[arg(long, conflicts_with = "uri")]
    adopt: Option<PathBuf>,
    #[command(flatten)]
    passphrase: Passphrase,
    /// Folder with one file for each operator, NAME, that contains their passphrase. Default:
    /// prompts.
    #[arg(long)]
    passphrases: Option<PathBuf>,
}

pub fn run(command: Command, output: &Output) -> CommandResult {
    match command {
        Command::Create(arguments) => create(&arguments, output),
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
            let what = if whom.is_some() { "revoked the intermediate" } else { "made a new CRL" };
            said(&folder, &json!({"days": days}), what, output);
            Ok(())
        }
        Command::Transcript { root } => transcript(&root, output),
    }
}

fn transcript(root: &Path, output: &Output) -> CommandResult {
    let text = |name: &str| String::from_utf8(read(&root.join(name))?).map_err(Failure::plain);
    let certificate = from_pem(&text("root.pem")?).map_err(Failure::plain)?;
    let signature = read(&root.join("transcript.sig"))?;
    let transcript =
        Transcript::read(&text("transcript")?, &signature, &certificate).map_err(Failure::plain)?;
    output.data(&transcript.entries(), |entries| {
        let lines = entries.iter().flat_map(|e| {
            [
                format!("{}  {:<12} {}", when(e.at_s), e.act.action, e.act.subject),
                format!("    by {}", e.act.actor),
            ]
        });
        Lines::from(format!("signed by the root, {} entries:", entries.len()))
            .and(lines.collect::<Vec<_>>())
    });
    Ok(())
}

fn said(folder: &Folder, more: &serde_json::Value, what: &str, output: &Output) {
    let version = folder.issued.bundle.as_ref().map_or(0, |b| b.version);
    let path = folder.path.display().to_string();
    output.data(&json!({"bundle_version": version, "root": path, "more": more}), |_| {
        let carry =
            "bundle.json, transcript and transcript.sig to the server: `fleeti pki bundle publish`";
        Lines::from(what).and(format!("  bring {path}/{carry}, version {version}"))
    });
}

/// A root CA's key, the secret that opens it, the content of its key file, its certificate, and the
/// intermediates that it has signed.
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
        return Err(Failure::plain("the token's object must be named root"));
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

fn create(arguments: &Create, output: &Output) -> CommandResult {
    let Create { root, operators, uri, pin_file, adopt, passphrase, .. } = arguments;
    let (threshold, passphrases) = (arguments.threshold, arguments.passphrases.as_deref());
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
            "operators need different names of a-z, 0-9 and -, at most 24 characters",
        ));
    }
    // Try the split before anything is made, so that an invalid threshold, or an operator who gives
    // up at the third passphrase, leaves no files behind.
    ceremony::divide(b"nothing", threshold, operators.len()).map_err(Failure::plain)?;
    let known =
        operators.iter().map(|o| passphrase_of(o, passphrases)).collect::<Result<Vec<_>, _>>()?;
    let Made { secret, key, file, certificate, intermediates } = match (adopt, uri) {
        (Some(pki), _) => adopted(pki, passphrase)?,
        (None, Some(uri)) => made_in_token(uri, pin_file.as_deref())?,
        (None, None) => made()?,
    };
    let shares = ceremony::divide(&secret, threshold, operators.len()).map_err(Failure::plain)?;
    let root_sha256 = certificate::fingerprint(&certificate).map_err(Failure::plain)?;
    let mut transcript = Transcript::default();
    let open =
        OpenRoot { certificate: &certificate, signer: key.as_ref(), operators, now_s: now_s() };
    let bundle =
        open.begin(&mut transcript, threshold, operators, intermediates).map_err(Failure::plain)?;
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
            .and("give each operator their share, and remove it from here:")
            .and(list)
    });
    Ok(())
}
