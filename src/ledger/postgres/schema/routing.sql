-- Providers that are held back; one that is not has no row.
create table provider_hold (provider text collate "C" primary key, hold text not null);
-- Which pool carries what of a tenant's jobs.
alter table tenant add column routes jsonb not null default '[]';
