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
        "wrong_token": wrong,
    }


if __name__ == "__main__":
    print(json.dumps({"twilio": twilio}[sys.argv[1]](json.loads(sys.argv[2]))))
