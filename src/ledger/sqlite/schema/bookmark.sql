-- How far readers of the events have come: what each has done with is not done again after a restart.
create table bookmark (reader text primary key, seq integer not null) without rowid;
