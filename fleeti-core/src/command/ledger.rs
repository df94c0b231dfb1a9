//! What a device remembers of commands, so that it runs each at most once: [`Ledger::step`].
//!
//! The caller stores the ledger before it applies the effects. After a restart of the agent it
//! sends [`Event::Started`]: a command that was interrupted is not run again, unless the restart
//! belongs to it (a reboot), or the machine can tell whether it happened (a new key, a reset).
//!
//! INVARIANT: a command whose end is remembered is never run. Ends are remembered until the deadline
//! has passed; after it, the command is refused as expired.

use crate::wire::command::{
    Acknowledgement, Cancellation, Command, CommandKind, Outcome, VALID_S_MAX, detail, is_id,
};
use serde::{Deserialize, Serialize};

/// Maximum number of remembered commands. A device that is full leaves further ones unanswered, and
/// the server sends them again.
pub const ENTRIES_MAX: usize = 256;

/// The commands that a device remembers, in the order in which they came.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// The commands.
    pub entries: Vec<Entry>,
}

/// A remembered command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Id of the command.
    pub id: String,
    /// What it asks for; `None` if it was cancelled before it came.
    pub kind: Option<CommandKind>,
    /// Its deadline, Unix seconds.
    pub deadline_s: u64,
    /// The boot in which it began.
    pub boot_id: String,
    /// SHA-256 of the device's key when it began.
    pub key_sha256: String,
    /// How far it is.
    pub phase: Phase,
}

/// How far a command is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Phase {
    /// It runs, or ran when the agent ended.
    Begun,
    /// Its result is stored on the device, and not uploaded.
    Produced {
        /// The result in words.
        detail: String,
    },
    /// It has ended.
    Ended {
        /// How.
        outcome: Outcome,
        /// The result or the reason in words.
        detail: String,
    },
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The agent started.
    Started,
    /// A command arrived.
    Received(Command),
    /// A cancellation arrived.
    Cancelled(Cancellation),
    /// A command ended without a result to upload: the result, or the reason of the failure.
    Finished(String, Result<String, String>),
    /// The result of a command is stored.
    Produced(String, String),
    /// The result was uploaded, or refused with a reason.
    Uploaded(String, Result<(), String>),
}

/// What the agent must do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Run a command.
    Run(Entry),
    /// Stop a command, and delete its result.
    Stop(String),
    /// Upload the stored result of a command.
    Upload(String),
    /// Answer the server.
    Answer(Acknowledgement),
}

/// What a step needs to know.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Now, Unix seconds.
    pub now_s: u64,
    /// The kernel's boot id.
    pub boot_id: &'a str,
    /// SHA-256 of the device's key.
    pub key_sha256: &'a str,
}

/// Why a command that was interrupted has failed.
const INTERRUPTED: &str = "interrupted: the agent restarted while it ran";

impl Ledger {
    /// Applies an event. Returns the ledger to store, and then the effects to apply.
    #[must_use]
    pub fn step(&self, event: Event, ctx: Context<'_>) -> (Self, Vec<Effect>) {
        let (mut next, mut effects) = (self.clone(), Vec::new());
        match event {
            Event::Started => {
                for entry in &mut next.entries {
                    entry.started(ctx, &mut effects);
                }
            }
            Event::Received(command) => next.received(command, ctx, &mut effects),
            Event::Cancelled(Cancellation { cancel }) => {
                next.cancelled(cancel, ctx, &mut effects);
            }
            Event::Finished(id, result) => {
                if let Some(entry) = next.find(&id).filter(|e| e.phase == Phase::Begun) {
                    entry.end_with(result, &mut effects);
                }
            }
            Event::Produced(id, text) => {
                if let Some(entry) = next.find(&id).filter(|e| e.phase == Phase::Begun) {
                    entry.phase = Phase::Produced { detail: detail(&text) };
                    effects.push(Effect::Upload(id));
                }
            }
            Event::Uploaded(id, result) => {
                if let Some(entry) = next.find(&id)
                    && let Phase::Produced { detail } = &entry.phase
                {
                    let detail = detail.clone();
                    entry.end_with(result.map(|()| detail), &mut effects);
                    effects.push(Effect::Stop(id));
                }
            }
        }
        (next, effects)
    }

