// An SMSC for the tests: the npm package `smpp`, which knows nothing of us, behaving as its arguments say.
//
//   npm ci && node smsc.js [--option value ...]
//
// It prints `{"listening": PORT}` once it listens, then one JSON object a line for what happens:
//   {"event": "bind", "bind", "system_id", "status"}
//   {"event": "submit", "n", "bind", "at", "from", "to", "reference", "id", "status", "state", "coding", "esm",
//    "part": {"ref", "total", "number"} | null, "text"}                           one for each submit_sm, before its answer
//   {"event": "deliver_resp", "id" | "mo", "status"}                         the answer to a receipt or a message
//   {"event": "unbind", "bind", "by"}, {"event": "closed", "bind"}, {"event": "no_bind"}    a command came without a bind
// `reference` is user_message_reference: the same for each attempt of a job. `id` is what submit_sm_resp said, null
// where it was refused or muted; `state` is what the receipt will say.
//
// Options (SUFFIX: the last digits of the recipient's number)
//   --host HOST, --port PORT     where to listen (127.0.0.1, and any free port)
//   --log FILE                   append the lines to FILE instead, each before its answer leaves, so that a death of
//                                this process or of the service loses none; fsynced every 50 ms
//   --system-id S --password P   refuse other binds with ESME_RINVSYSID, ESME_RINVPASWD
//   --refuse-binds N             refuse the first N binds with ESME_RBINDFAIL
//   --tls-key FILE --tls-cert FILE
//   --ids FORM                   hex: in answers and receipts; decimal: in both; hex-decimal: hex in answers, decimal
//                                in receipts (hex)
//   --first-id N                 the first message id (1)
//   --throttle-every N           every Nth submit_sm gets ESME_RTHROTTLED
//   --refuse SUFFIX=STATUS       those numbers get this command_status (decimal or 0x..); may be repeated
//   --refuse-every N=STATUS      every Nth submit_sm gets this command_status
//   --latency MS                 answer so much later
//   --slow SUFFIX=MS             answer those numbers so much later; may be repeated
//   --mute SUFFIX                never answer those numbers; may be repeated
//   --mute-every N               never answer every Nth submit_sm
//   --receipts FORM              none, text, tlv, both (both), where registered_delivery asks for them
//   --receipt-delay MS           how long after the answer (10)
//   --receipt-early              before the answer
//   --receipt-double             each receipt twice
//   --state SUFFIX=STAT          what receipts for those numbers say (DELIVRD); may be repeated
//   --mo SUFFIX=TEXT             those numbers answer TEXT after each submit_sm that was taken; may be repeated
//   --unbind-after N             send unbind after N submit_sms
//   --close-after N              cut the connection after N submit_sms, without answering the last
//   --retry MS                   say again after MS what was answered with ESME_RX_T_APPN (never)
//
// Commands, one a line on stdin: `mo FROM TO TEXT`, `long FROM TO TEXT` (in two parts, UCS-2), `unbind`, `close`,
// `set OPTION VALUE` (an option without dashes), `unset OPTION`, `quit`. It ends when stdin ends.
'use strict';

const fs = require('fs');
const readline = require('readline');
const smpp = require('smpp');

const REPEATED = new Set(['refuse', 'slow', 'mute', 'state', 'mo']);
const FLAGS = new Set(['receipt-early', 'receipt-double']);
const STATES = { ENROUTE: 1, DELIVRD: 2, EXPIRED: 3, DELETED: 4, UNDELIV: 5, ACCEPTD: 6, UNKNOWN: 7, REJECTD: 8 };

const options = { host: '127.0.0.1', port: '0', ids: 'hex', receipts: 'both', 'receipt-delay': '10' };
for (let i = 2; i < process.argv.length; i++) {
  const name = process.argv[i].replace(/^--/, '');
  set(name, FLAGS.has(name) ? 'true' : process.argv[++i]);
}

function set(name, value) {
  if (REPEATED.has(name)) (options[name] = options[name] || []).push(value);
  else options[name] = value;
}
const number = (name) => (options[name] === undefined ? undefined : Number(options[name]));
const every = (name, n) => options[name] !== undefined && n % Number(options[name]) === 0;

