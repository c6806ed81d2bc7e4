//! Texts spoken by a command, and kept: what was said once is not spoken again.
//!
//! The command gets the text on its standard input and writes a WAV file to its standard output. Both are bounded, in time
//! and size; one that hangs is killed, and what does not read is not played to anybody.

mod wav;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use ring::digest::{Context, SHA256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::{Mutex, Semaphore};

use crate::domain::time::Clock;

/// Texts that are spoken at the same time.
const AT_ONCE: usize = 2;
/// Longest recording that a command may give: five minutes of 48 kHz.
const WAV_LEN_MAX: u64 = 32 * 1024 * 1024;
/// What is kept at most, in files and bytes: about nine hours of speech.
const KEPT_FILES_MAX: usize = 20_000;
const KEPT_LEN_MAX: u64 = 512 * 1024 * 1024;
/// Files are counted again after so many new ones.
const COUNT_EVERY: u32 = 256;

/// Speaks texts. Cheap to clone.
#[derive(Clone)]
pub(super) struct Speech {
    shared: Arc<Shared>,
}

struct Shared {
    command: Vec<Box<str>>,
    dir: PathBuf,
    clock: Clock,
    places: Semaphore,
    new_files: Mutex<u32>,
}

/// Why a text could not be spoken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unspoken {
    /// No command is set.
    #[error("no speech command is set")]
    NoCommand,
    /// It could not be started, or its files not be kept.
    #[error("the speech command or its directory: {0}")]
    Io(#[from] std::io::Error),
    /// It took too long.
    #[error("the speech command did not end in time and was killed")]
    TooSlow,
    /// It said that it failed.
    #[error("the speech command failed: {0}")]
    Failed(std::process::ExitStatus),
    /// What it wrote is no recording.
    #[error("the speech command wrote no recording: {0}")]
    NotWav(#[from] wav::BadWav),
}

// === impl Speech ===

impl Speech {
    /// Returns speech by `command`, kept in `dir`.
    pub(super) fn new(command: Vec<Box<str>>, dir: PathBuf, clock: &Clock) -> Self {
        let (places, new_files) = (Semaphore::new(AT_ONCE), Mutex::new(0));
        Self { shared: Arc::new(Shared { command, dir, clock: clock.clone(), places, new_files }) }
    }

    /// Returns the file of a spoken text, without the ending that says its format.
    ///
    /// # Errors
    /// [`Unspoken`]; within `limit`.
    pub(super) async fn file(&self, text: &str, locale: &str, limit: Duration) -> Result<PathBuf, Unspoken> {
        let stem = self.shared.dir.join(self.shared.name(text, locale));
        let file = stem.with_extension("wav");
        if tokio::fs::try_exists(&file).await? {
            return Ok(stem);
        }
        let made = self.shared.clock.timeout(limit, self.shared.make(text, locale, &file)).await;
        made.map_err(|_| Unspoken::TooSlow)??;
        Ok(stem)
    }
}

impl Shared {
    /// Returns the name under which a text is kept: nobody can tell the text from it.
    fn name(&self, text: &str, locale: &str) -> String {
        let mut digest = Context::new(&SHA256);
        for part in self.command.iter().map(|word| &**word).chain([locale, text]) {
            digest.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            digest.update(part.as_bytes());
        }
        digest.finish().as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    async fn make(&self, text: &str, locale: &str, file: &Path) -> Result<(), Unspoken> {
        // The semaphore is never closed.
        let _place = self.places.acquire().await.ok();
        if tokio::fs::try_exists(file).await? {
            return Ok(());
        }
        let spoken = self.speak(text, locale).await?;
        let telephone = wav::telephone(&spoken)?;
        tokio::fs::create_dir_all(&self.dir).await?;
        // Asterisk must never find half a file.
        let temporary = file.with_extension(format!("{:x}", fastrand::u64(..)));
        tokio::fs::write(&temporary, telephone).await?;
        tokio::fs::rename(&temporary, file).await?;
        self.tidy().await;
        Ok(())
    }

    async fn speak(&self, text: &str, locale: &str) -> Result<Vec<u8>, Unspoken> {
        let (program, arguments) = self.command.split_first().ok_or(Unspoken::NoCommand)?;
        let language = locale.split(['-', '_']).next().unwrap_or_default();
        let language = if language.is_empty() { "en" } else { language };
        let arguments = arguments.iter().map(|word| word.replace("{locale}", locale).replace("{language}", language));
        let mut child = Command::new(&**program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let ask = async {
            if let Some(mut stdin) = stdin {
                // A command that reads nothing has its own reasons: what it writes tells.
                let _unread = stdin.write_all(text.as_bytes()).await;
            }
        };
        let mut spoken = Vec::new();
        let hear = async {
            match stdout {
                Some(stdout) => stdout.take(WAV_LEN_MAX).read_to_end(&mut spoken).await,
                None => Ok(0),
            }
        };
        let (_, heard) = tokio::join!(ask, hear);
        heard?;
        if u64::try_from(spoken.len()).unwrap_or(u64::MAX) >= WAV_LEN_MAX {
            return Err(wav::BadWav::TooLong.into());
        }
        let status = child.wait().await?;
        if status.success() { Ok(spoken) } else { Err(Unspoken::Failed(status)) }
    }

    /// Forgets the oldest of what is kept, where it is too much. What cannot be forgotten now is found the next time.
    async fn tidy(&self) {
        let mut new_files = self.new_files.lock().await;
        *new_files += 1;
        if !new_files.is_multiple_of(COUNT_EVERY) && *new_files != 1 {
            return;
        }
        let Ok(mut entries) = tokio::fs::read_dir(&self.dir).await else { return };
        let mut files = Vec::new();
        while let Ok(Some(entry)) = entries.next_entry().await {
            if let Ok(about) = entry.metadata().await
                && let Ok(changed) = about.modified()
            {
                files.push((changed, about.len(), entry.path()));
            }
        }
        files.sort_unstable();
        let (mut count, mut len) = (files.len(), files.iter().map(|(_, len, _)| len).sum::<u64>());
        for (_, own, path) in files {
            if count <= KEPT_FILES_MAX && len <= KEPT_LEN_MAX {
                return;
            }
            (count, len) = (count - 1, len - own);
            let _left = tokio::fs::remove_file(path).await;
        }
    }
}

impl fmt::Debug for Speech {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Speech").field("dir", &self.shared.dir).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(2);

    fn speech(dir: &Path, script: &str) -> Speech {
        let command = ["sh", "-c", script, "speech", "{language}"].map(Box::from).into();
        Speech::new(command, dir.to_owned(), &Clock::system())
    }

    #[tokio::test]
    async fn a_text_is_spoken_once_and_never_read_from_a_command_line() {
        let dir = tempfile::tempdir().unwrap();
        let wav = dir.path().join("wav");
        std::fs::write(&wav, wav::tests::wav(22_050, 1, &[1_000; 22_050])).unwrap();
        let script =
            format!("cat > {0}/text; echo \"$1\" >> {0}/languages; cat {1}", dir.path().display(), wav.display());
        let kept = dir.path().join("kept");
        let speech = speech(&kept, &script);
        let text = "$(touch /tmp/never); '您好'";
        let first = speech.file(text, "zh-CN", LIMIT).await.unwrap();
        assert_eq!(speech.file(text, "zh-CN", LIMIT).await.unwrap(), first);
        assert_ne!(speech.file(text, "", LIMIT).await.unwrap(), first);
        assert_eq!(std::fs::read_to_string(dir.path().join("text")).unwrap(), text);
        assert_eq!(std::fs::read_to_string(dir.path().join("languages")).unwrap(), "zh\nen\n");
        // One second of 8 kHz, 16 bit, and its head.
        assert_eq!(std::fs::metadata(first.with_extension("wav")).unwrap().len(), 44 + 16_000);
        assert_eq!(std::fs::read_dir(&kept).unwrap().count(), 2);
    }

    #[tokio::test]
    async fn a_command_that_hangs_fails_or_writes_rubbish_costs_its_own_text_alone() {
        let dir = tempfile::tempdir().unwrap();
        // A machine that is busy takes its time to start a program.
        let said = async |script: &str, secs: u64| {
            speech(dir.path(), script).file("x", "en", Duration::from_secs(secs)).await.unwrap_err().to_string()
        };
        assert!(said("sleep 60", 1).await.contains("killed"));
        assert!(said("cat > /dev/null; exit 3", 60).await.contains("exit status: 3"));
        assert!(said("echo rubbish", 60).await.contains("no recording"));
        let endless = said("yes", 5).await;
        assert!(endless.contains("killed") || endless.contains("no recording"), "{endless}");
        let none = Speech::new(vec![], dir.path().to_owned(), &Clock::system());
        assert!(matches!(none.file("x", "en", LIMIT).await, Err(Unspoken::NoCommand)));
        let missing = Speech::new(vec!["/no/such/program".into()], dir.path().to_owned(), &Clock::system());
        assert!(matches!(missing.file("x", "en", LIMIT).await, Err(Unspoken::Io(_))));
    }
}
