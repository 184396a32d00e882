#!/bin/sh
# The role that Fides writes with, in a database of its own. Run once, on an empty volume.
set -eu

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
    --set password="$TARGET_WRITER_PASSWORD" --set database="$POSTGRES_DB" <<'SQL'
CREATE ROLE fides_writer LOGIN PASSWORD :'password';
GRANT TEMPORARY ON DATABASE :"database" TO fides_writer;
-- `create: true` makes the target's table and the lanes' tokens.
GRANT USAGE, CREATE ON SCHEMA public TO fides_writer;
SQL
