"""WeChat and WeCom, as PyPI wechatpy understands them.

wechat.py CALLBACKS JSON: listens on 127.0.0.1 at a port of its own, prints {"listening": PORT}, then one JSON object a
line for what happens. JSON: {"appid", "corp_id", "agent_id", "secret", "token", "aes_key"}. CALLBACKS: the URL up to the
provider's id, `wechat` or `wecom`.
  {"event": "token", "of"}, {"event": "sent", "call", "to", "code"}, {"event": "odd", "call", "why"}
  {"event": "thanked", "of", "status", "body"}, {"event": "greeted", "of", "good"}

A request is read by making it again: what it asks is put into wechatpy's own client, and what that would send must be what
came, path, query and body. What differs is answered 47001 and told as `odd`. Errors, tokens and their lives are by
wechatpy's constants and its session. Events are encrypted and signed by wechatpy's crypto.
Openids that begin with `gone` do not follow (43004), receipts of those that begin with `blocked` fail; employees whose
userid begins with `nobody` are none. On stdin:
  end OF            ends the token of `wechat` or `wecom`
  event OF INNER    calls back with an event, INNER its XML behind MsgType
  greet OF          asks whether it is we who listen
"""

import json
import sys
import threading
import time
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

from wechatpy import WeChatClient
from wechatpy.constants import WeChatErrorCode
from wechatpy.crypto import WeChatCrypto
from wechatpy.session.memorystorage import MemoryStorage
from wechatpy.utils import WeChatSigner, check_signature
from wechatpy.work import WeChatClient as WorkClient
from wechatpy.work.crypto import PrpCrypto as WorkCipher
from wechatpy.work.crypto import WeChatCrypto as WorkCrypto

callbacks, setup = sys.argv[1], json.loads(sys.argv[2])
APPID, CORP, AGENT, SECRET = setup["appid"], setup["corp_id"], setup["agent_id"], setup["secret"]
LIFE = 7200
tokens, numbers, lock = MemoryStorage(), iter(range(200_000_000, 300_000_000)), threading.Lock()
cryptos = {
    "wechat": WeChatCrypto(setup["token"], setup["aes_key"], APPID),
    "wecom": WorkCrypto(setup["token"], setup["aes_key"], CORP),
}


def say(**line):
    with lock:
        print(json.dumps(line), flush=True)


class Odd(Exception):
    """It is not what wechatpy would send."""


class Made:
    """Keeps the request that a client makes, instead of sending it."""

    def _request(self, method, url_or_endpoint, **kwargs):
        self.made = (method.upper(), url_or_endpoint, kwargs.get("data"))
        return {}

    def _fetch_access_token(self, url, params):
        self.made = ("GET", url, params)
        return {}


class Account(Made, WeChatClient):
    pass


class Corporation(Made, WorkClient):
    pass


# Of a request: what it asks of wechatpy's client, and what that writes without being asked.
CALLS = {
    "/cgi-bin/message/template/send": (
        lambda said: Account(APPID, SECRET).message.send_template,
        lambda said: (said["touser"], said["template_id"], said["data"]),
        # Newer than wechatpy: what makes the message go out once.
        lambda said: {"client_msg_id": said.get("client_msg_id", "")},
    ),
    "/cgi-bin/message/subscribe/bizsend": (
        lambda said: Account(APPID, SECRET).message.send_subscribe_message,
        lambda said: (said["touser"], said["template_id"], said["data"]),
        lambda said: {},
    ),
    "/cgi-bin/message/send": (
        lambda said: Corporation(CORP, SECRET).message.send_text,
        lambda said: (said["agentid"], said["touser"].split("|"), said["text"]["content"]),
        # Left out, they are the same.
        lambda said: {"toparty": None, "totag": None, "safe": None},
    ),
}


def of(path):
    return "wecom" if path == "/cgi-bin/message/send" else "wechat"


def made_again(path, said):
    """Makes a request again with wechatpy; raises unless it is the same."""
    method, arguments, apart = CALLS[path]
    send = method(said)
    send(*arguments(said))
    verb, endpoint, body = send.__self__._client.made
    body = dict(body)
    for name, value in apart(said).items():
        body.pop(name, None)
        if value is not None:
            body[name] = value
    if (verb, "/cgi-bin/" + endpoint, body) != ("POST", path, said):
        raise Odd(f"{verb} {endpoint} {json.dumps(body)}")


def give(who):
    with lock:
        token = tokens.get(who)
        if not token:
            token = uuid.uuid4().hex * 4
            tokens.set(who, token, LIFE)
    say(event="token", of=who)
    return {"errcode": 0, "errmsg": "ok", "access_token": token, "expires_in": LIFE}


def stable_token(said):
    if said != {"grant_type": "client_credential", "appid": APPID, "secret": SECRET, "force_refresh": False}:
        return {"errcode": WeChatErrorCode.INVALID_APP_SECRET.value, "errmsg": "invalid appsecret"}
    return give("wechat")


