-- From when on a key is refused; null: it holds until it is revoked.
alter table api_key add column expires_at timestamptz;
