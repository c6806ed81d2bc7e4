"""What the vendors' own libraries make of our signatures and of our simulators.

    clouds.py WHAT JSON     prints what it found as JSON
"""

import json
import sys
from urllib.parse import parse_qsl, urlsplit


def twilio(asked):
    from twilio.base.exceptions import TwilioRestException
    from twilio.http.http_client import TwilioHttpClient
    from twilio.request_validator import RequestValidator
    from twilio.rest import Client

    class ToSimulator(TwilioHttpClient):
        def request(self, method, uri, *args, **kwargs):
            parts = urlsplit(uri)
            return super().request(method, asked["api"] + parts.path, *args, **kwargs)

    validator = RequestValidator(asked["token"])
    form = dict(parse_qsl(asked["form"], keep_blank_values=True))

    def send(token):
        client = Client(asked["account"], token, http_client=ToSimulator())
        return client.messages.create(to=asked["to"], from_=asked["from"], body=asked["text"])

    message = send(asked["token"])
    account = Client(asked["account"], asked["token"], http_client=ToSimulator()).api.v2010.accounts(asked["account"])
    try:
        send("wrong")
        wrong = 0
    except TwilioRestException as error:
        wrong = error.status
    return {
        "valid": validator.validate(asked["url"], form, asked["signature"]),
        "signature": validator.compute_signature(asked["url"], form),
        "sid": message.sid,
        "status": message.status,
        "account": account.fetch().status,
        "wrong_token": wrong,
    }


def twilio_voice(asked):
    import inspect
    import re
    from xml.etree import ElementTree

    from twilio.base.exceptions import TwilioRestException
    from twilio.http.http_client import TwilioHttpClient
    from twilio.request_validator import RequestValidator
    from twilio.rest import Client
    from twilio.twiml import voice_response

    class ToSimulator(TwilioHttpClient):
        def request(self, method, uri, *args, **kwargs):
            parts = urlsplit(uri)
            return super().request(method, asked["api"] + parts.path, *args, **kwargs)

    def client(token):
        return Client(asked["account"], token, http_client=ToSimulator())

    def status(call):
        try:
            return call()
        except TwilioRestException as error:
            return [error.status, error.code]

    # Calls by the library: one that rings and is canceled, one that cannot be, and two that are refused.
    calls = client(asked["token"]).calls
    wanted = dict(from_="+15005550006", url=asked["url"], status_callback=asked["url"], timeout=20)
    events = ["initiated", "ringing", "answered", "completed"]
    rings = calls.create(to="+8613800000000", status_callback_event=events, machine_detection="Enable", **wanted)
    made = [rings.status, calls(rings.sid).fetch().to, calls(rings.sid).update(status="canceled").sid == rings.sid]
    listed = [call.sid for call in calls.list(limit=20)]
    wrong = {
        "number": status(lambda: calls.create(to="13800000000", **wanted)),
        "token": status(lambda: client("wrong").calls.create(to="+8613800000001", **wanted)),
        "unknown": status(lambda: calls("CA" + "f" * 32).fetch()),
    }

    # Callbacks as they came: the library takes them, and none that is changed.
    validator = RequestValidator(asked["token"])

    def validated(callback, tampered=""):
        form = dict(parse_qsl(callback["form"] + tampered, keep_blank_values=True))
        return validator.validate(callback["url"], form, callback["signature"])

    taken = [validated(callback) for callback in asked["callbacks"]]
    tampered = [validated(callback, "&Digits=9") for callback in asked["callbacks"]]

    # Documents as we wrote them: the library, asked for the same, writes the same, and knows every verb and attribute.
    def snake(name):
        return re.sub(r"([A-Z])", lambda found: "_" + found.group(1).lower(), name)

    def written(parent, element):
        name = {"Hangup": "hangup"}.get(element.tag, element.tag.lower())
        method = getattr(parent, name)
        known = set(inspect.signature(method).parameters) - {"kwargs"}
        attributes = {snake(name): value for name, value in element.attrib.items()}
        unknown = set(attributes) - known
        assert not unknown, f"{element.tag} has no {unknown}"
        text = (element.text,) if element.text else ()
        child = method(*text, **attributes)
        for inner in element:
            written(child, inner)

    def same(document):
        response = voice_response.VoiceResponse()
        for element in ElementTree.fromstring(document):
            written(response, element)
        return ElementTree.canonicalize(str(response)) == ElementTree.canonicalize(document)

    return {
        "made": made,
        "listed": rings.sid in listed,
        "wrong": wrong,
        "taken": taken,
        "tampered": tampered,
        "documents": [same(document) for document in asked["documents"]],
    }