    fn find(&mut self, id: &str) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.id == id)
    }

    /// Forgets commands that have ended and would be refused as expired. Whether there is room.
    fn has_room(&mut self, now_s: u64) -> bool {
        self.entries.retain(|e| now_s <= e.deadline_s || !matches!(e.phase, Phase::Ended { .. }));
        self.entries.len() < ENTRIES_MAX
    }

    fn received(&mut self, command: Command, ctx: Context<'_>, effects: &mut Vec<Effect>) {
        let Command { id, kind, deadline_s } = command;
        if let Some(entry) = self.find(&id) {
            if let Phase::Ended { outcome, detail } = &entry.phase {
                effects.push(answer(&id, *outcome, detail));
            }
            return;
        }
        if ctx.now_s > deadline_s {
            effects.push(answer(&id, Outcome::Expired, "it arrived after its deadline"));
            return;
        }
        // Without memory of it, it could run twice.
        if !is_id(&id) || !self.has_room(ctx.now_s) {
            return;
        }
        if kind.takes_a_while() {
            effects.push(answer(&id, Outcome::Begun, ""));
        }
        let entry = Entry {
            id,
            kind: Some(kind),
            deadline_s,
            boot_id: ctx.boot_id.to_owned(),
            key_sha256: ctx.key_sha256.to_owned(),
            phase: Phase::Begun,
        };
        effects.push(Effect::Run(entry.clone()));
        self.entries.push(entry);
    }

    fn cancelled(&mut self, id: String, ctx: Context<'_>, effects: &mut Vec<Effect>) {
        const WHY: &str = "cancelled by an operator";
        if let Some(entry) = self.find(&id) {
            match &entry.phase {
                Phase::Ended { outcome, detail } => {
                    effects.push(answer(&id, *outcome, detail));
                }
                Phase::Begun if !entry.can_stop() => {}
                Phase::Begun | Phase::Produced { .. } => {
                    effects.push(Effect::Stop(id));
                    entry.end(Outcome::Cancelled, WHY, effects);
                }
            }
            return;
        }
        if !is_id(&id) || !self.has_room(ctx.now_s) {
            return;
        }
        // The command may come later: no command is valid for longer.
        let mut entry = Entry {
            id,
            kind: None,
            deadline_s: ctx.now_s.saturating_add(VALID_S_MAX.into()),
            boot_id: ctx.boot_id.to_owned(),
            key_sha256: ctx.key_sha256.to_owned(),
            phase: Phase::Begun,
        };
        entry.end(Outcome::Cancelled, WHY, effects);
        self.entries.push(entry);
    }
}

impl Entry {
    /// Whether it can be stopped without leaving something half done.
    fn can_stop(&self) -> bool {
        match &self.kind {
            None => true,
            Some(kind) => match kind {
                CommandKind::Attest
                | CommandKind::Logs { .. }
                | CommandKind::Diagnostic { .. }
                | CommandKind::SupportBundle { .. } => true,
                CommandKind::Report
                | CommandKind::Reboot
                | CommandKind::ClearAlarm
                | CommandKind::NewRecoveryKey
                | CommandKind::TrySecrets
                | CommandKind::RotateKey
                | CommandKind::FactoryReset { .. } => false,
            },
        }
    }

    fn started(&mut self, ctx: Context<'_>, effects: &mut Vec<Effect>) {
        match &self.phase {
            Phase::Ended { .. } => return,
            Phase::Produced { .. } => {
                effects.push(Effect::Upload(self.id.clone()));
                return;
            }
            Phase::Begun => {}
        }
        let is_other_boot = self.boot_id != ctx.boot_id;
        let goes_on = match self.kind {
            Some(CommandKind::Reboot) if is_other_boot => {
                return self.end(Outcome::Done, "the device has booted again", effects);
            }
            Some(CommandKind::RotateKey) if self.key_sha256 != ctx.key_sha256 => {
                let text = format!("the key is {}", ctx.key_sha256);
                return self.end(Outcome::Done, &text, effects);
            }
            Some(CommandKind::Reboot | CommandKind::RotateKey) => ctx.now_s <= self.deadline_s,
            // The next boot makes it: the helper knows whether it did. Before, it is never said to
            // have failed, because it may still be made.
            Some(CommandKind::FactoryReset { .. }) => true,
            None
            | Some(
                CommandKind::Report
                | CommandKind::ClearAlarm
                | CommandKind::NewRecoveryKey
                | CommandKind::TrySecrets
                | CommandKind::Attest
                | CommandKind::Logs { .. }
                | CommandKind::Diagnostic { .. }
                | CommandKind::SupportBundle { .. },
            ) => false,
        };
        if goes_on {
            effects.push(Effect::Run(self.clone()));
        } else {
            self.end(Outcome::Failed, INTERRUPTED, effects);
        }
    }

    fn end_with(&mut self, result: Result<String, String>, effects: &mut Vec<Effect>) {
        match result {
            Ok(text) => self.end(Outcome::Done, &text, effects),
            Err(why) => self.end(Outcome::Failed, &why, effects),
        }
    }

    fn end(&mut self, outcome: Outcome, text: &str, effects: &mut Vec<Effect>) {
        let detail = detail(text);
        effects.push(answer(&self.id, outcome, &detail));
        self.phase = Phase::Ended { outcome, detail };
    }
}

fn answer(id: &str, outcome: Outcome, detail: &str) -> Effect {
    let detail = (!detail.is_empty()).then(|| detail.to_owned());
    Effect::Answer(Acknowledgement { command: id.to_owned(), outcome, detail })
}

#[cfg(test)]
mod tests;
