//! HTTP/1.1, both sides of it, as clouds speak it: bounded in time, in size and in connections, and exact about what was
//! sent.

pub mod client;
pub mod server;

pub use bytes::Bytes;
pub use hyper::header::HeaderValue;
pub use hyper::http::request::{Builder, Parts};
pub use hyper::{HeaderMap, Method, Request, Response, StatusCode, header};

/// Returns an answer with a body of that type.
pub fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
