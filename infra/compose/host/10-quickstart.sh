#!/bin/sh
# Lays out the host: the quickstart's tables and data, and the role that Fides reads them with. Run once by the image of
# PostgreSQL, on an empty volume, with the files of examples/quickstart at /quickstart.
set -eu

sql() { psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" "$@"; }

# The schema is written for SQLite; its one PRAGMA is all that PostgreSQL does not know.
grep -v '^PRAGMA ' /quickstart/schema.sql | sql
for table in country timezone city city_name; do
    sql --command "\\copy $table from '/quickstart/$table.tsv' with (format text, header true)"
done
# Statistics: estimates of an import come from them.
sql --command 'ANALYZE'

# Reads and nothing else. REPLICATION is for the log, and for snapshots with an exact position in it (docs/connectors/postgres.md);
# what the log tells of is the owner's to say.
sql --set password="$HOST_READER_PASSWORD" <<'SQL'
CREATE ROLE fides_reader LOGIN REPLICATION PASSWORD :'password';
GRANT SELECT ON ALL TABLES IN SCHEMA public TO fides_reader;
CREATE PUBLICATION fides_cities FOR TABLE city, country, timezone, city_name
    WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true);
SQL
