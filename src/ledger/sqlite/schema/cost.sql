-- What a hand-over cost, as `0.045 CNY`; null where no price is known.
alter table event add column cost text;
