//! Events that make pages refresh.

use super::{Browser, OURS};
use crate::world::World;

/// A new event stream begins with all events, so that its page refreshes; a logout ends the stream.
#[actix_web::test]
async fn a_page_reads_again_when_its_stream_begins_and_gets_nothing_after_signing_out() {
    let world = World::new().await;
    let browser = Browser::new(&world);
    let session = browser.sign_in(&world).await;
    let mut live = browser.get("/live", &session).await;
    let first = String::from_utf8(live.chunk().await.unwrap().unwrap().to_vec()).unwrap();
    for name in ["device", "rollout", "build", "release", "profile"] {
        assert!(first.contains(&format!("event: {name}\n")), "{first}");
    }
    world.enroll().await;
    let next = String::from_utf8(live.chunk().await.unwrap().unwrap().to_vec()).unwrap();
    assert_eq!(next, "event: device\ndata: changed\n\n");
    browser.post("/signout", &session, OURS, "").await;
    world.enroll().await;
    assert_eq!(live.chunk().await.unwrap(), None);
}
