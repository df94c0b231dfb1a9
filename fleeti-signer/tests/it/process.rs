//! The real process on its socket.

use crate::{World, device};
use fleeti_pki::audit::{Act, Entry};
use fleeti_signer::service::DEVICE_S_MIN;
use fleeti_signer_client::handle::SignerError;
use fleeti_signer_client::socket;
use fleeti_signer_client::wire::{Request, Response};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

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
        if tokio::net::UnixStream::connect(world.path("socket")).await.is_ok() {
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
    use futures::{SinkExt, StreamExt};
    let world = World::new();
    let _process = start(&world).await;
    let certify = serde_json::to_value(device("dev-a", DEVICE_S_MIN)).unwrap();
    let changed = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut call = serde_json::json!({"id": 1, "request": certify});
        change(&mut call);
        call
    };
    let good = changed(&|_| ());
    let bad = [
        changed(&|c| c["request"]["type"] = "sign_bytes".into()),
        changed(&|c| c["request"]["is_authority"] = true.into()),
        changed(&|c| c["as"] = "root".into()),
        changed(&|c| c["request"]["occasion"] = "whatever".into()),
        changed(&|c| drop(c["request"].as_object_mut().unwrap().remove("protection"))),
        serde_json::json!({"id": 1, "request": {"type": "change_boot", "device": "dev-a", "wrapped": "", "change": {"type": "forget"}}}),
        serde_json::json!({"id": 1, "request": {"type": "keep", "kept": {"kept": "key", "device": "dev-a"}, "secret": "AA=="}}),
        serde_json::json!(["certify_device"]),
        // A list where an object is expected, at every depth.
        serde_json::json!([1, certify]),
        changed(&|c| {
            let fields: Vec<_> = c["request"].as_object().unwrap().values().cloned().collect();
            c["request"] = fields.into();
        }),
        changed(&|c| {
            c["request"] = serde_json::json!([
                "certify_device",
                "dev-a",
                c["request"]["csr_pem"],
                DEVICE_S_MIN,
                "software",
                "enrollment"
            ])
        }),
        serde_json::json!({"id": 1, "request": {"type": "keep", "kept": ["recovery_key", "dev-a"], "secret": "AA=="}}),
        serde_json::json!({"id": 1, "request": {"type": "change_boot", "device": "dev-a", "wrapped": "", "change": ["begin_epoch"]}}),
    ];
    let say = async |call: &serde_json::Value| {
        let stream = tokio::net::UnixStream::connect(world.path("socket")).await.unwrap();
        let mut framed = socket::framed(stream);
        framed
            .send(tokio_util::bytes::Bytes::from(serde_json::to_vec(call).unwrap()))
            .await
            .unwrap();
        tokio::time::timeout(Duration::from_secs(60), framed.next())
            .await
            .unwrap()
            .map(|frame| frame.unwrap().to_vec())
    };
    for call in &bad {
        assert_eq!(say(call).await, None, "{call}");
    }
    let log = || std::fs::read_to_string(world.path("audit/log")).unwrap_or_default();
    assert!(!log().contains("dev-a"), "{}", log());
    let answer: serde_json::Value = serde_json::from_slice(&say(&good).await.unwrap()).unwrap();
    assert_eq!(answer["response"]["type"], "certificate");
}
