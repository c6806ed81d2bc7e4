-- Settings of tenants without a column of their own, as the program writes them.
alter table tenant add column further jsonb not null default '{}';
