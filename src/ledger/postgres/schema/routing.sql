-- Providers that are held back; one that is not has no row.
create table provider_hold (provider text collate "C" primary key, hold text not null);