def gettoken(query):
    client = Corporation(CORP, SECRET)
    client.fetch_access_token()
    _, url, asked = client.made
    if urlsplit(url).path != "/cgi-bin/gettoken" or query != asked:
        return {"errcode": WeChatErrorCode.INVALID_CREDENTIAL.value, "errmsg": "invalid credential"}
    return give("wecom")


def send(path, query, said):
    if query != {"access_token": tokens.get(of(path))}:
        return {"errcode": WeChatErrorCode.INVALID_ACCESS_TOKEN.value, "errmsg": "invalid access_token"}
    try:
        made_again(path, said)
    except (Odd, KeyError, TypeError, AttributeError) as why:
        say(event="odd", call=path, why=repr(why))
        return {"errcode": WeChatErrorCode.DATA_FORMAT_ERROR.value, "errmsg": "data format error"}
    to, number = said["touser"], next(numbers)
    if of(path) == "wecom":
        gone = [user for user in to.split("|") if user.startswith("nobody")]
        say(event="sent", call=path, to=to, code=0)
        return {"errcode": 0, "errmsg": "ok", "invaliduser": "|".join(gone), "msgid": f"m-{number}"}
    if to.startswith("gone"):
        say(event="sent", call=path, to=to, code=WeChatErrorCode.REQUIRE_SUBSCRIBE.value)
        return {"errcode": WeChatErrorCode.REQUIRE_SUBSCRIBE.value, "errmsg": "require subscribe"}
    say(event="sent", call=path, to=to, code=0)
    if path.endswith("/template/send"):
        status = "failed:user block" if to.startswith("blocked") else "success"
        done = f"<Event><![CDATA[TEMPLATESENDJOBFINISH]]></Event><MsgID>{number}</MsgID><Status><![CDATA[{status}]]></Status>"
        threading.Timer(0.02, call_back, ("wechat", done, to)).start()
        return {"errcode": 0, "errmsg": "ok", "msgid": number}
    return {"errcode": 0, "errmsg": "ok"}


def call_back(who, inner, user="sys"):
    now = str(int(time.time()))
    said = (
        f"<xml><ToUserName><![CDATA[{APPID if who == 'wechat' else CORP}]]></ToUserName>"
        f"<FromUserName><![CDATA[{user}]]></FromUserName><CreateTime>{now}</CreateTime>"
        f"<MsgType><![CDATA[event]]></MsgType>{inner}</xml>"
    )
    nonce = uuid.uuid4().hex[:10]
    body = cryptos[who].encrypt_message(said, nonce, now)
    signature = body.split("<MsgSignature><![CDATA[")[1].split("]]>")[0]
    query = urlencode({"timestamp": now, "nonce": nonce, "encrypt_type": "aes", "msg_signature": signature})
    request = urllib.request.Request(f"{callbacks}{who}?{query}", body.encode(), {"content-type": "text/xml"})
    status, text = fetch(request)
    say(event="thanked", of=who, status=status, body=text)


def greet(who):
    now, nonce = str(int(time.time())), uuid.uuid4().hex[:10]
    signer, word = WeChatSigner(), uuid.uuid4().hex
    if who == "wechat":
        signer.add_data(setup["token"], now, nonce)
        check_signature(setup["token"], signer.signature, now, nonce)
        query = {"signature": signer.signature, "timestamp": now, "nonce": nonce, "echostr": word}
    else:
        echo = WorkCipher(cryptos[who].key).encrypt(word, CORP).decode()
        signer.add_data(setup["token"], now, nonce, echo)
        cryptos[who].check_signature(signer.signature, now, nonce, echo)
        query = {"msg_signature": signer.signature, "timestamp": now, "nonce": nonce, "echostr": echo}
    status, text = fetch(urllib.request.Request(f"{callbacks}{who}?{urlencode(query)}"))
    say(event="greeted", of=who, good=(status, text) == (200, word))


def fetch(request):
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""
    except OSError as error:
        return 0, str(error)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if (self.command, parts.path) == ("GET", "/cgi-bin/gettoken"):
            said = gettoken(query)
        elif (self.command, parts.path) == ("POST", "/cgi-bin/stable_token"):
            said = stable_token(json.loads(body))
        elif self.command == "POST" and parts.path in CALLS:
            said = send(parts.path, query, json.loads(body))
        else:
            self.send_error(404)
            return
        text = json.dumps(said, ensure_ascii=False).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json; charset=utf-8")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
say(listening=server.server_address[1])
for line in sys.stdin:
    what, who, *inner = line.rstrip("\n").split(" ", 2)
    if what == "end":
        tokens.delete(who)
    elif what == "event":
        call_back(who, inner[0], "o-signal")
    elif what == "greet":
        greet(who)
