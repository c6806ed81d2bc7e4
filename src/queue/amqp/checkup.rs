//! A look at the server from outside: changes nothing on it.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::BasicPublishOptions;
use lapin::tcp::OwnedTLSConfig;
use lapin::types::ShortString;
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{BasicProperties, Connection, ConnectionProperties, Event};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::topology::describe;
use crate::domain::checkup::{self, Finding};
use crate::domain::time::Clock;
use crate::queue::QueueError;

const ABOUT: &str = "queue.url";
/// The oldest version whose quorum queues know every argument of ours.
const OLDEST: (u32, u32) = (3, 10);
/// How long the server may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long a server with an alarm may take to say so, after a message that it would have to take.
const ALARM_MAX: Duration = Duration::from_secs(1);
/// Longest greeting that is read; RabbitMQ's has about 500 bytes.
const GREETING_MAX: usize = 8 * 1024;

/// Looks at the server behind `url`.
pub async fn checkup(url: &str, clock: &Clock) -> Vec<Finding> {
    let answer = clock.timeout(ANSWER_MAX, look(url, clock)).await;
    let answer = answer.unwrap_or_else(|_| Err(QueueError::Unreachable("no answer in time".into())));
    match answer {
        Ok(findings) => findings,
        Err(error) => vec![Finding::fault(
            ABOUT,
            error.to_string(),
            "are host, user, password and virtual host right, and is RabbitMQ running and reachable?",
        )],
    }
}

async fn look(url: &str, clock: &Clock) -> Result<Vec<Finding>, QueueError> {
    let uri: AMQPUri = url.parse().map_err(|error: String| QueueError::Refused(format!("the URL: {error}").into()))?;
    let mut findings = Vec::new();
    if uri.scheme == AMQPScheme::AMQP {
        let version = greeting(&uri).await.map_err(|error| QueueError::Unreachable(error.to_string().into()))?;
        findings.push(checkup::version(ABOUT, "RabbitMQ", &version, OLDEST));
    }
    let runtime = lapin::runtime::default_runtime().map_err(describe)?;
    let properties = ConnectionProperties::default().with_connection_name("postrider doctor".into());
    let connection = Connection::connect_uri_with_config(uri, properties, OwnedTLSConfig::default(), runtime)
        .await
        .map_err(describe)?;
    findings.push(alarms(&connection, clock).await?);
    // It may be blocked, and would not hear this.
    let _late = clock.timeout(ALARM_MAX, connection.close(200, "done".into())).await;
    findings.push(Finding::unseen(
        ABOUT,
        "AMQP does not tell the limits of disk and memory",
        "on the server: rabbitmqctl environment | grep -E 'disk_free_limit|consumer_timeout'; see deploy/servers/rabbitmq.conf",
    ));
    Ok(findings)
}

/// Refuses a server that is too old. Over TLS its version is not asked for.
///
/// # Errors
/// [`QueueError`] for one that is, or that does not answer.
pub(super) async fn refuse_old(url: &str, clock: &Clock) -> Result<(), QueueError> {
    let Ok(uri) = url.parse::<AMQPUri>() else { return Ok(()) };
    if uri.scheme != AMQPScheme::AMQP {
        return Ok(());
    }
    let unreachable = |error: std::io::Error| QueueError::Unreachable(error.to_string().into());
    let version = clock.timeout(ANSWER_MAX, greeting(&uri)).await;
    let version = version.map_err(|_| QueueError::Unreachable("no answer in time".into()))?.map_err(unreachable)?;
    checkup::too_old("RabbitMQ", &version, OLDEST).map_or(Ok(()), |why| Err(QueueError::Refused(why)))
}

/// Publishes a message to no queue: a server with an alarm answers that it takes nothing.
async fn alarms(connection: &Connection, clock: &Clock) -> Result<Finding, QueueError> {
    let mut events = Box::pin(connection.events_listener());
    let channel = connection.create_channel().await.map_err(describe)?;
    let nowhere = ShortString::from("postrider.doctor.nowhere");
    let options = BasicPublishOptions::default();
    channel
        .basic_publish(ShortString::default(), nowhere, options, b"", BasicProperties::default())
        .await
        .map_err(describe)?;
    let blocked = async {
        while let Some(event) = events.next().await {
            if let Event::ConnectionBlocked(why) = event {
                return why;
            }
        }
        String::new()
    };
    Ok(match clock.timeout(ALARM_MAX, blocked).await {
        Ok(why) => Finding::fault(ABOUT, format!("the server takes no messages: {why}"), "give it disk or memory"),
        Err(_) => Finding::fine(ABOUT, "no alarm: the server takes messages"),
    })
}

/// Returns the version in the server's greeting, which comes before any log-in.
async fn greeting(uri: &AMQPUri) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((uri.authority.host.as_str(), uri.authority.port)).await?;
    stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
    let mut head = [0; 7];
    stream.read_exact(&mut head).await?;
    let length = usize::try_from(u32::from_be_bytes([head[3], head[4], head[5], head[6]])).unwrap_or(usize::MAX);
    let mut body = vec![0; length.min(GREETING_MAX)];
    stream.read_exact(&mut body).await?;
    Ok(version_in(&body).unwrap_or_default())
}

/// Returns the property `version` of connection.start: a short string as name, `S`, a long string as value
/// (AMQP 0-9-1, 4.2.5).
fn version_in(body: &[u8]) -> Option<String> {
    let name = b"\x07versionS";
    let at = body.windows(name.len()).position(|window| window == name)? + name.len();
    let (length, rest) = body.get(at..)?.split_at_checked(4)?;
    let length = usize::try_from(u32::from_be_bytes(length.try_into().ok()?)).ok()?;
    String::from_utf8(rest.get(..length)?.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_and_garbage_is_none() {
        let good = b"\x00\x0a\x00\x0a\x00\x09\x00\x00\x00\x20\x07productS\x00\x00\x00\x08RabbitMQ\x07versionS\x00\x00\x00\x063.10.8";
        assert_eq!(version_in(good).as_deref(), Some("3.10.8"));
        for end in 0..good.len() {
            assert_eq!(version_in(&good[..end]), None, "{end}");
        }
        assert_eq!(version_in(b"\x07versionS\xff\xff\xff\xff1"), None);
        assert_eq!(version_in(b"\x07versionS\x00\x00\x00\x01\xff"), None);
    }
}