/** Returns what a repeated SUFFIX=VALUE option says of this number. */
function bySuffix(name, to) {
  for (const rule of options[name] || []) {
    const [suffix, ...value] = rule.split('=');
    if (to.endsWith(suffix)) return value.join('=') || true;
  }
}

const log = options.log ? fs.openSync(options.log, 'a') : null;
function say(line) {
  const text = JSON.stringify(line) + '\n';
  if (log === null || line.listening) process.stdout.write(text);
  if (log !== null) {
    fs.writeSync(log, text);
    unsynced = true;
  }
}
let unsynced = false;
let syncing = false;
setInterval(() => {
  if (log === null || !unsynced || syncing) return;
  [unsynced, syncing] = [false, true];
  fs.fsync(log, () => (syncing = false));
}, 50).unref();

let submits = 0;
let binds = 0;
let refusedBinds = 0;
let nextId = Number(options['first-id'] || 1);
let reference = 0;
const sessions = new Map();

const hex = (id) => id.toString(16).toUpperCase().padStart(8, '0');
const answerId = (id) => (options.ids === 'decimal' ? String(id) : hex(id));
const receiptId = (id) => (options.ids === 'hex' ? hex(id) : String(id).padStart(10, '0'));

function date(at) {
  return at.toISOString().replace(/\D/g, '').slice(2, 12);
}

/** Sends a deliver_sm and reports its answer; says it again if it was not taken. */
function deliver(session, pdu, about) {
  session.deliver_sm(pdu, (response) => {
    say({ event: 'deliver_resp', ...about, status: response.command_status });
    if (response.command_status === smpp.ESME_RX_T_APPN && options.retry !== undefined) {
      setTimeout(() => deliver(session, pdu, about), number('retry'));
    }
  });
}

function receipt(session, pdu, id, state) {
  const form = options.receipts;
  const now = date(new Date());
  const delivered = state === 'DELIVRD' ? '001' : '000';
  const error = state === 'DELIVRD' ? '000' : '034';
  const text =
    `id:${receiptId(id)} sub:001 dlvrd:${delivered} submit date:${now} done date:${now} ` +
    `stat:${state} err:${error} text:`;
  const fields = {
    esm_class: smpp.ESM_CLASS.MC_DELIVERY_RECEIPT,
    source_addr: pdu.destination_addr,
    destination_addr: pdu.source_addr,
    short_message: form === 'tlv' ? '' : text,
  };
  if (form !== 'text') {
    fields.receipted_message_id = receiptId(id);
    fields.message_state = STATES[state];
    fields.network_error_code = Buffer.from([3, 0, state === 'DELIVRD' ? 0 : 34]);
  }
  deliver(session, fields, { id: answerId(id) });
}

function mo(session, from, to, text) {
  const coding = /^[\x20-\x7e]*$/.test(text) ? 0 : 8;
  deliver(session, { source_addr: from, destination_addr: to, data_coding: coding, short_message: text }, { mo: text });
}

function longMo(session, from, to, text) {
  const ref = ++reference & 0xff;
  const half = Math.ceil(text.length / 2);
  [text.slice(0, half), text.slice(half)].forEach((part, i) => {
    const short_message = { udh: Buffer.from([5, 0, 3, ref, 2, i + 1]), message: part };
    const pdu = { esm_class: 0x40, source_addr: from, destination_addr: to, data_coding: 8, short_message };
    deliver(session, pdu, { mo: part });
  });
}

/** Returns the concatenation header and the text of a submit_sm. */
function read(pdu) {
  const { udh, message } = pdu.short_message;
  const concat = (udh || []).map(Buffer.from).find((part) => part[0] === 0 && part[1] === 3);
  const part = concat ? { ref: concat[2], total: concat[3], number: concat[4] } : null;
  return { part, text: Buffer.isBuffer(message) ? message.toString('hex') : message };
}

function refusal(pdu, n) {
  if (every('throttle-every', n)) return smpp.ESME_RTHROTTLED;
  const [nth, status] = (options['refuse-every'] || '').split('=');
  if (nth && n % Number(nth) === 0) return Number(status);
  return Number(bySuffix('refuse', pdu.destination_addr) || 0);
}

