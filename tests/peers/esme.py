"""An ESME that was not written with this service: PyPI smpplib against an SMSC.

esme.py PORT SYSTEM_ID PASSWORD NUMBERS: binds, hands one text to each of so many numbers, asks whether the SMSC lives,
waits for a receipt for each, and prints what it saw as one JSON object.
"""

import json
import logging
import sys

import smpplib.client
import smpplib.consts
import smpplib.exceptions

port, system_id, password, count = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
logging.disable(logging.CRITICAL)
seen = {"submitted": [], "receipts": [], "messages": [], "statuses": []}


def delivered(pdu):
    if pdu.esm_class & 0x04:  # An SMSC delivery receipt (SMPP 3.4, section 5.2.12).
        seen["receipts"].append({
            "id": pdu.receipted_message_id.decode().rstrip("\0"),
            "state": pdu.message_state,
            "from": pdu.source_addr.decode(),
            "text": pdu.short_message.decode(),
        })
    else:
        seen["messages"].append({
            "from": pdu.source_addr.decode(),
            "text": pdu.short_message.decode("utf-16-be"),
        })
    return 0


def answered(pdu):
    if pdu.is_error():
        return  # `failed` has it.
    seen["submitted"].append({"sequence": pdu.sequence, "id": pdu.message_id.decode()})


def failed(pdu):
    seen["statuses"].append(pdu.status)


client = smpplib.client.Client("127.0.0.1", port, allow_unknown_opt_params=True)
client.set_message_received_handler(delivered)
client.set_message_sent_handler(answered)
client.set_error_pdu_handler(failed)
client.connect()
try:
    client.bind_transceiver(system_id=system_id, password=password)
except smpplib.exceptions.PDUError as error:
    print(json.dumps({"bind": error.args[1]}))
    sys.exit(0)
for number in range(count):
    client.send_message(
        source_addr="10690000",
        destination_addr="86138%08d" % number,
        short_message="你好".encode("utf-16-be"),
        data_coding=smpplib.consts.SMPP_ENCODING_ISO10646,
        registered_delivery=True,
    )
while len(seen["submitted"]) + len(seen["statuses"]) < count or len(seen["receipts"]) < len(seen["submitted"]):
    client.read_once()
client.unbind()
client.disconnect()
print(json.dumps(seen))
