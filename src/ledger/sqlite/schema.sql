-- The embedded ledger, version 1. Times are microseconds since 1970; small numbers stand for words (columns.rs).

create table progress (one integer primary key check (one = 1), last_seq integer not null, swept_to integer not null);
insert into progress values (1, 0, 0);

create table frame (id blob primary key, at integer not null) without rowid;
create index frame_at on frame (at);

create table job (
  id blob not null, tenant text not null, kind integer not null, class integer not null,
  accepted_at integer not null, due_at integer not null, expires_at integer not null,
  immediate integer not null, -- Due within 30 s of its acceptance.
  address blob not null, recipient blob, batch blob, campaign blob, run blob, cancel_key blob, sealed blob not null
);
create unique index job_id on job (id);
create index job_tenant on job (tenant, accepted_at, id);
create index job_address on job (address, accepted_at);
create index job_recipient on job (recipient, accepted_at) where recipient is not null;
create index job_batch on job (batch, accepted_at) where batch is not null;
create index job_campaign on job (campaign, accepted_at) where campaign is not null;
create index job_run on job (run, accepted_at) where run is not null;
create index job_cancel_key on job (cancel_key, accepted_at) where cancel_key is not null;
-- Strays among scheduled jobs; the immediate ones are found by when they were accepted.
create index job_due on job (due_at) where not immediate;

create table event (
  seq integer primary key, job blob not null, tenant text not null, kind integer not null, class integer not null,
  at integer not null, attempt integer not null, what integer not null, state integer not null, fate integer,
  reason text, provider text, until integer, message_ids text, receipt_expected integer
);
create index event_job on event (job);

create table reply (seq integer primary key, tenant text, in_reply_to blob, at integer not null, sealed blob not null);
create index reply_tenant on reply (tenant);

create table segment (
  provider text not null, message_id text not null, job blob not null, attempt integer not null,
  part integer not null, parts integer not null, fate integer, at integer not null,
  primary key (provider, message_id)
) without rowid;
create index segment_job on segment (job);

create table parked (
  provider text not null, message_id text not null, job blob, report integer not null, detail integer,
  code text not null, at integer not null
);
create index parked_message on parked (provider, message_id);
create index parked_at on parked (at);

create table suppression (
  tenant text not null, address blob not null, scope integer not null, word blob not null,
  kind integer not null, -- 0: every kind.
  source integer not null, at integer not null, sealed blob not null,
  primary key (tenant, address, scope, word, kind, source)
) without rowid;
-- Opt-outs from every tenant.
create index suppression_global on suppression (address) where scope = 6;

create table rule (
  tenant text not null, act integer not null, names blob not null, at integer not null, detail blob not null,
  sweeps integer not null, primary key (tenant, act, names)
) without rowid;
create index rule_at on rule (tenant, at);
create index rule_open on rule (at) where sweeps < 2;

create table count (
  tenant text not null, hour integer not null, kind integer not null, class integer not null, what text not null,
  reason text not null, jobs integer not null, primary key (tenant, hour, kind, class, what, reason)
) without rowid;

create table agenda (
  id blob not null, sort integer not null, timer_kind text, timer_owner text, timer_key text, tenant text not null,
  class integer not null, pool text not null, sender integer not null, turn integer not null,
  due_at integer not null, first_due integer not null, jobs integer not null, releasing_since integer,
  payload blob not null, accepted_at integer
);
create unique index agenda_id on agenda (id);
create unique index agenda_timer on agenda (timer_kind, timer_owner, timer_key) where sort = 3;
-- Read group by group (tenant, lane, sort, sender with a rate of its own): one tenant's million costs another's one
-- nothing. A turn is the second something is due in and, in its last byte, 100 less the priority.
create index agenda_due on agenda (tenant, class, pool, sort, sender, turn, due_at, id) where releasing_since is null;
create index agenda_releasing on agenda (releasing_since) where releasing_since is not null;
create index agenda_first_due on agenda (tenant, class, first_due) where sort <> 3;
-- Found for a rule: a request's entries have their jobs' acceptance in common.
create index agenda_accepted on agenda (tenant, accepted_at, id) where accepted_at is not null;
create table agenda_sum (one integer primary key check (one = 1), entries integer not null, jobs integer not null);
insert into agenda_sum values (1, 0, 0);

create table tenant (
  id text primary key, name text not null, rate text, ingress_rate text, outstanding_max integer, caps text not null,
  windows text not null, created_at integer not null, sender_rates text not null, time_zone text
) without rowid;

create table api_key (
  id text primary key, tenant text not null, role integer not null, mac blob not null, created_at integer not null,
  revoked_at integer
) without rowid;
