//! A private PostgreSQL.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{program, run, server_dir, text, unique};
use crate::support::janitor::{Janitor, Job, free_port};

/// Where Debian and others keep the programs, newest first.
const PLACES: &[&str] = &[
    "/usr/lib/postgresql/18/bin",
    "/usr/lib/postgresql/17/bin",
    "/usr/lib/postgresql/16/bin",
    "/usr/lib/postgresql/15/bin",
    "/usr/lib/postgresql/14/bin",
];

/// A PostgreSQL with every safety on, trusting everybody on loopback.
pub(crate) struct Postgres {
    janitor: Janitor,
    port: u16,
    programs: PathBuf,
}

/// The settings that we ship.
const SETTINGS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/servers/postgresql.conf"));

impl Postgres {
    /// Starts a PostgreSQL of the caller's own, with the settings that we ship.
    pub(crate) fn start() -> Self {
        let postgres = program("postgres", PLACES, "postgresql");
        let programs = postgres.parent().expect("a program lies in a directory").to_owned();
        let (dir, port) = (server_dir("postgres"), free_port());
        let data = dir.join("data");
        let user = unprivileged(&dir);
        let mut initdb = user.clone();
        initdb.extend([text(programs.join("initdb")), "--pgdata".into(), text(&data), "--username=postgres".into()]);
        initdb.extend(["--auth=trust".into(), "--encoding=UTF8".into(), "--locale=C".into()]);
        run(Command::new(&initdb[0]).args(&initdb[1..]).current_dir(&dir));
        let settings = data.join("postgresql.conf");
        let found = std::fs::read_to_string(&settings).expect("what initdb wrote");
        // Of two lines for one setting the later holds.
        std::fs::write(&settings, found + SETTINGS).expect("a file that initdb wrote");

        let mut command = user;
        command.extend([text(postgres), "-D".into(), text(&data), "-p".into(), port.to_string()]);
        for setting in ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=300"] {
            command.extend(["-c".into(), setting.into()]);
        }
        // Immediate shutdown: nothing is kept, but shared memory is given back.
        let janitor = Janitor::hire(&Job { dir: &dir, end_signal: "QUIT", command: &command, env: &[] });
        let server = Self { janitor, port, programs };
        server.restart();
        server
    }

    /// Returns the port on loopback.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Creates an empty database and returns its URL.
    pub(crate) fn database(&self) -> String {
        let name = unique("it");
        run(self.client("createdb").arg(&name));
        format!("postgres://postgres@127.0.0.1:{}/{name}", self.port)
    }

    /// Kills the server like a power cut of the process: `SIGKILL`, its data stays.
    pub(crate) fn kill(&self) {
        self.janitor.end("KILL");
    }

    /// Starts the killed server again, on the same port and data.
    pub(crate) fn restart(&self) {
        self.janitor.start(|| self.client("pg_isready").arg("-q").status().is_ok_and(|status| status.success()));
    }

    fn client(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &self.port.to_string()]).current_dir("/");
        command
    }
}

/// Returns what runs a command as a user that PostgreSQL accepts (it refuses root), who then owns `dir`.
fn unprivileged(dir: &Path) -> Vec<String> {
    if run(Command::new("id").arg("-u")).trim() != "0" {
        return Vec::new();
    }
    run(Command::new("chown").arg("postgres:postgres").arg(dir));
    ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"].map(str::to_owned).into()
}