function submitted(session, bind, pdu) {
  const n = ++submits;
  const to = pdu.destination_addr;
  const cut = number('close-after') === n;
  const muted = bySuffix('mute', to) === true || every('mute-every', n) || cut;
  const status = refusal(pdu, n);
  const taken = status === 0;
  const id = taken ? nextId++ : null;
  const state = bySuffix('state', to) || 'DELIVRD';
  say({
    event: 'submit', n, bind, at: Date.now(), from: pdu.source_addr, to,
    reference: pdu.user_message_reference === undefined ? null : pdu.user_message_reference,
    id: taken && !muted ? answerId(id) : null, status, state, coding: pdu.data_coding, esm: pdu.esm_class, ...read(pdu),
  });

  const wanted = taken && options.receipts !== 'none' && (pdu.registered_delivery & 3) === 1;
  const report = () => {
    for (let times = options['receipt-double'] ? 2 : 1; wanted && times > 0; times--) receipt(session, pdu, id, state);
  };
  const answer = () => {
    if (options['receipt-early']) report();
    if (!muted) session.send(pdu.response(taken ? { message_id: answerId(id) } : { command_status: status }));
    if (!options['receipt-early']) setTimeout(report, number('receipt-delay'));
    const text = taken && bySuffix('mo', to);
    if (text) setTimeout(() => mo(session, to, pdu.source_addr, text), number('receipt-delay'));
    if (number('unbind-after') === n) unbind(session, bind);
  };
  const latency = Number(bySuffix('slow', to) || options.latency || 0);
  if (cut) session.destroy();
  else if (latency > 0) setTimeout(answer, latency);
  else answer();
}

function unbind(session, bind) {
  say({ event: 'unbind', bind, by: 'smsc' });
  session.unbind(() => session.close());
}

function bound(session, bind, pdu) {
  let status = 0;
  if (refusedBinds < (number('refuse-binds') || 0)) {
    refusedBinds++;
    status = smpp.ESME_RBINDFAIL;
  } else if (options['system-id'] !== undefined && pdu.system_id !== options['system-id']) {
    status = smpp.ESME_RINVSYSID;
  } else if (options.password !== undefined && pdu.password !== options.password) {
    status = smpp.ESME_RINVPASWD;
  }
  say({ event: 'bind', bind, system_id: pdu.system_id, status });
  session.send(pdu.response(status ? { command_status: status } : { system_id: 'smsc' }));
  if (status) session.close();
  else sessions.set(bind, session);
}

const tls = options['tls-key']
  ? { key: fs.readFileSync(options['tls-key']), cert: fs.readFileSync(options['tls-cert']) }
  : {};
const server = smpp.createServer(tls, (session) => {
  const bind = ++binds;
  session.on('error', () => session.destroy());
  session.on('close', () => {
    if (sessions.delete(bind)) say({ event: 'closed', bind });
  });
  for (const kind of ['bind_transceiver', 'bind_transmitter', 'bind_receiver']) {
    session.on(kind, (pdu) => bound(session, bind, pdu));
  }
  session.on('submit_sm', (pdu) => submitted(session, bind, pdu));
  session.on('enquire_link', (pdu) => session.send(pdu.response()));
  session.on('unbind', (pdu) => {
    say({ event: 'unbind', bind, by: 'esme' });
    session.send(pdu.response());
    session.close();
  });
});
server.on('tlsClientError', () => {});
server.listen(Number(options.port), options.host, () => say({ listening: server.address().port }));

/** Runs a command on the oldest bind; without one it says so. */
const onBind = (command) => (from, to, ...text) => {
  const [session] = sessions.values();
  if (session) command(session, from, to, text.join(' '));
  else say({ event: 'no_bind' });
};
const commands = {
  mo: onBind(mo),
  long: onBind(longMo),
  unbind: () => sessions.forEach((session, bind) => unbind(session, bind)),
  close: () => sessions.forEach((session) => session.destroy()),
  set: (name, ...value) => set(name, value.join(' ') || 'true'),
  unset: (name) => delete options[name],
  quit: () => process.exit(0),
};
const stdin = readline.createInterface({ input: process.stdin });
stdin.on('line', (line) => {
  const [command, ...rest] = line.trim().split(' ');
  if (commands[command]) commands[command](...rest);
});
stdin.on('close', () => process.exit(0));
