-- Providers that are held back; one that is not has no row.
create table provider_hold (provider text primary key, hold text not null) without rowid;
