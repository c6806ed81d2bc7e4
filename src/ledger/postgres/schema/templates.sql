-- Templates, in versions; what they say is sealed. A change numbers what was stored or taken out of use last, in the
-- order in which it is committed: whoever changes something holds the row of template_change until then.
create table template (
  tenant text collate "C" not null,
  name text collate "C" not null,
  version bigint not null,
  changed bigint not null,
  stored_at timestamptz not null,
  dropped_at timestamptz,
  sealed bytea not null,
  primary key (tenant, name, version)
);
create unique index template_changed on template (changed);

create table template_change (one boolean primary key default true check (one), last bigint not null);
insert into template_change (last) values (0);
