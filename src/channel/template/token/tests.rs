//! How long a token is waited for.

use std::num::NonZeroU32;

use super::*;
use crate::shutdown::Tasks;

/// A vault that says the same for ever, or nothing.
struct Stuck(Option<fn() -> Lent>);

impl Vault for Stuck {
    fn borrow<'a>(&'a self, _name: &'a str, _refused: Option<&'a str>) -> Later<'a, Lent> {
        match self.0 {
            Some(say) => Box::pin(std::future::ready(say())),
            None => Box::pin(std::future::pending()),
        }
    }

    fn lend<'a>(&'a self, _name: &'a str, _token: &'a Held) -> Later<'a, ()> {
        Box::pin(std::future::pending())
    }
}

/// A platform that gives a token to whoever asks.
struct Open;

impl Gate for Open {
    fn request(&self) -> Option<Request<Bytes>> {
        Request::get("/token").body(Bytes::new()).ok()
    }

    fn read(&self, _answer: &Response<Bytes>) -> Result<Fresh, Box<str>> {
        Ok(Fresh { token: "t1".into(), life: Duration::from_secs(7_200) })
    }
}

/// Returns a holder at `endpoint` with a vault, and what it asks with.
fn holder(endpoint: &str, vault: Stuck) -> (Arc<Tokens>, Client) {
    let (tasks, clock) = (Tasks::new(), Clock::system());
    let client = Client::new(&endpoint.parse().unwrap(), None, NonZeroU32::MIN, &tasks, &clock).unwrap();
    (Arc::new(Tokens::new(Box::new(Open), &clock, Arc::new(vault), "shoes")), client)
}

/// Many ask at once; each is told within its limit, which is less than one after the other takes.
async fn each_is_told(tokens: &Arc<Tokens>, client: &Client, expected: Result<&str, &str>) {
    let (clock, limit) = (Clock::system(), Duration::from_millis(500));
    let asked = futures_util::future::join_all((0..20).map(|_| tokens.get(None, client, limit)));
    // One after the other they take ten seconds.
    let told = clock.timeout(Duration::from_secs(8), asked).await.expect("each within its limit");
    for told in told {
        let told = told.as_ref().map(|token| &**token).map_err(|why| &*why.code);
        assert_eq!(told, expected);
    }
}

#[tokio::test]
async fn nobody_waits_longer_than_his_limit() {
    let nowhere = "http://127.0.0.1:1";
    let (tokens, client) = holder(nowhere, Stuck(None));
    each_is_told(&tokens, &client, Err("no_token")).await;
    let (tokens, client) = holder(nowhere, Stuck(Some(|| Lent::Wait)));
    each_is_told(&tokens, &client, Err("no_token")).await;
}

#[tokio::test]
async fn a_token_that_cannot_be_shared_is_used_all_the_same() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let platform = async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 1_024]).await.unwrap() > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        stream
    };
    let (tokens, client) = holder(&endpoint, Stuck(Some(|| Lent::Yours)));
    let (_stream, ()) = tokio::join!(platform, each_is_told(&tokens, &client, Ok("t1")));
}
