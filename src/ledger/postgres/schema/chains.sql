-- How long a job may take to be delivered before the next step of its fallback chain starts, in µs; null: nothing follows.
alter table job add column fallback_after bigint;
