-- Templates, in versions; what they say is sealed. A change numbers what was stored or taken out of use last.
create table template (
  tenant text not null, name text not null, version integer not null, changed integer not null,
  stored_at integer not null, dropped_at integer, sealed blob not null, primary key (tenant, name, version)
) without rowid;
create unique index template_changed on template (changed);
