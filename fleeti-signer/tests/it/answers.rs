//! The server's side of the socket: it rejects responses that do not match the protocol.

use fleeti_signer_client::handle::SignerError;
use fleeti_signer_client::socket;
use fleeti_signer_client::wire::{Answer, MESSAGE_MAX, Request, Response};
use fleeti_testkit::malformed;
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::sync::mpsc;

/// The bytes of a message: its length, then its content.
fn message(text: &str) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat()
}

/// Responds to each call with the next bytes. After an invalid message, the peer closes the
/// connection.
async fn signer(listener: UnixListener, mut answers: mpsc::Receiver<(Vec<u8>, bool)>) {
    let mut stream = None;
    while let Some((bytes, is_good)) = answers.recv().await {
        let connected = match stream.take() {
            Some(connected) => connected,
            None => listener.accept().await.unwrap().0,
        };
        let mut frames = socket::framed(connected);
        frames.next().await.unwrap().unwrap();
        let mut connected = frames.into_inner();
        connected.write_all(&bytes).await.unwrap();
        if is_good {
            stream = Some(connected);
        } else {
            assert_eq!(
                connected.read(&mut [0]).await.unwrap_or(0),
                0,
                "the server continues with {:?}",
                String::from_utf8_lossy(&bytes)
            );
        }
    }
}

fn good_answers(id: u64) -> Vec<String> {
    let proof = r#"{"entry":"{}","hashes":["AA=="],"checkpoint":"c"}"#;
    let boot = r#"{"wrapped":"AA==","epoch":1,"expected":{"setup_mode":false,"pk":null,"kek":[],"db":[],"dbx":[],"change":1}}"#;
    let responses = [
        r#"{"type":"checkpoint","note":"n"}"#.to_owned(),
        r#"{"type":"certificate","der":"AA=="}"#.to_owned(),
        r#"{"type":"secrets","secrets":{"a":"AA==","b":"AA=="}}"#.to_owned(),
        r#"{"type":"approval_policy","policy":null,"release_key":"k"}"#.to_owned(),
        format!(r#"{{"type":"proof","proof":{proof}}}"#),
        format!(r#"{{"type":"boot","state":{boot},"writes":[]}}"#),
    ];
    // With the fields in the order of the type.
    let typed = |text: String| {
        serde_json::to_string(&Answer {
            id,
            response: serde_json::from_str::<Response>(&text).unwrap(),
        })
        .unwrap()
    };
    responses.into_iter().map(typed).collect()
}

#[tokio::test]
async fn an_answer_in_another_form_is_an_error_that_says_so_and_the_next_call_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("socket")).unwrap();
    let (answers, given) = mpsc::channel(1);
    let signer = tokio::spawn(signer(listener, given));
    let handle = socket::connect(dir.path().join("socket"));
    let mut bad: Vec<(String, Vec<u8>)> = Vec::new();
    for good in good_answers(1) {
        bad.extend(
            malformed::forms(&good)
                .unwrap()
                .into_iter()
                .map(|f| (format!("{good}: {}", f.what), message(&f.text))),
        );
    }
    bad.push(("too large".into(), u32::try_from(MESSAGE_MAX + 1).unwrap().to_be_bytes().to_vec()));
    for (what, bytes) in bad {
        answers.send((bytes, false)).await.unwrap();
        let asked = handle.ask(Request::Checkpoint).await;
        let Err(SignerError::Unavailable(why)) = asked else { panic!("{what}: {asked:?}") };
        assert!(why.starts_with("unreadable response: "), "{what}: {why}");
    }
    // A new connection each time, so its first call has the number 1.
    answers.send((message(&good_answers(1)[0]), true)).await.unwrap();
    assert_eq!(
        handle.ask(Request::Checkpoint).await.unwrap(),
        Response::Checkpoint { note: "n".into() }
    );
    answers.send((message(&good_answers(2)[1]), true)).await.unwrap();
    assert_eq!(
        handle.ask(Request::Checkpoint).await.unwrap(),
        Response::Certificate { der: "AA==".into() }
    );
    drop(answers);
    signer.await.unwrap();
}
