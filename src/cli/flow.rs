//! `postrider flow`: checks and draws call flows, without a service.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use super::print::Output;
use crate::channel::call::flow::{self, Flow, Form, Problem};

/// Shown below the help of `flow`.
pub(super) const EXAMPLES: &str = "\
A flow, in TOML or JSON:
  start = \"ask\"
  [nodes.ask]
  say = { text = \"Your order {order} is on its way. Press 1 for the link, 2 to stop.\" }
  next = \"menu\"
  [nodes.menu]
  gather = { menu = { \"1\" = \"link\", \"2\" = \"stop\" }, wait = \"5s\", retries = 1 }
  [nodes.link]
  submit = { kind = \"sms\", template = \"order-link\" }
  [nodes.stop]
  opt_out = \"brand\"

Examples:
  postrider flow check order.toml
  postrider flow draw order.toml > order.mmd";

/// What to do with a flow.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Say whether flows hold, and everything that is wrong with them; exit code 0 if all do
    Check {
        /// The files: *.json is JSON, all others are TOML; - is standard input
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Print JSON, one object a line
        #[arg(long)]
        json: bool,
    },
    /// Draw a flow as a Mermaid flowchart
    Draw {
        /// The file: *.json is JSON, all others are TOML; - is standard input
        file: PathBuf,
    },
}

/// Why a file holds no flow.
pub(super) enum Bad {
    Unreadable(io::Error),
    Wrong(Vec<Problem>),
}

impl Command {
    /// Returns the exit code: 0 if all flows hold, 1 if one does not, 64 if a file cannot be read.
    pub(super) fn run(self) -> io::Result<ExitCode> {
        match self {
            Self::Check { files, json } => {
                let mut worst = 0;
                for file in files {
                    let found = read(&file);
                    worst = worst.max(found.as_ref().err().map_or(0, Bad::exit_code));
                    Output::new(json).object(&shown(&file, &found), || said(&file, &found))?;
                }
                Ok(ExitCode::from(worst))
            }
            Self::Draw { file } => match read(&file) {
                Ok(flow) => {
                    io::stdout().write_all(flow.to_mermaid().as_bytes())?;
                    Ok(ExitCode::SUCCESS)
                }
                Err(bad) => {
                    let code = ExitCode::from(bad.exit_code());
                    writeln!(io::stderr(), "{}", said(&file, &Err(bad)))?;
                    Ok(code)
                }
            },
        }
    }
}

// === impl Bad ===

impl Bad {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Unreadable(_) => super::USAGE,
            Self::Wrong(_) => super::REFUSED,
        }
    }

    pub(super) fn problems(&self) -> Vec<String> {
        match self {
            Self::Unreadable(error) => vec![format!("cannot be read: {error}")],
            Self::Wrong(problems) => problems.iter().map(ToString::to_string).collect(),
        }
    }
}

pub(super) fn read(file: &Path) -> Result<Flow, Bad> {
    let text = if file == Path::new("-") {
        let mut text = String::new();
        io::stdin().take(flow::BYTES_MAX as u64 + 1).read_to_string(&mut text).map(|_| text)
    } else {
        fs::File::open(file).and_then(|file| {
            let mut text = String::new();
            file.take(flow::BYTES_MAX as u64 + 1).read_to_string(&mut text).map(|_| text)
        })
    };
    let text = text.map_err(Bad::Unreadable)?;
    let json = file.extension().is_some_and(|extension| extension == "json") || text.trim_start().starts_with('{');
    flow::parse(&text, if json { Form::Json } else { Form::Toml }).map_err(Bad::Wrong)
}

fn shown(file: &Path, found: &Result<Flow, Bad>) -> Value {
    let (holds, problems) = match found {
        Ok(_) => (true, vec![]),
        Err(bad) => (false, bad.problems()),
    };
    let nodes = found.as_ref().map_or(0, |flow| flow.nodes().count());
    let variables = found.as_ref().map_or(vec![], Flow::variables);
    json!({"file": file, "holds": holds, "nodes": nodes, "variables": variables, "problems": problems})
}

fn said(file: &Path, found: &Result<Flow, Bad>) -> String {
    let file = file.display();
    match found {
        Ok(flow) => {
            let variables = flow.variables().join(", ");
            let needs =
                if variables.is_empty() { String::new() } else { format!(", needs the parameters {variables}") };
            format!("{file}: holds; {} nodes{needs}", flow.nodes().count())
        }
        Err(bad) => bad.problems().iter().map(|problem| format!("{file}: {problem}")).collect::<Vec<_>>().join("\n"),
    }
}