def aliyun(asked):
    from alibabacloud_dysmsapi20170525.client import Client
    from alibabacloud_dysmsapi20170525.models import QuerySmsSignListRequest, SendBatchSmsRequest, SendSmsRequest
    from alibabacloud_tea_openapi.models import Config
    from alibabacloud_tea_openapi.utils import Utils
    from darabonba.request import DaraRequest

    request = DaraRequest()
    request.method, request.pathname = "POST", "/"
    request.query, request.headers = asked["query"], asked["headers"]
    authorization = Utils.get_authorization(
        request, "ACS3-HMAC-SHA256", asked["body_hash"], asked["key"], asked["secret"]
    )

    def client(secret):
        return Client(
            Config(access_key_id=asked["key"], access_key_secret=secret, endpoint=asked["api"], protocol="http")
        )

    one = SendSmsRequest(
        phone_numbers="13800000001",
        sign_name="晨星",
        template_code="SMS_1",
        template_param='{"text": "你好 & + ~"}',
        out_id="a reference",
    )
    batch = SendBatchSmsRequest(
        phone_number_json='["13800000002", "13800000003"]',
        sign_name_json='["晨星", "晨星"]',
        template_code="SMS_1",
        template_param_json='[{"text": "one"}, {"text": "two"}]',
    )
    good = client(asked["secret"])
    signs = good.query_sms_sign_list(QuerySmsSignListRequest(page_index=1, page_size=1)).body.to_map()
    said = {"signs": signs, "one": good.send_sms(one).body.to_map(), "batch": good.send_batch_sms(batch).body.to_map()}
    try:
        client("wrong").send_sms(one)
        wrong = ""
    except Exception as error:
        wrong = error.code
    return {"authorization": authorization, "wrong": wrong, **said}


def aliyun_voice(asked):
    from alibabacloud_dyvmsapi20170525.client import Client
    from alibabacloud_dyvmsapi20170525.models import SingleCallByTtsRequest, SmartCallRequest
    from alibabacloud_tea_openapi.models import Config

    def client(secret):
        return Client(
            Config(access_key_id=asked["key"], access_key_secret=secret, endpoint=asked["api"], protocol="http")
        )

    one = SingleCallByTtsRequest(
        called_number="13800000001",
        called_show_number="02085550100",
        tts_code="TTS_1",
        tts_param='{"text": "你好 & + ~"}',
        play_times=2,
        out_id="a reference",
    )
    smart = SmartCallRequest(
        called_number="13800000002", voice_code="TTS_2", voice_code_param='{"name": "Li"}', record_flag=True
    )
    good = client(asked["secret"])
    said = {"one": good.single_call_by_tts(one).body.to_map(), "smart": good.smart_call(smart).body.to_map()}
    try:
        client("wrong").single_call_by_tts(one)
        wrong = ""
    except Exception as error:
        wrong = error.code
    return {"wrong": wrong, **said}


def tencent(asked):
    import hashlib
    from datetime import datetime, timezone

    from tencentcloud.common import credential
    from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException
    from tencentcloud.common.profile.client_profile import ClientProfile
    from tencentcloud.common.profile.http_profile import HttpProfile
    from tencentcloud.common.sign import Sign
    from tencentcloud.sms.v20210111 import models, sms_client

    date = datetime.fromtimestamp(asked["at"], timezone.utc).strftime("%Y-%m-%d")
    lines = "".join(f"{name}:{value}\n" for name, value in asked["headers"])
    names = ";".join(name for name, _ in asked["headers"])
    body = hashlib.sha256(asked["body"].encode()).hexdigest()
    canonical = hashlib.sha256(f"POST\n/\n\n{lines}\n{names}\n{body}".encode()).hexdigest()
    text = f"TC3-HMAC-SHA256\n{asked['at']}\n{date}/sms/tc3_request\n{canonical}"

    def send(secret):
        http = HttpProfile(protocol="http", endpoint=asked["api"])
        client = sms_client.SmsClient(
            credential.Credential(asked["id"], secret), "ap-guangzhou", ClientProfile(httpProfile=http)
        )
        request = models.SendSmsRequest()
        request.PhoneNumberSet = ["+8613800000001", "+8613800000002"]
        request.SmsSdkAppId, request.SignName, request.TemplateId = asked["app"], asked["sign"], "449739"
        request.TemplateParamSet = ["你好"]
        return client.SendSms(request)

    def count():
        http = HttpProfile(protocol="http", endpoint=asked["api"])
        client = sms_client.SmsClient(
            credential.Credential(asked["id"], asked["secret"]), "ap-guangzhou", ClientProfile(httpProfile=http)
        )
        request = models.SendStatusStatisticsRequest()
        request.BeginTime = request.EndTime = "2026010108"
        request.SmsSdkAppId, request.Limit, request.Offset = asked["app"], 0, 0
        return client.SendStatusStatistics(request).SendStatusStatistics.RequestCount

    codes = [status.Code for status in send(asked["secret"]).SendStatusSet]
    try:
        send("wrong")
        wrong = ""
    except TencentCloudSDKException as error:
        wrong = error.get_code()
    return {
        "signature": Sign.sign_tc3(asked["secret"], date, "sms", text),
        "codes": codes,
        "wrong": wrong,
        "counted": count(),
    }


