//! A thousand quotes, valid and spoilt ones, checked by this crate and by `tpm2_checkquote` of
//! tpm2-tools: the results agree.

use fleeti_pki::tpm::Hash;
use fleeti_pki::tpm::attest::{Attest, Selection, Statement};
use fleeti_pki::tpm::public::{AttestationKey, Public};
use fleeti_testkit::tpm::{Manufacturer, Tpm};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use std::path::Path;
use std::process::{Command, Stdio};

const QUOTES: u32 = 25;
const EACH: usize = 40;

/// A quote as it is sent: what the TPM attested and signed, the qualifying data, and the PCR
/// values.
#[derive(Clone)]
struct Sent {
    said: Vec<u8>,
    signature: Vec<u8>,
    nonce: Vec<u8>,
    values: Vec<u8>,
    pcrs: Vec<u8>,
}

impl Sent {
    fn is_good(&self, key: &AttestationKey) -> bool {
        let Ok(attest) = Attest::quote(&self.said, &self.signature, key) else { return false };
        let digest = key.curve().hash().digest(&[&self.values]);
        attest.extra_data == self.nonce
            && attest.statement
                == Statement::Quote { selections: vec![Selection::sha256(&self.pcrs)], digest }
    }

    /// The result of tpm2-tools, with files of this name.
    fn is_good_elsewhere(&self, dir: &Path, name: &str) -> bool {
        let file = |what: &str, bytes: &[u8]| {
            std::fs::write(dir.join(format!("{name}.{what}")), bytes).unwrap()
        };
        file("said", &self.said);
        file("signature", &self.signature);
        file("values", &self.values);
        let list: Vec<_> = self.pcrs.iter().map(u8::to_string).collect();
        let mut check = Command::new("tpm2_checkquote");
        check
            .args(["-u", "ak.pub", "-g", "sha256", "-F", "values", "-l"])
            .arg(format!("sha256:{}", list.join(",")));
        check.args([
            "-m",
            &format!("{name}.said"),
            "-s",
            &format!("{name}.signature"),
            "-f",
            &format!("{name}.values"),
        ]);
        check
            .args(["-q", &hex::encode(&self.nonce)])
            .current_dir(dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        check.status().unwrap().success()
    }

    /// Spoils one field; returns which.
    fn spoil(&mut self, random: &mut StdRng) -> &'static str {
        let (is_cut, bytes, what) = match random.random_range(0..7) {
            0 => (false, &mut self.said, "a bit of the quote"),
            1 => (false, &mut self.signature, "a bit of the signature"),
            2 => (false, &mut self.nonce, "a bit of the nonce"),
            3 => (false, &mut self.values, "a bit of a PCR"),
            4 => (true, &mut self.said, "the quote, truncated"),
            5 => (true, &mut self.signature, "the signature, truncated"),
            _ => {
                random.fill_bytes(&mut self.nonce);
                return "another nonce";
            }
        };
        let at = random.random_range(0..bytes.len());
        if is_cut {
            bytes.truncate(at)
        } else {
            bytes[at] ^= 1 << random.random_range(0..8)
        }
        what
    }
}

fn quoted(tpm: &Tpm, number: u32, random: &mut StdRng) -> Sent {
    // tpm2-tools 5.4 cannot read the values of more than seven PCRs.
    let mut pcrs: Vec<u8> = (0..16).filter(|_| random.random_bool(0.4)).take(7).collect();
    if pcrs.is_empty() {
        pcrs.push(11);
    }
    let list: Vec<_> = pcrs.iter().map(u8::to_string).collect();
    let nonce: [u8; 32] = random.random();
    let extended = hex::encode(Hash::Sha256.digest(&[&number.to_be_bytes()]));
    tpm.tools(&format!(
        "tpm2_pcrextend {}:sha256={extended}
         tpm2_quote -c ak.ctx -g sha256 -l sha256:{} -q {} -m said -s signature -o values -F values
         tpm2_flushcontext -t",
        number % 16,
        list.join(","),
        hex::encode(nonce),
    ))
    .unwrap();
    let file = |name: &str| tpm.file(name).unwrap();
    Sent {
        said: file("said"),
        signature: file("signature"),
        nonce: nonce.to_vec(),
        values: file("values"),
        pcrs,
    }
}

#[test]
fn a_thousand_quotes_are_judged_as_tpm2_tools_judge_them() {
    let tpm = Tpm::new(&Manufacturer::new().unwrap()).unwrap();
    tpm.tools(
        "tpm2_createek -c ek.ctx -G ecc -u ek.pub
         tpm2_flushcontext -t
         tpm2_createak -C ek.ctx -c ak.ctx -G ecc256 -g sha256 -s ecdsa -u ak.pub -n ak.name -f tss
         tpm2_flushcontext -t",
    )
    .unwrap();
    let key =
        AttestationKey::new(Public::parse_sized(&tpm.file("ak.pub").unwrap()).unwrap()).unwrap();
    // The same thousand each time, except for what the TPM generates.
    let mut random = StdRng::seed_from_u64(5);
    let mut all = Vec::new();
    for number in 0..QUOTES {
        let good = quoted(&tpm, number, &mut random);
        all.push(("unchanged", good.clone()));
        for _ in 1..EACH {
            let mut spoilt = good.clone();
            let what = spoilt.spoil(&mut random);
            all.push((what, spoilt));
        }
    }
    assert_eq!(all.len(), 1000);
    let (first, second) = all.split_at(all.len() / 2);
    let judged = |half: &[(&'static str, Sent)], name: &'static str| {
        half.iter()
            .map(|(what, sent)| {
                (*what, sent.is_good(&key), sent.is_good_elsewhere(tpm.dir(), name))
            })
            .collect::<Vec<_>>()
    };
    let verdicts = std::thread::scope(|s| {
        let other = s.spawn(|| judged(second, "b"));
        [judged(first, "a"), other.join().unwrap()].concat()
    });
    for (number, (what, ours, theirs)) in verdicts.iter().enumerate() {
        assert_eq!(ours, theirs, "quote {number}, {what}");
    }
    let good = verdicts.iter().filter(|(_, ours, _)| *ours).count();
    assert_eq!(good, QUOTES as usize, "only unspoilt quotes are valid");
}
