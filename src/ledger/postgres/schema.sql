-- The ledger in PostgreSQL, version 1. Small numbers stand for words (columns.rs); event_words and job_words spell them.
-- Keyed hashes are 16 bytes and stored as uuid. Ids of tenants and pools sort by bytes.

-- One row: what was numbered last, and the span that events go to now.
create table progress (
  one smallint primary key check (one = 1),
  last_seq bigint not null,
  swept_to bigint not null,
  span integer not null,
  -- The latest time of any event so far, and what it was when the span began.
  at_max timestamptz not null,
  span_at timestamptz not null,
  span_first_seq bigint not null
) with (fillfactor = 10);
insert into progress values (1, 0, 0, 0, '-infinity', '-infinity', 1);

create table frame (id uuid primary key, at timestamptz not null);
create index frame_at on frame (at);

create table job (
  id uuid not null primary key,
  accepted_at timestamptz not null,
  due_at timestamptz not null,
  expires_at timestamptz not null,
  address uuid not null,
  recipient uuid,
  batch uuid,
  campaign uuid,
  run uuid,
  cancel_key uuid,
  kind smallint not null,
  class smallint not null,
  -- Due within 30 s of its acceptance.
  immediate boolean not null,
  tenant text collate "C" not null,
  sealed bytea not null
) partition by hash (id);
-- Sealed bytes do not compress.
alter table job alter column sealed set storage external;
create index job_tenant on job (tenant, accepted_at, id);
create index job_address on job (address, accepted_at);
create index job_recipient on job (recipient, accepted_at) where recipient is not null;
create index job_batch on job (batch, accepted_at) where batch is not null;
create index job_campaign on job (campaign, accepted_at) where campaign is not null;
create index job_run on job (run, accepted_at) where run is not null;
create index job_cancel_key on job (cancel_key, accepted_at) where cancel_key is not null;
-- Strays among scheduled jobs; the immediate ones are found by when they were accepted.
create index job_due on job (due_at) where not immediate;

-- Events come in the order of their numbers. A span is a stretch of numbers, about a day long, that is dropped as a
-- whole when its time is over.
create table event (
  seq bigint not null,
  at timestamptz not null,
  until timestamptz,
  job uuid not null,
  span integer not null,
  attempt integer not null,
  kind smallint not null,
  class smallint not null,
  what smallint not null,
  state smallint not null,
  fate smallint,
  receipt_expected boolean,
  tenant text collate "C" not null,
  reason text,
  provider text,
  message_ids text[]
) partition by range (span);
create index event_seq on event (seq);
create index event_job on event (job);

-- Where each span begins; no event before it is later than at_before. An event is never earlier than the acceptance of
-- its job (give or take the clocks), so what happened to a job is looked for from the last span on whose at_before is
-- earlier than that.
create table event_span (span integer primary key, first_seq bigint not null, at_before timestamptz not null);
insert into event_span values (0, 1, '-infinity');

create table reply (
  seq bigint primary key,
  at timestamptz not null,
  in_reply_to uuid,
  tenant text collate "C",
  sealed bytea not null
);
create index reply_tenant on reply (tenant, seq);

create table segment (
  at timestamptz not null,
  job uuid not null,
  attempt integer not null,
  part smallint not null,
  parts smallint not null,
  fate smallint,
  provider text collate "C" not null,
  message_id text collate "C" not null,
  primary key (provider, message_id)
);
create index segment_job on segment (job);

create table parked (
  id bigint generated always as identity,
  at timestamptz not null,
  job uuid,
  report smallint not null,
  detail smallint,
  provider text collate "C" not null,
  message_id text collate "C" not null,
  code text not null
);
create index parked_message on parked (provider, message_id);
create index parked_at on parked (at);

create table suppression (
  tenant text collate "C" not null,
  address uuid not null,
  scope smallint not null,
  word bytea not null,
  -- 0: every kind.
  kind smallint not null,
  source smallint not null,
  at timestamptz not null,
  sealed bytea not null,
  primary key (tenant, address, scope, word, kind, source)
);
-- Opt-outs from every tenant.
create index suppression_global on suppression (address) where scope = 6;

create table rule (
  tenant text collate "C" not null,
  act smallint not null,
  names bytea not null,
  at timestamptz not null,
  detail bytea not null,
  sweeps smallint not null,
  primary key (tenant, act, names)
);
create index rule_at on rule (tenant, at);
create index rule_open on rule (at) where sweeps < 2;

create table count (
  tenant text collate "C" not null,
  hour timestamptz not null,
  kind smallint not null,
  class smallint not null,
  what text collate "C" not null,
  reason text collate "C" not null,
  jobs bigint not null,
  primary key (tenant, hour, kind, class, what, reason)
) with (fillfactor = 50);

create table agenda (
  id uuid primary key,
  due_at timestamptz not null,
  first_due timestamptz not null,
  releasing_since timestamptz,
  jobs bigint not null,
  -- The second it is due in and, in the last byte, 100 less the priority.
  turn bigint not null,
  sender bigint not null,
  class smallint not null,
  sort smallint not null,
  tenant text collate "C" not null,
  pool text collate "C" not null,
  timer_kind text,
  timer_owner text,
  timer_key text,
  payload bytea not null,
  accepted_at timestamptz
) with (
  -- What is released leaves dead entries in front of the ones that wait; the feeder reads from the front.
  autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0
);
alter table agenda alter column payload set storage external;
create unique index agenda_timer on agenda (timer_kind, timer_owner, timer_key) where sort = 3;
-- Read group by group (tenant, lane, sort, sender with a rate of its own): one tenant's million costs another's one
-- nothing.
create index agenda_due on agenda (tenant, class, pool, sort, sender, turn, due_at, id) where releasing_since is null;
create index agenda_releasing on agenda (releasing_since) where releasing_since is not null;
-- Found for a rule: a request's entries have their jobs' acceptance in common.
create index agenda_accepted on agenda (tenant, accepted_at, id) where accepted_at is not null;
create index agenda_first_due on agenda (tenant, class, first_due) where sort <> 3;

-- The agenda's depth as a sum of slots, so that writers do not wait for one another.
create table agenda_sum (slot smallint primary key, entries bigint not null, jobs bigint not null)
  with (fillfactor = 10);
insert into agenda_sum select slot, 0, 0 from generate_series(0, 15) as slot;

create table tenant (
  id text collate "C" primary key,
  name text not null,
  rate text,
  ingress_rate text,
  outstanding_max bigint,
  caps jsonb not null,
  windows jsonb not null,
  created_at timestamptz not null,
  sender_rates jsonb not null,
  time_zone text
);

create table api_key (
  id text collate "C" primary key,
  tenant text collate "C" not null,
  role smallint not null,
  mac bytea not null,
  created_at timestamptz not null,
  revoked_at timestamptz
);
