//! The real process on its socket.

use crate::{World, device};
use fleeti_core::wire::api::BootKeyChange;
use fleeti_core::wire::attestation::Secret;
use fleeti_pki::audit::{Act, Entry};
use fleeti_signer::lifetimes::DEVICE_S_MIN;
use fleeti_signer_client::handle::SignerError;
use fleeti_signer_client::socket;
use fleeti_signer_client::wire::{Call, Kept, Request, Response};
use fleeti_testkit::malformed;
use futures::{SinkExt, StreamExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio_util::bytes::Bytes;

pub struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

pub async fn start(world: &World) -> Process {
    start_with(world, &[]).await
}

pub async fn start_with(world: &World, arguments: &[&str]) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleeti-signer"));
    command.arg("--pki").arg(world.path("pki")).arg("--log").arg(world.path("audit"));
    command.arg("--socket").arg(world.path("socket")).args(arguments).stderr(Stdio::null());
    let child = Process(command.spawn().unwrap());
    for _ in 0..3000 {
        if UnixStream::connect(world.path("socket")).await.is_ok() {
            return child;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the signing service does not listen");
}

fn record(i: u64) -> Request {
    Request::Record { act: Act::new("admin", "test", format!("subject-{i}")) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_was_acknowledged_survives_a_kill() {
    let world = World::new();
    let mut process = start(&world).await;
    let signer = socket::connect(world.path("socket"));
    let calls: Vec<_> = (0..2000)
        .map(|i| {
            let signer = signer.clone();
            tokio::spawn(async move { signer.ask(record(i)).await.ok().map(|r| (i, r)) })
        })
        .collect();
    // While calls wait.
    let Response::Recorded { number } = signer.ask(record(9999)).await.unwrap() else {
        panic!("no number")
    };
    process.0.kill().unwrap();
    process.0.wait().unwrap();
    let mut acknowledged = vec![(9999, number)];
    let end = tokio::time::Instant::now() + Duration::from_millis(500);
    for call in calls {
        if let Ok(Ok(Some((i, Response::Recorded { number })))) =
            tokio::time::timeout_at(end, call).await
        {
            acknowledged.push((i, number));
        }
    }
    let _again = start(&world).await;
    let log = std::fs::read_to_string(world.path("audit/log")).unwrap();
    let entries: Vec<_> = log.lines().map(|l| Entry::parse(l.as_bytes()).unwrap()).collect();
    for (i, number) in acknowledged {
        assert_eq!(entries[usize::try_from(number).unwrap()].act.subject, format!("subject-{i}"));
    }
    // The handle connects to the new process by itself.
    assert!(matches!(signer.ask(Request::Checkpoint).await.unwrap(), Response::Checkpoint { .. }));
}

#[tokio::test]
async fn a_certificate_comes_over_the_socket_and_a_refusal_is_said() {
    let world = World::new();
    let _process = start(&world).await;
    let signer = socket::connect(world.path("socket"));
    assert!(matches!(
        signer.ask(device("dev-a", DEVICE_S_MIN)).await.unwrap(),
        Response::Certificate { .. }
    ));
    assert!(matches!(signer.ask(device("dev-a", 1)).await, Err(SignerError::Refused(_))));
}

/// Sends bytes as a call on a connection of its own. `false` if the connection is closed instead of
/// a response.
async fn is_answered(world: &World, call: &str) -> bool {
    let mut frames = socket::framed(UnixStream::connect(world.path("socket")).await.unwrap());
    frames.send(Bytes::from(call.to_owned())).await.unwrap();
    matches!(frames.next().await, Some(Ok(_)))
}

/// A call in every other form than the one in which the server writes it.
#[tokio::test]
async fn a_call_is_taken_only_as_the_server_writes_it() {
    let world = World::new();
    let _process = start(&world).await;
    let entries =
        || std::fs::read_to_string(world.path("audit/log")).map_or(0, |l| l.lines().count());
    for request in [device("dev-a", DEVICE_S_MIN), Request::Checkpoint] {
        let good = serde_json::to_string(&Call { id: 1, request }).unwrap();
        let before = entries();
        let forms = malformed::forms(&good).unwrap().into_iter().map(|form| form.text);
        let others = [
            format!("{good} "),
            good.replacen("{\"id\":1,", "{ \"id\":1,", 1),
            good.replacen("\"id\"", "\"\\u0069d\"", 1),
        ];
        for call in forms.chain(others) {
            assert_ne!(call, good);
            assert!(!is_answered(&world, &call).await, "{call}");
        }
        assert_eq!(entries(), before, "nothing was signed or recorded");
        assert!(is_answered(&world, &good).await, "{good}");
    }
}

#[tokio::test]
async fn another_user_is_not_answered() {
    let world = World::new();
    let _process = start(&world).await;
    assert_eq!(
        std::fs::metadata(world.path("socket")).unwrap().mode() & 0o777,
        0o660,
        "the file's mode is the first check"
    );
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return; // only root can become another user
    }
    // The second check, for a folder with wrong permissions.
    for (path, mode) in [(world.path("socket"), 0o666), (world.dir.path().to_owned(), 0o755)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    // Every Debian has Perl.
    let script = "use IO::Socket::UNIX; $SIG{PIPE} = 'IGNORE'; my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die $!;\n\
                  my $m = '{\"id\":1,\"request\":{\"type\":\"checkpoint\"}}'; print $s pack('N', length $m), $m; $s->flush;\n\
                  my $n = read($s, my $length, 4); print $n // 0;";
    let asked = |uid: &str| {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", uid, "--clear-groups", "/usr/bin/perl", "-e", script])
            .arg(world.path("socket"));
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    assert_eq!(asked("0").trim(), "4", "root gets a response");
    assert_eq!(asked("65534").trim(), "0");
}

/// A call that does not match the protocol gets no response, and nothing is signed or logged for
/// it.
#[tokio::test]
async fn a_call_that_is_not_known_to_the_last_word_brings_nothing() {
    let world = World::new();
    let _process = start(&world).await;
    let written = |request| serde_json::to_string(&Call { id: 1, request }).unwrap();
    let certify = written(device("dev-a", DEVICE_S_MIN));
    let keep = written(Request::Keep {
        kept: Kept::RecoveryKey { device: "dev-a".parse().unwrap() },
        secret: Secret::new("AA==".into()),
    });
    let change_boot = written(Request::ChangeBoot {
        device: "dev-a".parse().unwrap(),
        wrapped: String::new(),
        change: BootKeyChange::BeginEpoch,
        forbidden: vec![],
    });
    let bad = [
        (&certify, r#""type":"certify_device""#, r#""type":"sign_bytes""#),
        (&certify, r#""issuer":null"#, r#""issuer":null,"is_authority":true"#),
        (&certify, r#""issuer":null}"#, r#""issuer":null},"as":"root""#),
        (&certify, r#""occasion":"enrollment""#, r#""occasion":"whatever""#),
        (&certify, r#""occasion":"enrollment""#, r#""occasion":{"enrollment":null}"#),
        (&certify, r#""protection":"software","#, ""),
        (&keep, r#"{"kept":"recovery_key","#, r#"{"kept":"key","#),
        (&keep, r#"{"kept":"recovery_key","#, r#"{"kept":0,"#),
        (&keep, r#"{"kept":"recovery_key","device":"dev-a"}"#, r#"["recovery_key","dev-a"]"#),
        (&change_boot, r#"{"type":"begin_epoch"}"#, r#"{"type":"forget"}"#),
        (&change_boot, r#"{"type":"begin_epoch"}"#, r#"{"type":"begin_epoch","release":"a@1"}"#),
        (&change_boot, r#"{"type":"begin_epoch"}"#, r#"["begin_epoch"]"#),
    ];
    for (good, from, to) in bad {
        let call = good.replacen(from, to, 1);
        assert_ne!(call, *good, "{from}");
        assert!(!is_answered(&world, &call).await, "{call}");
    }
    let log = || std::fs::read_to_string(world.path("audit/log")).unwrap_or_default();
    assert!(!log().contains("dev-a"), "{}", log());
    assert!(is_answered(&world, &certify).await);
    assert!(log().contains("dev-a"), "{}", log());
}
