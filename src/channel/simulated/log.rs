//! The log of hand-overs: what a test reads after a crash to count how often a job went out.

use std::fmt::Write as _;
use std::path::Path;

use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt;
use tracing::error;

use crate::channel::Handover;

/// Appends lines to a file, on disk before it returns.
pub(super) struct Log {
    file: Option<File>,
    lines: String,
}

impl Log {
    /// Opens the file at `path`, if there is one to be written.
    pub(super) async fn open(path: Option<&Path>) -> Self {
        let file = match path {
            Some(path) => OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .await
                .inspect_err(|problem| error!(%problem, "cannot open the log of hand-overs"))
                .ok(),
            None => None,
        };
        Self { file, lines: String::new() }
    }

    pub(super) fn add(&mut self, handover: &Handover) {
        if self.file.is_some() {
            // Writing to a string cannot fail.
            let _infallible = writeln!(self.lines, "{} {}", handover.job, handover.attempt);
        }
    }

    /// Returns once the lines are on disk.
    pub(super) async fn sync(&mut self) {
        let Some(file) = self.file.as_mut().filter(|_| !self.lines.is_empty()) else { return };
        let written = async {
            file.write_all(self.lines.as_bytes()).await?;
            file.flush().await?;
            file.sync_data().await
        };
        if let Err(problem) = written.await {
            error!(%problem, "cannot write the log of hand-overs");
        }
        self.lines.clear();
    }
}