def wechat(asked):
    from wechatpy import WeChatClient
    from wechatpy.crypto import WeChatCrypto
    from wechatpy.exceptions import WeChatClientException
    from wechatpy.parser import parse_message

    class ToSimulator(WeChatClient):
        API_BASE_URL = asked["api"] + "/cgi-bin/"

        def fetch_access_token(self):
            params = {"grant_type": "client_credential", "appid": self.appid, "secret": self.secret}
            return self._fetch_access_token(url=self.API_BASE_URL + "token", params=params)

    client = ToSimulator(asked["appid"], asked["secret"])
    data = {"thing1": {"value": "新鞋"}}
    template = client.message.send_template("o-1", "tpl", data)
    subscribe = client.message.send_subscribe_message("o-2", "tpl", data)
    try:
        ToSimulator(asked["appid"], "wrong").message.send_template("o-1", "tpl", data)
        wrong = 0
    except WeChatClientException as error:
        wrong = error.errcode

    crypto = WeChatCrypto(asked["token"], asked["aes_key"], asked["appid"])
    query = dict(parse_qsl(urlsplit(asked["url"]).query))
    plain = crypto.decrypt_message(asked["body"], query["msg_signature"], query["timestamp"], query["nonce"])
    event = parse_message(plain)
    # An event of its own making, for us to read.
    said = (
        "<xml><ToUserName><![CDATA[gh]]></ToUserName><FromUserName><![CDATA[o-3]]></FromUserName>"
        "<CreateTime>1</CreateTime><MsgType><![CDATA[event]]></MsgType>"
        "<Event><![CDATA[TEMPLATESENDJOBFINISH]]></Event><MsgID>200163836</MsgID>"
        "<Status><![CDATA[failed: system failed]]></Status></xml>"
    )
    return {
        "template": template["errcode"],
        "msgid": template["msgid"],
        "subscribe": subscribe,
        "wrong": wrong,
        "event": [type(event).__name__, str(event.id), event.status, event.source],
        "encrypted": crypto.encrypt_message(said, "a-nonce", asked["at"]),
    }


def wecom(asked):
    from wechatpy.work import WeChatClient, parse_message
    from wechatpy.work.crypto import WeChatCrypto

    class ToSimulator(WeChatClient):
        API_BASE_URL = asked["api"] + "/cgi-bin/"

        def fetch_access_token(self):
            params = {"corpid": self.corp_id, "corpsecret": self.secret}
            return self._fetch_access_token(url=self.API_BASE_URL + "gettoken", params=params)

    client = ToSimulator(asked["corp_id"], asked["secret"])
    sent = client.message.send_text(asked["agent_id"], ["zhang", "Nobody1"], "hi")
    template = {
        "chat_type": "single",
        "external_userid": ["wm1", "nobody"],
        "sender": "zhang",
        "text": {"content": "hi"},
    }
    posted = client.external_contact.add_msg_template(template)
    crypto = WeChatCrypto(asked["token"], asked["aes_key"], asked["corp_id"])
    query = dict(parse_qsl(urlsplit(asked["url"]).query))
    plain = crypto.decrypt_message(asked["body"], query["msg_signature"], query["timestamp"], query["nonce"])
    event = parse_message(plain)
    said = (
        "<xml><ToUserName><![CDATA[ww]]></ToUserName><FromUserName><![CDATA[sys]]></FromUserName>"
        "<CreateTime>1403610513</CreateTime><MsgType><![CDATA[event]]></MsgType>"
        "<Event><![CDATA[change_external_contact]]></Event><ChangeType><![CDATA[add_external_contact]]></ChangeType>"
        "<UserID><![CDATA[zhang]]></UserID><ExternalUserID><![CDATA[wm9]]></ExternalUserID>"
        "<State><![CDATA[teststate]]></State><WelcomeCode><![CDATA[WELCOMECODE]]></WelcomeCode></xml>"
    )
    return {
        "sent": [sent["errcode"], sent["invaliduser"]],
        "posted": [posted["errcode"], posted["fail_list"]],
        "event": [type(event).__name__, event.external_user_id, event.state, event.welcome_code],
        "encrypted": crypto.encrypt_message(said, "a-nonce", asked["at"]),
    }


JUDGES = {
    "twilio": twilio,
    "twilio_voice": twilio_voice,
    "aliyun": aliyun,
    "aliyun_voice": aliyun_voice,
    "tencent": tencent,
    "wechat": wechat,
    "wecom": wecom,
}

if __name__ == "__main__":
    print(json.dumps(JUDGES[sys.argv[1]](json.loads(sys.argv[2]))))
