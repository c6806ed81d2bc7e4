-- An index by address has each new job on a page of its own, and each page is written whole: they were more than half of
-- what was written. In 64 parts by the address's first six bits, each in the order of time, new rows share a few pages;
-- whoever looks for an address reads its part, newest first.
drop index job_address;
alter table job add column address_part integer generated always as (
  (instr('0123456789ABCDEF', substr(hex(address), 1, 1)) - 1) * 4
  + (instr('0123456789ABCDEF', substr(hex(address), 2, 1)) - 1) / 4
) virtual;
create index job_address_part on job (address_part, accepted_at, address);
drop index job_recipient;
alter table job add column recipient_part integer generated always as (
  (instr('0123456789ABCDEF', substr(hex(recipient), 1, 1)) - 1) * 4
  + (instr('0123456789ABCDEF', substr(hex(recipient), 2, 1)) - 1) / 4
) virtual;
create index job_recipient_part on job (recipient_part, accepted_at, recipient) where recipient is not null;
