//! `fleeti label`: keys of labels, and labels of many devices.

use super::request::{block_on, refused};
use super::server::Server;
use crate::CommandResult;
use crate::output::{Failure, Lines, Output, rows};
use clap::{Subcommand, ValueEnum};
use fleeti_client::ClientError;
use fleeti_core::id::LabelKey;
use fleeti_core::wire::labels::{
    IMPORT_MAX, ImportLabels, ImportRow, Imported, LabelKeyInfo, LabelType,
};
use std::path::{Path, PathBuf};

/// What to do with labels.
#[derive(Subcommand)]
pub enum Command {
    /// List label keys with their types.
    Keys {
        #[command(flatten)]
        server: Server,
    },
    /// Declare a label key, or change what values it can have.
    ///
    /// Values that devices have must fit the new type.
    Key {
        /// The key.
        key: LabelKey,
        /// The type of its values.
        #[arg(long = "type", value_enum, default_value = "text")]
        kind: TypeName,
        /// The values of the type `choice`, with commas between them.
        #[arg(long, value_delimiter = ',', required_if_eq("kind", "choice"))]
        values: Vec<String>,
        #[command(flatten)]
        server: Server,
    },
    /// Remove a label key that no device has.
    RemoveKey {
        /// The key.
        key: LabelKey,
        #[command(flatten)]
        server: Server,
    },
    /// Set names, notes and labels from a CSV file: of all its lines, or of none.
    ///
    /// The first line names the columns: `device` (the id, or a name that only one device has), and
    /// any of `name`, `note` and the label keys. An empty field leaves what the device has; `-`
    /// removes it. If one line is refused, nothing is stored.
    Import {
        /// The CSV file.
        file: PathBuf,
        /// Check the file and store nothing.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        server: Server,
    },
}

/// The type of a label's values.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TypeName {
    /// Any text of 1 to 64 characters.
    Text,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// One of some values.
    Choice,
}

pub fn run(command: Command, output: &Output) -> CommandResult {
    match command {
        Command::Keys { server } => {
            let keys = server.ask(async |c| c.label_keys().await)?;
            output.data(&keys, |keys| {
                rows(keys, "no label keys; declare one with `fleeti label key KEY`", shown)
            });
        }
        Command::Key { key, kind, values, server } => {
            let of = match kind {
                TypeName::Text => LabelType::Text,
                TypeName::Number => LabelType::Number,
                TypeName::Boolean => LabelType::Boolean,
                TypeName::Choice => LabelType::Choice { values },
            };
            let declared = server.ask(async |c| c.declare_label_key(&key, of).await)?;
            output.data(&declared, shown);
        }
        Command::RemoveKey { key, server } => {
            server.ask(async |c| c.remove_label_key(&key).await)?;
            output.data(&serde_json::json!({"key": key}), |_| format!("{key} is removed"));
        }
        Command::Import { file, dry_run, server } => import(&file, dry_run, &server, output)?,
    }
    Ok(())
}

fn shown(key: &LabelKeyInfo) -> String {
    let values = match &key.of {
        LabelType::Choice { values } => format!(" of {}", values.join(", ")),
        LabelType::Text | LabelType::Number | LabelType::Boolean => String::new(),
    };
    format!("{:<24} {}{values}", key.key.as_str(), key.of.as_str())
}

fn import(file: &Path, dry_run: bool, server: &Server, output: &Output) -> CommandResult {
    let request = ImportLabels { rows: read(file)?, dry_run };
    let client = server.client()?;
    let imported =
        block_on(async { client.import_labels(&request).await.map_err(|e| explained(file, e)) })?;
    output.data(&imported, |Imported { devices, changed, stored }| match stored {
        true => format!("{changed} of {devices} devices are changed"),
        false => format!("{changed} of {devices} devices would change; nothing is stored"),
    });
    Ok(())
}

/// The error of a server, with each refused line of the file.
fn explained(file: &Path, e: ClientError) -> Failure {
    let ClientError::Refused(problem) = &e else { return refused(e) };
    let line = |e: &fleeti_core::wire::problem::FieldError| {
        format!("{}: {}: {}; {}", file.display(), e.path, e.message, e.remedy)
    };
    let details: Vec<_> = problem.errors.iter().map(line).collect();
    refused(e).with_details(Lines::from(details))
}

/// The value of a field that removes what the device has.
const REMOVE: &str = "-";

fn read(path: &Path) -> Result<Vec<ImportRow>, Failure> {
    let wrong = |e: String| {
        let hint = "the first line names the columns: device, and any of name, note and label keys";
        Failure::new(format!("{}: {e}", path.display()), Some(hint))
    };
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_path(path)
        .map_err(|e| wrong(e.to_string()))?;
    let headers = reader.headers().map_err(|e| wrong(e.to_string()))?.clone();
    let columns: Vec<_> = headers.iter().map(|h| h.trim_start_matches('\u{feff}')).collect();
    let column = columns.iter().position(|name| *name == "device");
    let column = column.ok_or_else(|| wrong("there is no column device".into()))?;
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| wrong(e.to_string()))?;
        let line = record.position().map_or(0, csv::Position::line);
        let mut row = ImportRow {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            device: record.get(column).unwrap_or_default().to_owned(),
            name: None,
            note: None,
            labels: std::collections::BTreeMap::new(),
        };
        for (name, field) in columns.iter().zip(&record) {
            if field.is_empty() || *name == "device" {
                continue;
            }
            let value = if field == REMOVE { String::new() } else { field.to_owned() };
            match *name {
                "name" => row.name = Some(value),
                "note" => row.note = Some(value),
                key => {
                    let key = key.parse().map_err(|e| wrong(format!("a column: {e}")))?;
                    row.labels.insert(key, value);
                }
            }
        }
        rows.push(row);
        if rows.len() > IMPORT_MAX {
            return Err(wrong(format!("more than {IMPORT_MAX} devices")));
        }
    }
    Ok(rows)
}
