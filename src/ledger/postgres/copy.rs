//! Rows in PostgreSQL's binary COPY format, written by hand: this is where the ledger's volume goes through.

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::SinkExt;
use uuid::Uuid;

use super::pool::Conn;
use super::rows::Micros;

/// Bytes after which a chunk is sent, so that the server reads while we write.
const CHUNK: usize = 128 * 1024;

const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// One row under construction.
pub(super) struct Row<'a>(&'a mut BytesMut);

/// Copies one row per item into `columns` of a table.
pub(super) async fn copy_in<T>(
    conn: &Conn,
    target: &str,
    columns: i16,
    items: &[T],
    write: impl Fn(&T, &mut Row<'_>),
) -> Result<(), tokio_postgres::Error> {
    if items.is_empty() {
        return Ok(());
    }
    let statement = conn.statement(&format!("copy {target} from stdin binary")).await?;
    let mut sink = std::pin::pin!(conn.client.copy_in::<_, Bytes>(&statement).await?);
    let mut chunk = BytesMut::with_capacity(CHUNK + 8 * 1024);
    chunk.put_slice(HEADER);
    for item in items {
        chunk.put_i16(columns);
        write(item, &mut Row(&mut chunk));
        if chunk.len() >= CHUNK {
            sink.send(chunk.split().freeze()).await?;
            chunk.reserve(CHUNK + 8 * 1024);
        }
    }
    chunk.put_i16(-1);
    sink.send(chunk.freeze()).await?;
    sink.finish().await?;
    Ok(())
}

impl Row<'_> {
    pub(super) fn null(&mut self) -> &mut Self {
        self.0.put_i32(-1);
        self
    }

    pub(super) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        // What is stored is bounded by a queue frame, far below 2 GiB.
        self.0.put_i32(i32::try_from(value.len()).unwrap_or(i32::MAX));
        self.0.put_slice(value);
        self
    }

    pub(super) fn text(&mut self, value: &str) -> &mut Self {
        self.bytes(value.as_bytes())
    }

    pub(super) fn uuid(&mut self, value: Uuid) -> &mut Self {
        self.key(value.into_bytes())
    }

    pub(super) fn key(&mut self, value: [u8; 16]) -> &mut Self {
        self.0.put_i32(16);
        self.0.put_slice(&value);
        self
    }

    pub(super) fn small(&mut self, value: i16) -> &mut Self {
        self.0.put_i32(2);
        self.0.put_i16(value);
        self
    }

    pub(super) fn int(&mut self, value: i32) -> &mut Self {
        self.0.put_i32(4);
        self.0.put_i32(value);
        self
    }

    pub(super) fn big(&mut self, value: i64) -> &mut Self {
        self.0.put_i32(8);
        self.0.put_i64(value);
        self
    }

    pub(super) fn flag(&mut self, value: bool) -> &mut Self {
        self.0.put_i32(1);
        self.0.put_u8(value.into());
        self
    }

    pub(super) fn time(&mut self, value: impl Into<Micros>) -> &mut Self {
        self.big(value.into().on_the_wire())
    }

    /// Writes an array of texts, or null for none.
    pub(super) fn texts(&mut self, values: &[Box<str>]) -> &mut Self {
        if values.is_empty() {
            return self.null();
        }
        const TEXT_OID: i32 = 25;
        let texts: usize = values.iter().map(|value| 4 + value.len()).sum();
        self.0.put_i32(i32::try_from(20 + texts).unwrap_or(i32::MAX));
        for word in [1, 0, TEXT_OID, i32::try_from(values.len()).unwrap_or(i32::MAX), 1] {
            self.0.put_i32(word);
        }
        for value in values {
            self.text(value);
        }
        self
    }

    /// Writes a value, or null for none.
    pub(super) fn maybe<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T) -> &mut Self) -> &mut Self {
        match value {
            Some(value) => write(self, value),
            None => self.null(),
        }
    }
}
