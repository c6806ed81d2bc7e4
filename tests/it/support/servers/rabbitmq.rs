//! A private RabbitMQ.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{program, run, server_dir, text, unique};
use crate::support::janitor::{Janitor, Job, free_port};

const PLACES: &[&str] = &["/usr/lib/rabbitmq/bin"];

/// The part of the settings we ship that holds on any machine.
const ADVANCED: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/servers/rabbitmq-advanced.config"));

/// A RabbitMQ node without plugins, with its own cookie, name service and data.
pub(crate) struct RabbitMq {
    janitor: Janitor,
    port: u16,
    scripts: PathBuf,
    env: Vec<(String, String)>,
    vhosts: u32,
    next: AtomicU32,
}

impl RabbitMq {
    /// Starts a RabbitMQ of the caller's own, with so many virtual hosts to give away.
    pub(crate) fn start(vhosts: u32) -> Self {
        let server = program("rabbitmq-server", PLACES, "rabbitmq-server");
        let scripts = server.parent().expect("a program lies in a directory").to_owned();
        let (dir, port, names_port) = (server_dir("rabbitmq"), free_port(), free_port());
        configure(&dir, port, vhosts);
        let env = environment(&dir, names_port);
        // The node's name service runs beside it in the janitor's process group, and ends with it; started by RabbitMQ
        // it would live on for ever. A second one finds the port taken and ends at once.
        let script = "epmd -port \"$ERL_EPMD_PORT\" & exec \"$0\"";
        let command = ["sh".into(), "-c".into(), script.into(), text(server)];
        let janitor = Janitor::hire(&Job { dir: &dir, end_signal: "KILL", command: &command, env: &env });
        let server = Self { janitor, port, scripts, env, vhosts, next: AtomicU32::new(0) };
        server.restart();
        server
    }

    /// Returns the AMQP port on loopback.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns the URL of an empty virtual host that no other test of this binary uses.
    pub(crate) fn vhost(&self) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        assert!(number < self.vhosts, "every one of {} virtual hosts is given away", self.vhosts);
        format!("amqp://guest:guest@127.0.0.1:{}/it{number}", self.port)
    }

    /// Runs `rabbitmqctl` on this node and returns what it prints.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> String {
        run(Command::new(self.scripts.join("rabbitmqctl"))
            .arg("--quiet")
            .args(arguments)
            .envs(self.env.iter().map(|(name, value)| (name, value))))
    }

    /// Kills the node like a power cut of the process: `SIGKILL`, its data stays.
    pub(crate) fn kill(&self) {
        self.janitor.end("KILL");
    }

    /// Starts the killed node again, on the same port and data.
    pub(crate) fn restart(&self) {
        self.janitor.start(|| answers(self.port).unwrap_or(false));
    }
}

fn configure(dir: &Path, port: u16, vhosts: u32) {
    let conf = format!(
        "listeners.tcp.1 = 127.0.0.1:{port}\n\
         load_definitions = {}/definitions.json\n\
         log.console = true\n\
         log.console.level = warning\n\
         vm_memory_high_watermark.absolute = 2GB\n\
         disk_free_limit.absolute = 50MB\n\
         raft.wal_max_size_bytes = 67108864\n",
        dir.display()
    );
    let (mut hosts, mut grants) = (String::new(), String::new());
    for number in 0..vhosts {
        let comma = if number == 0 { "" } else { "," };
        let _infallible = write!(hosts, "{comma}{{\"name\":\"it{number}\"}}");
        let _infallible = write!(
            grants,
            "{comma}{{\"user\":\"guest\",\"vhost\":\"it{number}\",\"configure\":\".*\",\"write\":\".*\",\"read\":\".*\"}}"
        );
    }
    let definitions = format!(
        "{{\"users\":[{{\"name\":\"guest\",\"password\":\"guest\",\"tags\":\"administrator\",\"limits\":{{}}}}],\
          \"vhosts\":[{hosts}],\"permissions\":[{grants}]}}"
    );
    for (name, content) in [
        ("rabbitmq.conf", conf.as_str()),
        ("advanced.config", ADVANCED),
        ("definitions.json", &definitions),
        ("plugins", "[]."),
        ("env.conf", ""),
    ] {
        fs::write(dir.join(name), content).expect("a writable temporary directory");
    }
}

fn environment(dir: &Path, names_port: u16) -> Vec<(String, String)> {
    let inside = |name: &str| text(dir.join(name));
    [
        ("HOME", text(dir)),
        ("ERL_EPMD_PORT", names_port.to_string()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".into()),
        ("RABBITMQ_NODENAME", format!("{}@localhost", unique("it"))),
        ("RABBITMQ_DIST_PORT", free_port().to_string()),
        ("RABBITMQ_CONFIG_FILE", inside("rabbitmq.conf")),
        ("RABBITMQ_ADVANCED_CONFIG_FILE", inside("advanced.config")),
        ("RABBITMQ_CONF_ENV_FILE", inside("env.conf")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", inside("plugins")),
        ("RABBITMQ_MNESIA_BASE", inside("mnesia")),
        ("RABBITMQ_LOG_BASE", inside("logs")),
        ("RABBITMQ_LOGS", "-".into()),
        ("RABBITMQ_PID_FILE", inside("pid")),
        ("ERL_CRASH_DUMP", "/dev/null".into()),
        // The script then becomes the node, instead of waiting for it: a signal to the one is a signal to the other.
        ("RABBITMQ_ALLOW_INPUT", "1".into()),
        // One scheduler, which does not spin: the machine has other work. A message passes four Erlang processes, and on
        // two schedulers each may have to wake the other one first.
        (
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none -noinput -kernel inet_dist_use_interface {127,0,0,1}"
                .into(),
        ),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Asks for the first frame of a connection, which a node sends once it has booted.
fn answers(port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"AMQP\x00\x00\x09\x01")?;
    let mut frame_type = [0];
    stream.read_exact(&mut frame_type)?;
    Ok(frame_type == [1])
}
