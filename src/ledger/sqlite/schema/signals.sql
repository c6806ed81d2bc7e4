-- Signals stand among the replies. The platform says each again until it is thanked, and it is kept once; null: a reply.
alter table reply add column signal blob;
create unique index reply_signal on reply (signal) where signal is not null;
