"""An SMSC that was not written with this service, nor with the other one: PyPI smpp34, whose core is in Rust.

smsc.py PORT: listens on 127.0.0.1, prints {"listening": PORT}, then one JSON object a line for what happens:
  {"event": "bind", "system_id"}, {"event": "unbind"}
  {"event": "submit", "from", "to", "reference", "coding", "esm", "part": [ref, total, number] | null, "text", "id"}
  {"event": "deliver_resp", "id" | "mo", "status"}

Numbers that end in 0005 are refused with ESME_RINVDSTADR, those that end in 0006 throttled. Receipts come where they are
asked for, by TLV alone: DELIVRD, or UNDELIV for numbers that end in 0007. `mo FROM TO TEXT` on stdin is a message from a
recipient. It ends when stdin ends.
"""

import asyncio
import json
import sys

import smpp34

SEPARATE = bytes([5, 0, 3])  # A concatenation header: length, element, length of the element (3GPP TS 23.040, 9.2.3.24.1).
DELIVERED, UNDELIVERABLE = 2, 5  # message_state (SMPP 3.4, section 5.2.28).

port = int(sys.argv[1])
esmes = {}
numbers = iter(range(1, 1_000_000))


def say(**line):
    print(json.dumps(line), flush=True)


def reference(submit):
    found = [tlv.as_int() for tlv in submit.tlvs if tlv.tag == smpp34.TLV_USER_MESSAGE_REFERENCE]
    return found[0] if found else None


async def deliver(esme, about, message, **fields):
    answer = await esme.deliver_sm(fields.pop("to"), message, **fields)
    say(event="deliver_resp", **about, status=answer.command_status)


async def receipt(submit, id):
    state = UNDELIVERABLE if submit.destination_addr.endswith("0007") else DELIVERED
    tlvs = [
        smpp34.Tlv(smpp34.TLV_RECEIPTED_MESSAGE_ID, id.encode() + b"\0"),
        smpp34.Tlv(smpp34.TLV_MESSAGE_STATE, bytes([state])),
    ]
    await asyncio.sleep(0.02)
    fields = {"to": submit.source_addr, "source_addr": submit.destination_addr, "esm_class": 4, "tlvs": tlvs}
    await deliver(esmes[submit.session_id], {"id": id}, b"", **fields)


def take(submit):
    message, part = submit.short_message, None
    if submit.esm_class & 0x40 and message[:3] == SEPARATE:
        part, message = list(message[3:6]), message[6:]
    text = message.decode("utf-16-be" if submit.data_coding == 8 else "ascii")
    line = {"from": submit.source_addr, "to": submit.destination_addr, "reference": reference(submit), "part": part}
    line |= {"coding": submit.data_coding, "esm": submit.esm_class, "text": text}
    refused = {"0005": smpp34.ESME_RINVDSTADR, "0006": smpp34.ESME_RTHROTTLED}.get(submit.destination_addr[-4:])
    if refused is not None:
        say(event="submit", **line, id=None)
        submit.reject(refused)
        return
    id = f"py-{next(numbers)}"
    say(event="submit", **line, id=id)
    submit.accept(id)
    if submit.registered_delivery & 3:
        asyncio.ensure_future(receipt(submit, id))


async def commands():
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        _, sender, to, text = line.rstrip("\n").split(" ", 3)
        esme = next(iter(esmes.values()))
        coding = {"data_coding": 8, "source_addr": sender}
        await deliver(esme, {"mo": text}, text.encode("utf-16-be"), to=to, **coding)


async def serve():
    server = smpp34.Server("127.0.0.1", port, system_id="stranger")
    await server.start()
    say(listening=port)
    ended = asyncio.ensure_future(commands())
    while not ended.done():
        next_one = asyncio.ensure_future(server.next())
        await asyncio.wait({next_one, ended}, return_when=asyncio.FIRST_COMPLETED)
        if not next_one.done():
            break
        event = next_one.result()
        if isinstance(event, smpp34.Esme):
            esmes[event.session_id] = event
            say(event="bind", system_id=event.system_id)
        elif isinstance(event, smpp34.SubmitSmEvent):
            take(event)
        else:
            esmes.pop(event.session_id, None)
            say(event="unbind")
    await server.stop()


asyncio.run(serve())
