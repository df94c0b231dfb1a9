//! A rollout whose waves wait for a webhook.

use super::plan;
use super::server::{Act, Server};
use crate::rollout::asked::{ANSWER_S, Answer};
use crate::rollout::header::{self, Event};
use crate::rollout::plan::{Plan, Start};
use crate::rollout::waves::Stage;
use crate::rollout::{DevicePhase, Phase};

fn gated(sizes: &[&str]) -> Plan {
    Plan { gate: Some("hook-1".into()), ..plan(sizes) }
}

fn offered(server: &Server) -> usize {
    server.in_phase(|phase| *phase == DevicePhase::Offered).len()
}

fn stage(server: &Server) -> (u32, Stage) {
    let waves = server.header.waves.as_ref().unwrap();
    (waves.current, waves.stage)
}

#[test]
fn the_first_device_waits_for_the_gate_and_each_wave_asks_it_again() {
    let mut server = Server::start(gated(&["1", "100%"]), 3, false);
    assert_eq!((offered(&server), server.asked.as_slice()), (0, &[(1, 0)][..]));
    server.act(&Act::Answer(0, true));
    assert_eq!(offered(&server), 1);
    let first = server.in_phase(|phase| *phase == DevicePhase::Offered);
    server.obey(&first[0]);
    server.work();
    assert_eq!((stage(&server), server.asked.len()), ((1, Stage::Due), 2));
    server.act(&Act::Answer(1, true));
    assert_eq!(offered(&server), 0, "an answer about the wave before");
    server.act(&Act::Answer(0, true));
    assert_eq!(offered(&server), 2);
}

#[test]
fn a_gate_that_does_not_answer_is_asked_again_and_the_first_answer_is_too_late() {
    let mut server = Server::start(gated(&["100%"]), 3, false);
    server.act(&Act::Wait(ANSWER_S - 1));
    assert_eq!(server.asked.len(), 1);
    server.act(&Act::Wait(1));
    assert_eq!(server.asked, [(1, 0), (2, 0)]);
    server.act(&Act::Answer(1, true));
    assert_eq!(offered(&server), 0);
    server.act(&Act::Answer(0, false));
    server.act(&Act::Answer(0, true));
    assert_eq!(offered(&server), 0, "each question has one answer");
    server.act(&Act::Wait(29));
    assert_eq!(server.asked.len(), 2, "the question that expired counts as well");
    server.act(&Act::Wait(1));
    server.act(&Act::Answer(0, true));
    assert_eq!(offered(&server), 3);
}

#[test]
fn an_answer_before_a_pause_does_not_count_after_it() {
    let mut server = Server::start(gated(&["100%"]), 3, false);
    server.act(&Act::Pause);
    server.act(&Act::Answer(0, true));
    server.act(&Act::Hold);
    server.act(&Act::Answer(0, true));
    assert_eq!(server.header.phase, Phase::Paused);
    server.act(&Act::Resume);
    assert_eq!((offered(&server), server.asked.len()), (0, 2), "it is asked again");
    server.act(&Act::Answer(1, true));
    assert_eq!(offered(&server), 0);
    server.act(&Act::Answer(0, true));
    assert_eq!(offered(&server), 3);
}

#[test]
fn an_aborted_rollout_takes_no_answer() {
    let mut server = Server::start(gated(&["100%"]), 3, false);
    server.act(&Act::Abort);
    let before = server.header.clone();
    let answered = server.on(Event::Answered { question: 1, answer: Answer::allows("") });
    assert!(matches!(answered, Err(header::Rejected::Phase { .. })));
    assert_eq!((server.header.clone(), offered(&server)), (before, 0));
}

#[test]
fn a_wave_by_hand_asks_the_gate_when_a_person_begins_it_and_not_before() {
    let mut plan = gated(&["1", "100%"]);
    plan.waves[1].start = Start::ByHand;
    let mut server = Server::start(plan, 3, false);
    server.act(&Act::Answer(0, true));
    let first = server.in_phase(|phase| *phase == DevicePhase::Offered);
    server.obey(&first[0]);
    server.act(&Act::Wait(1_000_000));
    assert_eq!(server.asked.len(), 1, "it waits for a person, and a gate begins nothing");
    server.on(Event::Next { over_gate: false }).unwrap();
    assert_eq!((server.asked.len(), offered(&server)), (2, 0));
    let refused = server.on(Event::Next { over_gate: false });
    let said = "it has not answered yet".into();
    assert_eq!(refused, Err(header::Rejected::Gate { said }));
    // It has answered: a person who knows more asks again at once.
    server.act(&Act::Answer(0, false));
    server.on(Event::Next { over_gate: false }).unwrap();
    assert_eq!((server.asked.len(), offered(&server)), (3, 0));
    assert!(server.on(Event::Next { over_gate: false }).is_err());
    server.act(&Act::Answer(0, true));
    assert_eq!(offered(&server), 2);
}

#[test]
fn a_wave_with_a_time_asks_the_gate_at_that_time_and_not_before() {
    let mut plan = gated(&["100%"]);
    plan.waves[0].start = Start::At { time_s: 1_000_600 };
    let mut server = Server::start(plan, 3, false);
    server.act(&Act::Wait(599));
    server.act(&Act::Answer(0, true));
    assert_eq!((server.asked.len(), offered(&server)), (0, 0));
    server.act(&Act::Wait(1));
    assert_eq!((server.asked.len(), offered(&server)), (1, 0), "the time alone begins nothing");
    server.act(&Act::Answer(0, false));
    server.act(&Act::Wait(15));
    server.act(&Act::Answer(0, true));
    assert_eq!(offered(&server), 3);
}

#[test]
fn a_rollout_that_does_not_run_waits_for_no_gate() {
    let mut server = Server::start(gated(&["100%"]), 3, false);
    let waits = |server: &Server| server.header.waves.as_ref().unwrap().gate_wait().is_some();
    assert!(waits(&server));
    server.act(&Act::Pause);
    assert!(!waits(&server), "pausing");
    server.act(&Act::Hold);
    assert!(!waits(&server), "paused");
    server.act(&Act::Resume);
    assert!(waits(&server));
    server.act(&Act::Abort);
    assert!(!waits(&server), "aborted");
}

#[test]
fn only_a_person_who_says_so_passes_over_a_gate() {
    let mut plan = gated(&["1", "2", "100%"]);
    plan.waves.iter_mut().for_each(|wave| wave.soak_s = 600);
    let mut server = Server::start(plan, 3, false);
    server.act(&Act::Next(false));
    assert_eq!(offered(&server), 0);
    server.act(&Act::Next(true));
    assert_eq!(offered(&server), 1);
    let first = server.in_phase(|phase| *phase == DevicePhase::Offered);
    server.obey(&first[0]);
    server.work();
    assert!(matches!(stage(&server), (0, Stage::Soaking { .. })));
    server.act(&Act::Next(false));
    assert_eq!((stage(&server), offered(&server)), ((1, Stage::Due), 0), "the soak is over");
    // No time passes over it.
    server.act(&Act::Wait(1_000_000));
    assert_eq!(offered(&server), 0);
    server.act(&Act::Next(true));
    assert_eq!(offered(&server), 1);
}
